"""Measures one version of the package, row by row, for `pairs.py`.

Runs as `python -c` in the folder of that version, so it imports nothing of `tests` and
only the public names of the package. Each line of standard input is the name of a row;
the answer is a line with the CPU seconds of one unit.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TOKENS = 2000
PACED = 20  # tokens of each paced stream
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1784187753,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hello there"},
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
}
# langsmith imports aiohttp if it is there, as it is here for other clients.
CLEAN = "import sys; sys.modules.update(aiohttp=None, httpx_aiohttp=None)\n"
IMPORT = """
import time; start = time.process_time()
from langchain_nscale import ChatNscale
print(time.process_time() - start)
"""


FIRST = """
import sys, time
from langchain_nscale import ChatNscale
model = ChatNscale(model="text-9", service_token="t", base_url=sys.argv[1])
start = time.process_time()
for _ in model.stream("Hi"): pass
print(time.process_time() - start)
"""


def fresh(program: str, *arguments: str) -> float:
    """Return the CPU seconds that a program measures in an interpreter of its own."""
    command = [sys.executable, "-c", CLEAN + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def resident() -> int:
    """Return the bytes that this process has in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def history() -> list[tuple[str, str]]:
    return [("human" if i % 2 == 0 else "ai", "x" * 250) for i in range(100)]


def twenty_tools() -> list[Any]:
    from langchain_core.tools import StructuredTool

    def look(place: str, days: int = 1, unit: str = "celsius") -> str:
        """Look up the weather."""
        return f"{place} {days} {unit}"

    return [
        StructuredTool.from_function(look, name=f"look_{number}") for number in range(20)
    ]


