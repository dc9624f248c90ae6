"""Thousands of streams, each cancelled at a random moment, on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

from langchain_nscale import ChatNscale, aclose_connections, close_connections
from tests.loopback import CERTIFICATE, running
from tests.soak.server import answer_to
from tests.soak.soak import open_files

AT_ONCE = 200
LONGEST = 1.5  # seconds until a stream is cancelled, of the ten that it takes


async def read(model: ChatNscale, question: str, got: list[str]) -> None:
    """Read a stream."""
    async for chunk in model.astream(question):
        got.append(chunk.text)  # noqa: PERF401  # what came before the end counts


async def by_task(work: Awaitable[None], seconds: float) -> None:
    """Cancel a task of asyncio."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.wait([task])


async def by_timeout(work: Awaitable[None], seconds: float) -> None:
    """Let `wait_for` run out."""
    with suppress(asyncio.TimeoutError):  # another class in Python 3.10
        await asyncio.wait_for(work, seconds)


async def by_scope(work: Awaitable[None], seconds: float) -> None:
    """Cancel a task group of anyio."""

    async def wait() -> None:
        await work

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(seconds)
        group.cancel_scope.cancel()


WAYS = (by_task, by_timeout, by_scope)


async def cancel_all(model: ChatNscale, count: int, seed: int) -> list[str]:
    """Cancel streams; return what is wrong afterwards."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    await model.ainvoke("call-0")
    wrong: list[str] = []

    async def one(number: int) -> None:
        question, got = f"call-{number}", list[str]()
        way: Callable[..., Awaitable[None]] = dice.choice(WAYS)
        await way(read(model, question, got), dice.uniform(0, LONGEST))
        if not answer_to(question).startswith("".join(got)):
            wrong.append(f"{question}: {got}")

    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*[one(start + n) for n in range(AT_ONCE)])
    # Everything still works, and nothing is left.
    if (await model.ainvoke("call-1")).text != answer_to("call-1"):
        wrong.append("the call after all others")
    await aclose_connections()
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        wrong.append(f"{len(left)} tasks are left: {next(iter(left))}")
    return wrong


def report(count: int, seed: int) -> bool:
    """Print a line for each loop; return whether anything was wrong."""
    os.environ["SSL_CERT_FILE"] = str(CERTIFICATE)
    runners: dict[str, Any] = {"asyncio": asyncio.run}
    try:
        import uvloop  # noqa: PLC0415  # not for every platform

        runners["uvloop"] = uvloop.run
    except ImportError:
        print("uvloop isn't installed")
    bad = False
    for name, run in runners.items():
        with running("tests.soak.server", tls=True) as url:
            model = ChatNscale(model="m", service_token="t", base_url=url, max_retries=0)
            run(asyncio.sleep(0))  # libuv keeps a pipe of its own
            before = open_files()
            wrong = run(cancel_all(model, count, seed))
            close_connections()
            # anyio drops a connection whose caller is cancelled while it is established.
            dropped = max(0, open_files() - before)
            gc.collect()
            leaked = max(0, open_files() - before)
        print(
            f"{count} cancelled on {name}: wrong {len(wrong)}, leaked files {leaked}, "
            f"left to the garbage collector {dropped}"
        )
        for what in wrong[:10]:
            print(what)
        bad = bad or bool(wrong or leaked)
    return bad
