"""Many calls of every kind against a server that fails at random.

Each call has to end in its own complete answer or in a typed error, within a limit.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_nscale import (
    ChatNscale,
    NscaleError,
    aclose_connections,
    close_connections,
)
from langchain_nscale.testing import NscaleServer, ServerReply

LIMIT = 60.0  # seconds for one call, retries included; longer is a hang
# In per cent.
FAULTS = {"none": 86, "reset": 5, "503": 5, "stall": 2, "malformed": 2}
WAYS = ("invoke", "stream", "ainvoke", "astream")


@dataclass
class Report:
    """What became of the calls."""

    complete: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    hangs: int = 0
    wrong: list[str] = field(default_factory=list)
    leaked_files: int = 0
    leaked_tasks: int = 0


def faulty(seed: int, faults: Counter[str]) -> Any:
    """A responder that answers rightly but for the faults."""
    # The dice are the server's alone, so that a seed gives the same faults.
    dice = random.Random(seed)  # noqa: S311  # no secret

    def respond(body: Mapping[str, Any]) -> ServerReply:
        text = answer_to(body["messages"][-1]["content"])
        streamed = bool(body.get("stream"))
        (fault,) = dice.choices(list(FAULTS), list(FAULTS.values()))
        faults[fault] += 1
        replies = {
            "none": ServerReply(text=text),
            "reset": ServerReply(text=text, cut_after=dice.randrange(0, 900)),
            "503": ServerReply.error(503, "busy", headers={"retry-after-ms": "1"}),
            "stall": ServerReply(text=text, delay=2.0),
            "malformed": ServerReply(body=b"<html>", status=200),
        }
        if streamed:
            replies["stall"] = ServerReply(text=text, stall_after=dice.randrange(0, 4))
            replies["malformed"] = ServerReply(sse=[b"data: {nope\n\n"])
        return replies[fault]

    return respond


def answer_to(question: str) -> str:
    """An answer that only this question has, of several chunks."""
    return f"The answer to {question} is {question[::-1]} and no other"


async def one(model: ChatNscale, number: int, report: Report, pool: Any) -> None:
    """One call, by one of the four ways."""
    way = WAYS[number % len(WAYS)]
    question = f"call-{number}"
    got: list[str] = []
    try:
        await asyncio.wait_for(call(model, way, question, got, pool), LIMIT)
    except NscaleError as error:
        report.errors[type(error).__name__] += 1
        received = "".join(got)
        if not answer_to(question).startswith(received):
            report.wrong.append(f"{way} {question}: {received!r} before {error!r}")
    except asyncio.TimeoutError:  # another class in Python 3.10
        report.hangs += 1
    except Exception as error:  # noqa: BLE001  # nothing else may come: that is the test
        report.wrong.append(f"{way} {question}: {error!r}")
    else:
        report.complete += 1
        if "".join(got) != answer_to(question):
            report.wrong.append(f"{way} {question}: {got!r}")


async def call(
    model: ChatNscale, way: str, question: str, got: list[str], pool: Any
) -> None:
    if way == "ainvoke":
        got.append((await model.ainvoke(question)).text)
    elif way == "astream":
        async for chunk in model.astream(question):
            got.append(chunk.text)  # noqa: PERF401  # what came before an error counts
    else:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(pool, sync_call, model, way, question, got)


def sync_call(model: ChatNscale, way: str, question: str, got: list[str]) -> None:
    if way == "invoke":
        got.append(model.invoke(question).text)
    else:
        for chunk in model.stream(question):
            got.append(chunk.text)  # noqa: PERF401  # likewise


def open_files() -> int:
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.is_dir() else 0


async def calls_of(model: ChatNscale, count: int, at_once: int, report: Report) -> None:
    numbers = iter(range(count))

    async def worker(pool: Any) -> None:
        for number in numbers:
            await one(model, number, report, pool)

    with ThreadPoolExecutor(at_once) as pool:
        await asyncio.gather(*[worker(pool) for _ in range(at_once)])
    await aclose_connections()
    report.leaked_tasks = len(asyncio.all_tasks()) - 1


def soak(count: int, at_once: int, seed: int) -> Report:
    """Make `count` calls, `at_once` at a time; say what became of them."""
    report = Report()
    with NscaleServer(responder=faulty(seed, report.faults)) as server:
        model = ChatNscale(
            model="m", timeout=1.0, stream_chunk_timeout=1.0, **server.settings
        )
        close_connections()
        gc.collect()
        before = open_files()
        asyncio.run(calls_of(model, count, at_once, report))
        close_connections()
        gc.collect()
    report.leaked_files = max(0, open_files() - before)
    return report