class Side:
    """The rows: each runs some units of work and returns the CPU seconds of one."""

    def __init__(self, url: str, tls_url: str) -> None:
        import httpx2

        import langchain_nscale

        if not Path(str(langchain_nscale.__file__)).is_relative_to(Path.cwd()):
            sys.exit(f"{langchain_nscale.__file__} is not the version to measure.")
        self.chat = langchain_nscale.ChatNscale
        self.url = url
        self.tls_url = tls_url
        self.loop = asyncio.new_event_loop()
        # Without a network: what the package itself and langchain-core do.
        reply = httpx2.MockTransport(lambda _: httpx2.Response(200, json=REPLY))
        self.offline = self.make(http_client=httpx2.Client(transport=reply))
        self.models = {kind: self.make(kind) for kind in ("text-9", f"text-{TOKENS}")}
        self.segments = self.make("text-400-seg")
        self.tools = twenty_tools()
        self.history = history()
        self.rows: dict[str, Callable[[], float]] = {
            "import": lambda: fresh(IMPORT),
            "first stream after the import": lambda: fresh(FIRST, url),
            "start of batch": self.batch_start,
            "construction": lambda: self.sync(500, self.make),
            "invoke": lambda: self.sync(100, lambda: self.invoke(self.models["text-9"])),
            "invoke, no network": lambda: self.sync(
                200, lambda: self.invoke(self.offline)
            ),
            "100 messages, no network": lambda: self.sync(
                20, lambda: self.offline.invoke(self.history)
            ),
            "bind_tools of 20": lambda: self.sync(
                20, lambda: self.offline.bind_tools(self.tools)
            ),
            "64 threads": lambda: self.threads(300),
            "stream, a token": lambda: self.stream(f"text-{TOKENS}", 2 * TOKENS),
            "stream, a token alone": lambda: self.stream("text-400-seg", 400),
            "ainvoke": lambda: self.run(100, self.one_by_one(100)),
            "ainvoke, 200 at once": lambda: self.run(200, self.at_once(200)),
            "astream, a token": lambda: self.run(
                2 * TOKENS, self.astream(f"text-{TOKENS}", 2)
            ),
            "astream, a token alone": lambda: self.run(
                400, self.astream("text-400-seg", 1)
            ),
            "TLS, ainvoke": lambda: self.run(60, self.one_by_one(60, self.tls())),
            "TLS, streams in a row": lambda: self.run(20, self.in_a_row(20)),
            **{
                f"{label}{count:,} paced streams, a token": partial(
                    self.paced, count, address
                )
                for count in (100, 1000)
                for label, address in (("", url), ("TLS, ", tls_url))
            },
            **{
                f"{label}an open stream of 1,000 (KiB)": partial(self.memory, address)
                for label, address in (("", url), ("TLS, ", tls_url))
            },
        }

    def batch_start(self) -> float:
        """Return the CPU seconds of a process that sends one line of a batch."""
        with TemporaryDirectory() as folder:
            lines = Path(folder) / "in.jsonl"
            lines.write_text('{"prompt": "Hi"}\n')
            command = [sys.executable, "-m", "langchain_nscale", "batch", str(lines)]
            command += [f"{folder}/out.jsonl", "-m", "text-9", "-t", "t"]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [*command, "--base-url", self.url], check=False, capture_output=True
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:  # cad9ec6 needs portalocker
            sys.stderr.write(done.stderr.decode().splitlines()[-1] + "\n")
            return float("nan")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def make(self, kind: str = "text-9", **settings: Any) -> Any:
        defaults = {"service_token": "t", "base_url": self.url, "max_retries": 0}
        return self.chat(**{**defaults, "model": kind, **settings})

    @staticmethod
    def invoke(model: Any) -> Any:
        return model.invoke([("human", "Hi")])

    @staticmethod
    def sync(count: int, work: Callable[[], Any]) -> float:
        gc.collect()
        start = time.process_time()
        for _ in range(count):
            work()
        return (time.process_time() - start) / count

    def run(self, count: int, work: Awaitable[Any]) -> float:
        gc.collect()
        start = time.process_time()
        self.loop.run_until_complete(work)
        return (time.process_time() - start) / count

    def threads(self, count: int) -> float:
        gc.collect()
        start = time.process_time()
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(self.invoke, [self.models["text-9"]] * count))
        return (time.process_time() - start) / count

    def stream(self, kind: str, tokens: int) -> float:
        model = self.models.setdefault(kind, self.segments)
        times = tokens // int(kind.split("-")[1])
        gc.collect()
        start = time.process_time()
        for _ in range(times):
            for _ in model.stream([("human", "Hi")]):
                pass
        return (time.process_time() - start) / tokens

    def tls(self, kind: str = "text-9") -> Any:
        return self.make(kind, base_url=self.tls_url)

    async def one_by_one(self, count: int, model: Any = None) -> None:
        model = model or self.models["text-9"]
        for _ in range(count):
            await model.ainvoke([("human", "Hi")])

    async def in_a_row(self, count: int) -> None:
        """Read streams one after the other: do they need a handshake each?"""
        model = self.tls()
        for _ in range(count):
            async for _ in model.astream([("human", "Hi")]):
                pass

    def paced(self, count: int, address: str) -> float:
        model = self.make(f"text-{PACED}-pace", base_url=address)

        async def read() -> None:
            async for _ in model.astream([("human", "Hi")]):
                pass

        async def work() -> None:
            await asyncio.gather(*[read() for _ in range(count)])

        return self.run(count * PACED, work())

    def memory(self, address: str, count: int = 1000) -> float:
        """Return the KiB that each of so many open streams takes."""
        model = self.make(f"text-50-hold-{count}", base_url=address)

        async def work() -> float:
            gc.collect()
            before = resident()
            streams = [model.astream([("human", "Hi")]) for _ in range(count)]
            await asyncio.gather(*[anext(stream) for stream in streams])
            grown = resident() - before
            await asyncio.gather(*[stream.aclose() for stream in streams])
            return grown / count / 1024

        return self.loop.run_until_complete(work())

    async def at_once(self, count: int) -> None:
        model = self.models["text-9"]
        await asyncio.gather(*[model.ainvoke([("human", "Hi")]) for _ in range(count)])

    async def astream(self, kind: str, times: int) -> None:
        model = self.models.setdefault(kind, self.segments)
        for _ in range(times):
            async for _ in model.astream([("human", "Hi")]):
                pass


def main() -> None:
    for variable in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        os.environ.pop(variable, None)
    side = Side(*sys.argv[1:3])
    print(json.dumps(list(side.rows)), flush=True)
    for line in sys.stdin:
        print(side.rows[line.strip()](), flush=True)
    os._exit(0)  # with no closing that isn't measured


if __name__ == "__main__":
    main()
