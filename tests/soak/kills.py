"""Batches that are killed at random, and whose disk is full at random.

What they leave is read by this module, which shares no code with the batch's own store.
`python -m tests.soak.kills` is one batch of 100,000 lines.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langchain_nscale.testing import NscaleServer, ServerReply

ATTEMPTS = 60  # of a batch; each gets further
KILLS = 8  # of a batch, before it may end
CONCURRENCY = 32


def start(folder: Path, url: str, token: str, limit: int) -> subprocess.Popen[bytes]:
    """Start a batch whose files can't grow beyond a limit of bytes."""
    command = [sys.executable, "-m", "langchain_nscale", "batch", "in.jsonl"]
    command += ["out.jsonl", "--concurrency", str(CONCURRENCY), "--progress", "none"]
    # A small wrapper sets the limit: the test itself must go on writing.
    wrapper = (
        "import os, resource, sys; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", wrapper, *command],
        cwd=folder,
        env={**os.environ, "NSCALE_BASE_URL": url, "NSCALE_SERVICE_TOKEN": token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def run_batch(folder: Path, dice: random.Random, url: str, token: str) -> tuple[int, int]:
    """Run a batch to its end; return how often it was killed and out of disk."""
    killed = full = 0
    for _ in range(ATTEMPTS):
        limit = resource.RLIM_INFINITY
        is_last = killed + full >= KILLS
        is_full = not is_last and dice.random() < 0.3
        if is_full:
            written = sum(file.stat().st_size for file in folder.glob("out*"))
            limit = max(written // 2, 1) + dice.randrange(1, 200_000)
        process = start(folder, url, token, limit)
        try:
            status = process.wait(None if is_last else dice.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            process.send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM]))
            process.wait()
            killed += 1
            continue
        if status == 0:
            return killed, full
        full += 1
    msg = "the batch does not come to an end"
    raise RuntimeError(msg)


def problems(folder: Path, lines: int) -> list[str]:
    """Return what is wrong with the results of a batch."""
    found = []
    results = (folder / "out.jsonl").read_text(encoding="utf-8").split("\n")
    if results.pop():
        found.append("the last line has no end")
    if len(results) != lines:
        found.append(f"{len(results)} results instead of {lines}")
    for number, text in enumerate(results, 1):
        result = json.loads(text)
        if (result["line"], result["content"]) != (number, f"You said: Number {number}."):
            found.append(f"line {number}: {text[:200]}")
    kept = {"in.jsonl", "out.jsonl", "out.jsonl.db"}
    left = {file.name for file in folder.iterdir()} - kept
    found += [f"{name} is left" for name in left if (folder / name).stat().st_size]
    return found


def report(batches: int, lines: int, seed: int) -> bool:
    """Run the batches; print and return whether anything was lost."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    killed = full = 0
    wrong: list[str] = []
    with NscaleServer() as server:
        for batch in range(batches):
            with TemporaryDirectory() as name:
                folder = Path(name)
                prompts = (f'"Number {number}."\n' for number in range(1, lines + 1))
                (folder / "in.jsonl").write_text("".join(prompts))
                kills, fulls = run_batch(folder, dice, server.base_url, server.token)
                killed, full = killed + kills, full + fulls
                wrong += [f"batch {batch}: {what}" for what in problems(folder, lines)]
            server.reset()
    print(
        f"{batches} batches of {lines} lines, killed {killed} times, out of disk {full} "
        f"times: {len(wrong)} wrong"
    )
    for what in wrong[:10]:
        print(what)
    return bool(wrong)


# --- one long batch ---------------------------------------------------------------------


class Counting:
    """Answers each line, counts how often it was paid for, and kills at given counts."""

    def __init__(self) -> None:
        self.paid: Counter[str] = Counter()
        self.total = 0
        self.kill_at = sys.maxsize
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def __call__(self, body: Mapping[str, Any]) -> ServerReply:
        text = body["messages"][-1]["content"]
        with self.lock:
            self.paid[text] += 1
            self.total += 1
            if self.total >= self.kill_at and self.process is not None:
                self.process.kill()
                self.process = None
        return ServerReply(text=f"You said: {text}")


def long_batch(folder: Path, lines: int, kills: int, fulls: int, seed: int) -> list[str]:
    """Stop a batch at random places until it is complete; return what is wrong."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    places = sorted(dice.sample(range(lines // 50, lines * 49 // 50), kills + fulls))
    full = set(dice.sample(places, fulls))
    counting = Counting()
    peak = disk = 0
    stops: Counter[str] = Counter()
    began = time.monotonic()
    with NscaleServer(responder=counting) as server:
        for place in (*places, sys.maxsize):
            written = folder.joinpath("out.jsonl")
            size = written.stat().st_size if written.exists() else 0
            limit = resource.RLIM_INFINITY
            counting.kill_at = sys.maxsize
            if place in full:
                done = max(counting.total, 1)
                limit = size + max(place - done, 50) * max(size // done, 200)
            else:
                counting.kill_at = place
            process = start(folder, server.base_url, server.token, limit)
            counting.process = process
            assert process.stderr is not None
            said = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            peak = max(peak, usage.ru_maxrss)
            disk = max(disk, sum(file.stat().st_size for file in folder.glob("out*")))
            code = os.waitstatus_to_exitcode(status)
            stops["killed" if code < 0 else "full" if code else "complete"] += 1
            print(f"{counting.total} requests, status {code}: {said[-80:]!r}", flush=True)
            server.requests.clear()
            process.returncode = code
    wrong = problems(folder, lines)
    again = counting.total - lines
    if again > (kills + fulls) * CONCURRENCY:
        wrong.append(f"{again} requests too many")
    if stops != {"killed": kills, "full": fulls, "complete": 1}:
        wrong.append(f"stopped otherwise: {dict(stops)}")
    ratio = disk / (folder / "out.jsonl").stat().st_size
    print(
        f"{lines} lines, {dict(stops)}, {again} requests again, {peak // 1024} MiB of "
        f"memory, {ratio:.2f} of the results on disk, {time.monotonic() - began:.0f} s"
    )
    return wrong


def main() -> None:
    """Run a long batch; the exit code is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--fulls", type=int, default=5)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        prompts = (f'"Number {number}."\n' for number in range(1, options.lines + 1))
        (folder / "in.jsonl").write_text("".join(prompts))
        wrong = long_batch(folder, **vars(options))
    print(f"seed {options.seed}: {len(wrong)} wrong", *wrong[:10], sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
