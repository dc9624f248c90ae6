"""Mixed work, with errors and cancels, for many minutes: nothing grows or is printed.

The client works in a process of its own, which is silent unless something is wrong. After
each round its calls have ended, and what is left is measured. Each call is counted by the
client and by the server.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import random
import re
import subprocess
import sys
import threading
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from pydantic import BaseModel

from langchain_nscale import (
    ChatNscale,
    NscaleEmbeddings,
    NscaleError,
    NscaleUsageCallbackHandler,
    aclose_connections,
    close_connections,
)
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.soak.cancellations import WAYS
from tests.soak.soak import open_files

AT_ONCE = 12
WARM_UP = 0.25  # of the rounds
CANCELLED = 0.24  # half of them have ended before
MOST = 1_000_000  # calls
# Of 100 replies. The errors are 503 (repeated), 400, a cut and an error in a stream.
FAULTS = {"none": 95, "503": 2, "400": 1, "cut": 1, "event": 1}
# What may grow after the warm-up: freed memory is scattered.
GROWTH = {
    "files": 1.0,
    "tasks": 1.0,
    "threads": 1.0,
    "blocks of memory": 1.02,
    "MiB": 1.05,
}
QUESTION = re.compile(r"call-\d+")


# --- server ---------------------------------------------------------------------------


def respond(body: Mapping[str, Any], dice: random.Random) -> ServerReply:
    """Answer with one of the faults, a tool call, an object or a text."""
    (fault,) = dice.choices(list(FAULTS), list(FAULTS.values()))
    if fault in ("503", "400"):
        return ServerReply.error(int(fault), fault, headers={"retry-after-ms": "1"})
    if fault == "event" and body.get("stream"):
        return ServerReply(sse=[b'data: {"error": {"message": "engine died"}}\n\n'])
    calls, text = [], "word " * dice.randrange(1, 30)
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        calls = [ToolCallReply("add", {"a": 1, "b": 2})]
    elif "response_format" in body:
        text = '{"name": "A", "age": 3}'
    cut = dice.randrange(100, 4000) if fault != "none" else None
    return ServerReply(text=text, tool_calls=calls, cut_after=cut, pause=0.002)


def serve(seed: int) -> None:
    """Serve until standard input ends; then print how often each call was received."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    with NscaleServer(token="t", responder=lambda body: respond(body, dice)) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()
        bodies = (request.body.decode() for request in server.requests)
        print(json.dumps(Counter(QUESTION.findall(body)[0] for body in bodies)))


# --- client ---------------------------------------------------------------------------


class Person(BaseModel):
    """An answer."""

    name: str
    age: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Client:
    """Calls in all ways, and what became of them."""

    def __init__(self, url: str, seed: int) -> None:
        settings: dict[str, Any] = {"model": "m", "base_url": url, "service_token": "t"}
        self.settings = settings
        self.model = ChatNscale(**settings)
        self.agent: Any = create_agent(self.model, [add])
        self.structured = self.model.with_structured_output(Person)
        self.dice = random.Random(seed)  # noqa: S311  # no secret
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        # Allocated at once, so that no growth of memory is due to them.
        self.sent = array("b", bytes(MOST))
        self.cancelled = array("b", bytes(MOST))
        self.way = array("b", bytes(MOST))
        self.count = 0
        self.pool = ThreadPoolExecutor(AT_ONCE)
        self.ways: list[Callable[[str, Any], Awaitable[Any]]] = [
            self.model.ainvoke,
            self.astream,
            self.left_early,
            self.dropped,
            self.events,
            self.agent_calls,
            self.structured.ainvoke,
            self.own_model,
            self.embed,
            self.in_thread(self.model.invoke),
            self.in_thread(lambda text, config: list(self.model.stream(text, config))),
            self.in_thread(lambda text, config: next(self.model.stream(text, config))),
            self.in_thread(self.limited),
        ]

    def in_thread(
        self, function: Callable[[str, Any], Any]
    ) -> Callable[[str, Any], Awaitable[Any]]:
        async def call(text: str, config: Any) -> None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self.pool, function, text, config)

        return call

    def limited(self, text: str, config: Any) -> None:
        ChatNscale(total_timeout=30, **self.settings).invoke(text, config)

    async def astream(self, text: str, config: Any) -> None:
        async for _ in self.model.astream(text, config):
            pass

    async def left_early(self, text: str, config: Any) -> None:
        async for _ in self.model.astream(text, config):
            break

    async def dropped(self, text: str, config: Any) -> None:
        stream = self.model.astream(text, config)
        await stream.__anext__()
        cycle: list[Any] = [stream]
        cycle.append(cycle)

    async def events(self, text: str, config: Any) -> None:
        events = await self.model.astream_events(text, config, version="v3")
        async for _ in events:
            pass
        await events  # its last callback comes after its last event

    async def agent_calls(self, text: str, config: Any) -> None:
        await self.agent.ainvoke({"messages": [("user", text)]}, config)

    async def own_model(self, text: str, config: Any) -> None:
        await ChatNscale(total_timeout=30, **self.settings).ainvoke(text, config)

    async def embed(self, text: str, config: Any) -> None:
        model = NscaleEmbeddings(callbacks=config["callbacks"], **self.settings)
        await model.aembed_documents([text, text])

    async def call(self) -> None:
        """Make one call, and cancel one of ten."""
        number, self.count = self.count, self.count + 1
        usage = NscaleUsageCallbackHandler()
        self.way[number] = self.dice.randrange(len(self.ways))
        way = self.ways[self.way[number]]
        work = self.outcome(way, f"call-{number}", {"callbacks": [usage]})
        is_cancelled = self.dice.random() < CANCELLED
        if is_cancelled:
            await self.dice.choice(WAYS)(work, self.dice.uniform(0, 0.02))
        else:
            await work
        self.usages.append((number, usage))
        self.cancelled[number] = is_cancelled

    async def outcome(self, way: Any, text: str, config: Any) -> None:
        try:
            await way(text, config)
            self.outcomes["complete"] += 1
        except NscaleError as error:
            self.outcomes[type(error).__name__] += 1
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
            raise
        except Exception as error:  # noqa: BLE001  # nothing else may come
            self.wrong.append(f"{way}: {error!r}")

    async def round(self, seconds: float) -> list[float]:
        """Make calls for some seconds; return what is left once they have ended."""
        self.usages: list[tuple[int, NscaleUsageCallbackHandler]] = []
        until = time.monotonic() + seconds

        async def worker() -> None:
            while time.monotonic() < until:
                await self.call()
                await asyncio.sleep(self.dice.uniform(0, 0.2))

        await asyncio.gather(*[worker() for _ in range(AT_ONCE)])
        gc.collect()
        await asyncio.sleep(1)  # streams that the garbage collector found are closed
        for number, usage in self.usages:
            self.sent[number] = usage.total.requests
        self.usages.clear()
        kept = open_files()
        close_connections()
        await aclose_connections()
        gc.collect()
        return [*left(), kept - open_files()]


