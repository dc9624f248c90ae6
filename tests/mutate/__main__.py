"""`make mutate`: does a test fail for each small change of the code?

Runs the tests once to learn which of them execute which line, and then, for each mutant
of a sample, those that execute its lines. An interrupted run continues where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from coverage import CoverageData

from tests.mutate import plugin
from tests.mutate.mutants import PACKAGE, Mutant, all_mutants

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".mutate"
EQUIVALENT = Path(__file__).with_name("equivalent.json")
LEAST = 0.92
LONGEST = 120.0  # seconds of unit tests for each mutant, and of the others, as recorded
# Tests of other parts, and those that run the package in processes of their own.
ELSEWHERE = (
    *("batch", "batch_faults", "cli", "cli_options", "comparison", "demo", "display"),
    *("editors", "exit", "fixtures", "live", "notebooks", "pages", "scale", "server"),
    *("soak", "web_chat"),
)
IGNORED = [f"--ignore=tests/integration/test_{name}.py" for name in ELSEWHERE]


def files() -> list[str]:
    """Return the files of the working tree that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    output = subprocess.check_output(command, cwd=ROOT, text=True)
    return sorted(name for name in output.splitlines() if (ROOT / name).is_file())


def fingerprint(names: Iterable[str]) -> str:
    """Return what results depend on: the contents of the package and the tests."""
    digest = hashlib.sha256()
    for name in names:
        if name.startswith((PACKAGE, "tests/unit", "tests/integration")):
            digest.update(name.encode() + (ROOT / name).read_bytes())
    return digest.hexdigest()[:16]


