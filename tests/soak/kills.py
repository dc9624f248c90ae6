"""Batches that are killed at random, and whose disk is full at random.

What they leave is read by this module, which shares no code with the batch's own store.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_nscale.testing import NscaleServer

ATTEMPTS = 60  # of a batch; each gets further
KILLS = 8  # of a batch, before it may end


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
        command = [sys.executable, "-m", "langchain_nscale", "batch", "in.jsonl"]
        command += ["out.jsonl", "--concurrency", "32", "--progress", "none"]
        # A small wrapper sets the limit: the test itself must go on writing.
        wrapper = (
            "import os, resource, sys; "
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", wrapper, *command],
            cwd=folder,
            env={**os.environ, "NSCALE_BASE_URL": url, "NSCALE_SERVICE_TOKEN": token},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
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
    left = {file.name for file in folder.iterdir()} - {"in.jsonl", "out.jsonl"}
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
