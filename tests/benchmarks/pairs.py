"""`make bench BASE=<commit>`: CPU time of the working tree beside that of a commit.

Each pair is two fresh processes, one for each version, that do the same rows in turns,
batch by batch, so that whatever else the machine does slows both. The figures are the
ratios of the pairs: their median and an interval that holds the true median at 95 %.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import comb, isnan
from pathlib import Path
from statistics import median
from typing import Any

from tests.loopback import CERTIFICATE, running

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("side.py").read_text(encoding="utf-8")
# callgrind runs one thread at a time, counts no memory, and is too slow for the others.
NOT_COUNTED = re.compile(r"threads|first|start|paced|KiB|at once")


class Version:
    """A process that measures one version of the package."""

    def __init__(
        self, tree: Path, urls: list[str], seed: int, *, counted: bool = False
    ) -> None:
        """Start it.

        Args:
            tree: The folder of the version.
            urls: `base_url` of the server, and of the one with TLS.
            seed: The order of sets and dicts of strings, the same in both processes.
            counted: Whether to count instructions with callgrind.
        """
        self._out = Path(tempfile.mkdtemp()) / "callgrind"
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self._out}"]
        python = [sys.executable, "-c", PROGRAM, *urls]
        self._process = subprocess.Popen(
            [*tool, *python] if counted else python,
            cwd=tree,
            env={
                **os.environ,
                "PYTHONPATH": str(tree),
                "PYTHONHASHSEED": str(seed),
                "SSL_CERT_FILE": str(CERTIFICATE),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if counted else None,
            text=True,
        )
        self.rows: list[str] = json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("A process that measures has failed; see above.")
        return line

    def seconds(self, row: str) -> float:
        """Run one batch of a row; return the CPU seconds of a unit."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{row}\n")
        self._process.stdin.flush()
        return float(self._line())

    def instructions(self, row: str) -> int:
        """Run a row to warm it up, and again; return the instructions of that batch."""
        self.seconds(row)
        self._control("--zero")
        self.seconds(row)
        self._control("--dump")
        (dump,) = self._out.parent.glob("callgrind.*")
        total = instructions_in(dump)
        dump.unlink()
        return total

    def _control(self, option: str) -> None:
        command = ["callgrind_control", option, str(self._process.pid)]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._out.parent)


