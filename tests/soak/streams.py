"""Many paced streams at once over TLS, ChatNscale next to ChatOpenAI.

Each client runs in a process of its own against a server of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from importlib import import_module
from itertools import count
from typing import Any

from tests.loopback import CERTIFICATE, running
from tests.soak.server import TOKENS, answer_to
from tests.soak.soak import open_files

CLIENTS = {
    "ChatNscale": "langchain_nscale",
    "ChatOpenAI": "langchain_openai",
}
LOADS = ("1000 streams", "5000 streams", "200 threads")


@dataclass
class Figures:
    """What one client did under one load."""

    streams: int = 0
    wrong: int = 0
    """Answers that are not exactly those to their questions."""
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    """Peak, in MiB."""
    files: int = 0
    """Peak."""
    fastest: float = 1e9
    slowest: float = 0.0
    """Of a stream, in seconds, from the call to its end."""

    def add(self, question: str, text: str, seconds: float) -> None:
        """Count a stream that has ended."""
        self.streams += 1
        self.wrong += text != answer_to(question)
        self.fastest = min(self.fastest, seconds)
        self.slowest = max(self.slowest, seconds)

    def add_failure(self, error: Exception) -> None:
        """Count a stream that has failed."""
        self.failed.append(f"{type(error).__name__}: {error}"[:200])


async def read_streams(model: Any, at_once: int, until: float, seen: Figures) -> None:
    """Keep streams running until a point in time; those that run then are completed."""
    numbers = count()

    async def reader() -> None:
        while time.monotonic() < until:
            question, started, text = f"call-{next(numbers)}", time.monotonic(), ""
            try:
                async for chunk in model.astream(question):
                    text += chunk.text
            except Exception as error:  # noqa: BLE001  # whatever a client raises
                seen.add_failure(error)
            else:
                seen.add(question, text, time.monotonic() - started)

    async def watch() -> None:
        while True:
            seen.files = max(seen.files, open_files())
            await asyncio.sleep(1)

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*[reader() for _ in range(at_once)])
    watching.cancel()


def read_in_threads(model: Any, at_once: int, until: float, seen: Figures) -> None:
    """Do the same with sync streams, each in a thread."""
    numbers = count()
    lock = threading.Lock()

    def reader() -> None:
        while time.monotonic() < until:
            question, started = f"call-{next(numbers)}", time.monotonic()
            try:
                text = "".join(chunk.text for chunk in model.stream(question))
            except Exception as error:  # noqa: BLE001  # whatever a client raises
                with lock:
                    seen.add_failure(error)
            else:
                with lock:
                    seen.add(question, text, time.monotonic() - started)

    threads = [threading.Thread(target=reader) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    seen.files = open_files()
    for thread in threads:
        thread.join()


def work(name: str, load: str, seconds: float, url: str) -> Figures:
    """Put one client under one load, in this process."""
    cls = getattr(import_module(CLIENTS[name]), name)
    model = cls(model="m", api_key="t", base_url=url, max_retries=0, timeout=120)
    number, _, kind = load.partition(" ")
    seen = Figures()
    cpu, started = time.process_time(), time.monotonic()
    if kind == "threads":
        read_in_threads(model, int(number), started + seconds, seen)
    else:
        asyncio.run(read_streams(model, int(number), started + seconds, seen))
    seen.seconds = time.monotonic() - started
    seen.cpu = time.process_time() - cpu
    seen.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seen


def measure(name: str, load: str, seconds: float) -> Figures:
    """Put one client under one load, with processes for it and its server."""
    environment = {**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)}
    with running("tests.soak.server", tls=True) as url:
        work = [sys.executable, "-m", "tests.soak.streams", name, load, str(seconds), url]
        output = subprocess.check_output(
            work, env=environment, timeout=4 * seconds + 300, text=True
        )
    return Figures(**json.loads(output))


def report(seconds: float, loads: tuple[str, ...] = LOADS) -> bool:
    """Print a table; return whether ChatNscale lost or mixed up anything."""
    columns = [
        "load",
        "client",
        "streams",
        "tokens/s",
        "µs CPU per token",
        "MiB",
        "files",
    ]
    columns += ["fastest s", "slowest s", "failed", "wrong"]
    print("| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")
    bad = False
    for load in loads:
        for name in CLIENTS:
            seen = measure(name, load, seconds)
            tokens = max(seen.streams * TOKENS, 1)
            cells = [load, name, seen.streams, f"{tokens / seen.seconds:.0f}"]
            cells += [f"{seen.cpu / tokens * 1e6:.0f}", f"{seen.memory:.0f}", seen.files]
            cells += [f"{seen.fastest:.1f}", f"{seen.slowest:.1f}", len(seen.failed)]
            print("| " + " | ".join(map(str, [*cells, seen.wrong])) + " |", flush=True)
            for failure in seen.failed[:3]:
                print(f"{name}: {failure}")
            if name == "ChatNscale":
                bad = bad or bool(seen.failed or seen.wrong)
    return bad


if __name__ == "__main__":
    figures = work(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
    sys.stdout.write(json.dumps(asdict(figures)))
