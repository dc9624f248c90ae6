"""Seconds from the start of a program until it shows the first token.

The command line beside a script that does nothing but import `ChatNscale` and stream, in
a terminal and in a pipe, alternating; medians.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from statistics import median

from langchain_nscale.testing import NscaleServer

SCRIPT = """
from langchain_nscale import ChatNscale
for chunk in ChatNscale(model="meta-llama/Llama-3.1-8B-Instruct").stream("Hi"):
    print(chunk.text, end="", flush=True)
"""
PROGRAMS = {
    "script": [sys.executable, "-c", SCRIPT],
    "command": [sys.executable, "-m", "langchain_nscale", "chat", "Hi"],
}


def first_token(command: list[str], *, terminal: bool) -> float:
    """Seconds until a program shows the beginning of the answer."""
    reading, writing = pty.openpty() if terminal else os.pipe()
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.DEVNULL
    ) as process:
        os.close(writing)
        shown = b""
        while b"You" not in shown:
            shown += os.read(reading, 65536)
        taken = time.perf_counter() - start
        process.kill()
    os.close(reading)
    return taken


def main(rounds: int = 11) -> None:
    """Measure and print."""
    with NscaleServer() as server:
        os.environ["NSCALE_BASE_URL"] = server.base_url
        os.environ["NSCALE_SERVICE_TOKEN"] = server.token
        for terminal in (False, True):
            seen: dict[str, list[float]] = {name: [] for name in PROGRAMS}
            for _ in range(rounds):
                for name, command in PROGRAMS.items():
                    seen[name].append(first_token(command, terminal=terminal))
            script, command_line = (median(seen[name]) for name in PROGRAMS)
            where = "terminal" if terminal else "pipe"
            print(
                f"first token, {where}: script {script:.3f} s, command "
                f"{command_line:.3f} s, {command_line / script:.2f} (at most 1.15)"
            )


if __name__ == "__main__":
    main()