def left() -> list[float]:
    """Return the numbers of files, tasks, threads and blocks of memory, and the MiB."""
    # glibc keeps freed memory in an arena for every few threads: without this, the MiB
    # grow for an hour, although no more of them are in use (`malloc_info`).
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    blocks = sys.getallocatedblocks()
    return [open_files(), tasks, threads, blocks, round(pages * 4 / 1024, 1)]


async def work(url: str, seconds: float, rounds: int, seed: int) -> dict[str, Any]:
    """Work in rounds; return the figures after each, and the counts."""
    client = Client(url, seed)
    # Executors start their threads when they need them, so all are started now.
    together = threading.Barrier(AT_ONCE)
    default = ThreadPoolExecutor(AT_ONCE)
    asyncio.get_running_loop().set_default_executor(default)
    for executor in (client.pool, default):
        list(executor.map(lambda _: together.wait(), range(AT_ONCE)))
    figures = [await client.round(seconds / rounds) for _ in range(rounds)]
    return {
        "figures": figures,
        "outcomes": client.outcomes,
        "wrong": client.wrong,
        "sent": client.sent[: client.count].tolist(),
        "cancelled": client.cancelled[: client.count].tolist(),
        "way": client.way[: client.count].tolist(),
    }


# --- verdict --------------------------------------------------------------------------


def problems(seen: dict[str, Any], received: Mapping[str, int]) -> list[str]:
    """Return what is wrong with the figures."""
    found = list(seen["wrong"])
    for number, sent in enumerate(seen["sent"]):
        arrived = received.get(f"call-{number}", 0)
        # A request may be cancelled before it is sent.
        if not sent - seen["cancelled"][number] <= arrived <= sent:
            way = f"way {seen['way'][number]}, cancelled: {seen['cancelled'][number]}"
            found.append(f"call-{number} ({way}): {sent} counted, {arrived} received")
    rows = seen["figures"]
    if (tasks := rows[-1][1]) != 1:
        found.append(f"{tasks - 1} tasks are left")
    if (kept := max(row[-1] for row in rows)) > 2 * AT_ONCE:  # sync and async ones
        found.append(f"{kept} connections were kept")
    first = rows[int(WARM_UP * len(rows)) : len(rows) // 2]
    last = rows[len(rows) // 2 :]
    for index, (name, growth) in enumerate(GROWTH.items()):
        before, after = (max(row[index] for row in part) for part in (first, last))
        if after > before * growth:
            found.append(f"{name} grew from {before} to {after}")
    return found


def report(seconds: float, seed: int, rounds: int = 20) -> bool:
    """Print the figures; return whether anything was wrong."""
    module = [sys.executable, "-m", "tests.soak.mixed"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*module, "serve", str(seed)], stdin=pipe, stdout=pipe, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        command = [*module, url, str(seconds), str(rounds), str(seed)]
        client = subprocess.run(command, capture_output=True, text=True, check=False)
        output, _ = server.communicate("")
    *printed, last = client.stdout.splitlines() or [""]
    printed += client.stderr.splitlines()
    if client.returncode:
        print(*printed[-20:], sep="\n")
        return True
    seen, received = json.loads(last), json.loads(output)
    found = [f"printed: {line}" for line in printed] + problems(seen, received)
    print(
        f"{len(seen['sent'])} calls in {seconds:.0f} s: {seen['outcomes']}; requests: "
        f"{sum(seen['sent'])} counted, {sum(received.values())} received"
    )
    print("after each round:", ", ".join([*GROWTH, "kept connections"]))
    for row in seen["figures"]:
        print(*row)
    print(f"wrong: {len(found)}", *found[:20], sep="\n")
    return bool(found)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        url, seconds, rounds, seed = sys.argv[1:]
        seen = asyncio.run(work(url, float(seconds), int(rounds), int(seed)))
        print(json.dumps(seen))