class Copy:
    """A copy of the working tree, in which one module at a time is changed."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)

    def run(
        self, *arguments: str, environment: dict[str, str], limit: float | None = None
    ) -> int | None:
        """Run pytest; return its exit status, or None if the time limit ended it."""
        variables = {
            **os.environ,
            **environment,
            "PYTHONPATH": str(self._folder),
            "COVERAGE_FILE": str(STATE / "coverage"),
        }
        with (STATE / f"{self._folder.name}.log").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments, "-q", "-p", plugin.__name__],
                cwd=self._folder,
                env=variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                return None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def killer_of(self, mutant: Mutant, tests: Sequence[str], limit: float) -> str | None:
        """Return the first of the tests that fails with a mutant."""
        original = (self._folder / mutant.file).read_bytes()
        self._write(mutant.file, mutant.source)
        try:
            while tests:
                failed = self._failing(tests, limit)
                # Not every test of connections passes on every busy machine.
                if (
                    not failed
                    or failed not in tests
                    or failed.startswith("tests/unit")
                    or self._failing([failed], limit)
                ):
                    return failed
                tests = tests[tests.index(failed) + 1 :]
            return None
        finally:
            self._write(mutant.file, original)

    def _write(self, name: str, source: bytes) -> None:
        path = self._folder / name
        path.write_bytes(source)
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def _failing(self, tests: Sequence[str], limit: float) -> str | None:
        select, failed = self._folder / ".select", self._folder / ".failed"
        select.write_text(json.dumps(tests))
        failed.write_text("")
        status = self.run(
            *("-m", "pytest", "--exitfirst", "--timeout=30", "-p", "no:cacheprovider"),
            *dict.fromkeys(name.partition("::")[0] for name in tests),
            limit=limit,
            environment={plugin.SELECT: str(select), plugin.FAILED: str(failed)},
        )
        if status == 0:
            return None
        return failed.read_text() or ("time limit" if status is None else "import")


def record(copy: Copy) -> None:
    """Learn how long each test takes, and which lines it executes."""
    print("Recording which tests execute which lines …", flush=True)
    copy.run(
        *("-m", "coverage", "run", "-m", "pytest", "--numprocesses=auto"),
        *("tests/unit", "tests/integration", *IGNORED),
        environment={plugin.RECORD: str(STATE / "reports.jsonl")},
    )
    combine = [sys.executable, "-m", "coverage", "combine", "--quiet"]
    variables = {**os.environ, "COVERAGE_FILE": str(STATE / "coverage")}
    subprocess.run(combine, env=variables, check=True)


class Recorded:
    """What the recording says."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        failed = set()
        for line in (STATE / "reports.jsonl").read_text().splitlines():
            name, _, outcome, seconds = json.loads(line)
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            if outcome != "passed":
                failed.add(name)
        for name in failed:
            del self.seconds[name]
        self._data = CoverageData(str(STATE / "coverage"))
        self._data.read()
        print(f"{len(self.seconds)} tests, {len(failed)} not used: {sorted(failed)[:5]}")

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that execute a mutant: unit tests first, fast ones first."""
        contexts = self._contexts(mutant.file)
        # What runs on import runs for every test.
        lines = mutant.lines if mutant.function else contexts
        names = {name for line in lines for name in contexts.get(line, ())}
        names &= self.seconds.keys()
        unit = {name for name in names if name.startswith("tests/unit")}
        return [*self._fastest(unit), *self._fastest(names - unit)]

    def _fastest(self, names: set[str]) -> list[str]:
        ordered = sorted(names, key=self.seconds.__getitem__)
        ends = accumulate(self.seconds[name] for name in ordered)
        return [name for name, end in zip(ordered, ends, strict=True) if end <= LONGEST]

    @lru_cache  # noqa: B019  # there is one
    def _contexts(self, name: str) -> dict[int, list[str]]:
        (path,) = (path for path in self._data.measured_files() if path.endswith(name))
        return self._data.contexts_by_lineno(path)


def equivalents() -> dict[tuple[str, ...], str]:
    """Return the mutants that change no behavior, with the reasons."""
    fields = ("file", "function", "original", "mutated")
    rows = json.loads(EQUIVALENT.read_text())
    return {tuple(row[field] for field in fields): row["reason"] for row in rows}


def results_of(tree: str) -> dict[tuple[str, ...], Any]:
    """Return the results of an interrupted run; forget those of other code."""
    if (STATE / "tree").exists() and (STATE / "tree").read_text() == tree:
        lines = (STATE / "results.jsonl").read_text().splitlines()
        return {tuple(key): by for key, by in map(json.loads, lines)}
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    (STATE / ".gitignore").write_text("*")
    return {}


def main() -> None:
    """Run and print; the exit code is 1 if too many mutants survive."""
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("--number", type=int, default=120)
    parser.add_argument("--seed", type=int, default=25)
    parser.add_argument("--only", default="", help="part of the mutants' description")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    options = parser.parse_args()

    known = equivalents()
    mutants = {mutant.key: mutant for mutant in all_mutants(ROOT)}
    outdated = known.keys() - mutants.keys()
    sample = sorted(
        (
            mutant
            for key, mutant in mutants.items()
            if key not in known and options.only in " ".join(key)
        ),
        key=lambda mutant: mutant.rank(options.seed),
    )[: options.number]

    names = files()
    tree = fingerprint(names)
    results = results_of(tree)
    with tempfile.TemporaryDirectory() as folder:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(options.at_once):
            copies.put(Copy(Path(folder, str(number)), names))
        if not (STATE / "tree").exists():
            copy = copies.get()
            record(copy)
            copies.put(copy)
            (STATE / "results.jsonl").touch()
            (STATE / "tree").write_text(tree)
        recorded = Recorded()

        def judge(mutant: Mutant) -> None:
            tests = recorded.tests_of(mutant)
            limit = 120 + 4 * sum(recorded.seconds[name] for name in tests)
            copy, started = copies.get(), time.monotonic()
            try:
                by = copy.killer_of(mutant, tests, limit)
            finally:
                copies.put(copy)
            results[mutant.key] = by
            with (STATE / "results.jsonl").open("a") as file:
                file.write(json.dumps([mutant.key, by]) + "\n")
            verdict = f"killed by {by}" if by else f"SURVIVED {len(tests)} tests"
            print(f"{time.monotonic() - started:.0f} s, {verdict}\n{describe(mutant)}")

        with ThreadPoolExecutor(options.at_once) as pool:
            list(pool.map(judge, [each for each in sample if each.key not in results]))

    alive = [mutant for mutant in sample if not results[mutant.key]]
    print(f"\n{len(sample)} mutants, {len(alive)} survived, {len(known)} are equivalent")
    for mutant in alive:
        print(describe(mutant))
    for key in outdated:
        print("equivalent.json: not a mutant any more:", key)
    sys.exit(len(alive) > (1 - LEAST) * len(sample) or bool(outdated))


def describe(mutant: Mutant) -> str:
    """Return a mutant in two lines."""
    where = f"{mutant.file}:{mutant.lines[0]} {mutant.function}"
    return f"  {where}\n    {mutant.original}\n    {mutant.mutated}"


if __name__ == "__main__":
    main()
