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
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TOKENS = 2000
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
IMPORT = """
import time; start = time.process_time()
from langchain_nscale import ChatNscale
print(time.process_time() - start)
"""


def fresh_import() -> float:
    """Return the CPU seconds of the import in an interpreter of its own."""
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


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

    def __init__(self, url: str) -> None:
        import httpx2

        import langchain_nscale

        if not Path(str(langchain_nscale.__file__)).is_relative_to(Path.cwd()):
            sys.exit(f"{langchain_nscale.__file__} is not the version to measure.")
        self.chat = langchain_nscale.ChatNscale
        self.url = url
        self.loop = asyncio.new_event_loop()
        # Without a network: what the package itself and langchain-core do.
        reply = httpx2.MockTransport(lambda _: httpx2.Response(200, json=REPLY))
        self.offline = self.make(http_client=httpx2.Client(transport=reply))
        self.models = {kind: self.make(kind) for kind in ("text-9", f"text-{TOKENS}")}
        self.segments = self.make("text-400-seg")
        self.tools = twenty_tools()
        self.history = history()
        self.rows: dict[str, Callable[[], float]] = {
            "import": fresh_import,
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
        }

    def make(self, kind: str = "text-9", **settings: Any) -> Any:
        return self.chat(
            model=kind, service_token="t", base_url=self.url, max_retries=0, **settings
        )

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

    async def one_by_one(self, count: int) -> None:
        for _ in range(count):
            await self.models["text-9"].ainvoke([("human", "Hi")])

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
    side = Side(sys.argv[1])
    print(json.dumps(list(side.rows)), flush=True)
    for line in sys.stdin:
        print(side.rows[line.strip()](), flush=True)
    os._exit(0)  # with no closing that isn't measured


if __name__ == "__main__":
    main()