def instructions_in(dump: Path) -> int:
    totals = re.findall(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    return int(totals[-1])


def instructions_of_import(tree: Path) -> int:
    """Return the instructions of an interpreter that imports the chat model."""
    with tempfile.NamedTemporaryFile() as out:
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}"]
        line = "import sys; sys.modules.update(aiohttp=None, httpx_aiohttp=None)\n"
        line += "from langchain_nscale import ChatNscale"
        subprocess.run(
            [*tool, sys.executable, "-c", line],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"},
            check=True,
            capture_output=True,
        )
        return instructions_in(Path(out.name))


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "base"
        git = ["git", "-C", str(ROOT), "worktree"]
        add = [*git, "add", "--quiet", "--detach", str(tree), commit]
        subprocess.run(add, check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


@contextmanager
def pair(
    trees: list[Path], urls: list[str], number: int, *, counted: bool = False
) -> Iterator[list[Version]]:
    """Yield a process for each tree; which one starts first alternates."""
    with ExitStack() as stack:
        started: dict[int, Version] = {}
        for side in ((0, 1), (1, 0))[number % 2]:
            started[side] = Version(trees[side], urls, number, counted=counted)
            stack.callback(started[side].close)
        yield [started[0], started[1]]


def measure(
    trees: list[Path],
    urls: list[str],
    pairs: int,
    batches: int,
    wanted: re.Pattern[str],
) -> dict[str, list[tuple[float, float]]]:
    """Return the CPU seconds of base and working tree in each pair, by row."""
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in range(pairs):
        with pair(trees, urls, number) as sides:
            for row in filter(wanted.search, sides[1].rows):
                times: tuple[list[float], list[float]] = ([], [])
                for batch in range(1 + batches if "1,000" not in row else 1):
                    for side in ((0, 1), (1, 0))[(batch + number) % 2]:
                        seconds = sides[side].seconds(row)
                        if batch or "import" in row or "start" in row or "1,000" in row:
                            times[side].append(seconds)
                ends = (median(times[0]), median(times[1]))
                if not any(map(isnan, ends)):
                    seen[row].append(ends)
        print(f"pair {number + 1} of {pairs}", file=sys.stderr, flush=True)
    return seen


def interval(values: list[float]) -> tuple[float, float]:
    """Return the interval that holds the median of the population at 95 %.

    It ends at two of the values, whatever their distribution: the number of values below
    the median is binomial.
    """
    values, count = sorted(values), len(values)
    below, outside = 0, 0.0
    while 2 * (outside + comb(count, below) / 2**count) < 0.05:
        outside += comb(count, below) / 2**count
        below += 1
    below = max(below - 1, 0)
    return values[below], values[count - 1 - below]


def shown(row: str, seconds: float) -> str:
    if "(KiB)" in row:
        return f"{seconds:.0f}"
    return f"{seconds * 1e6:.1f} µs" if seconds < 0.01 else f"{seconds * 1e3:.1f} ms"


def table(seen: dict[str, list[tuple[float, float]]], counts: dict[str, float]) -> str:
    """Return a Markdown table."""
    columns = ["row", "base", "now", "now ÷ base", "interval (95 %)"]
    columns += ["instructions"] if counts else []
    rows = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row, times in seen.items():
        ratios = [now / base for base, now in times]
        low, high = interval(ratios)
        cells = [row, *(shown(row, median(side)) for side in zip(*times, strict=True))]
        cells += [f"{median(ratios):.3f}", f"{low:.3f} to {high:.3f}"]
        if counts:
            cells.append(f"{counts[row]:.3f}" if row in counts else "-")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def count(
    trees: list[Path], urls: list[str], wanted: re.Pattern[str]
) -> dict[str, float]:
    """Return the ratio of instructions by row."""
    counts: dict[str, float] = {}
    with pair(trees, urls, 0, counted=True) as (base, now):
        for row in filter(wanted.search, now.rows):
            if row == "import":
                ours, theirs = (instructions_of_import(tree) for tree in reversed(trees))
            elif not NOT_COUNTED.search(row):
                ours, theirs = now.instructions(row), base.instructions(row)
            else:
                continue
            counts[row] = ours / theirs
            print(f"instructions of {row}: {counts[row]:.3f}", file=sys.stderr)
    return counts


def compare(
    commit: str, pairs: int, batches: int, rows: str = "", *, instructions: bool = False
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, float]]:
    """Return the CPU seconds of a commit and of the working tree, and instructions."""
    wanted = re.compile(rows)
    with checked_out(commit) as base:
        trees = [base, ROOT]
        for tree in trees:  # as pip does
            compileall.compile_dir(tree / "langchain_nscale", quiet=1)
        with ExitStack() as stack:
            urls = [
                stack.enter_context(running("tests.benchmarks.server", tls=tls))
                for tls in (False, True)
            ]
            seen = measure(trees, urls, pairs, batches, wanted)
            counts = count(trees, urls, wanted) if instructions else {}
    return seen, counts


def main() -> None:
    """Measure, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--pairs", type=int, default=15)
    help_ = "of each row in each process, after one that warms it up"
    parser.add_argument("--batches", type=int, default=3, help=help_)
    parser.add_argument("--rows", default="", help="a regular expression of their names")
    parser.add_argument(
        "--instructions", action="store_true", help="count them, too (needs valgrind)"
    )
    parser.add_argument("--json", type=Path, default=Path("bench-pairs.json"))
    options = parser.parse_args()
    if options.instructions and not shutil.which("callgrind_control"):
        parser.error("--instructions needs valgrind.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes the base's folder
    seen, counts = compare(
        options.base,
        options.pairs,
        options.batches,
        options.rows,
        instructions=options.instructions,
    )
    print(table(seen, counts))
    result: dict[str, Any] = {"base": options.base, "pairs": seen, "counts": counts}
    options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
