"""Thousands of streams, each cancelled at a random moment, on asyncio and uvloop.

The client works in a process of its own, which prints nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import product
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


async def collected(model: ChatNscale, question: str, got: list[str], count: int) -> None:
    """Read a part of a stream, and leave it to the garbage collector."""
    stream = model.astream(question)
    got.extend([(await stream.__anext__()).text for _ in range(count)])
    cycle: list[Any] = [stream]
    cycle.append(cycle)


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


async def by_group(work: Awaitable[None], seconds: float) -> None:
    """Let another task of the same group fail."""

    async def wait() -> None:
        await work

    with suppress(Exception):  # the group of the failure
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            await asyncio.sleep(seconds)
            raise RuntimeError


WAYS = [by_task, by_timeout, by_scope]
if sys.version_info >= (3, 11):
    WAYS.append(by_group)


async def cancel_all(model: ChatNscale, count: int, seed: int) -> list[str]:
    """Cancel streams; return what is wrong afterwards."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    await model.ainvoke("call-0")
    wrong: list[str] = []

    async def one(number: int) -> None:
        question, got = f"call-{number}", list[str]()
        if number % 5:
            way: Callable[..., Awaitable[None]] = dice.choice(WAYS)
            await way(read(model, question, got), dice.uniform(0, LONGEST))
        else:
            await collected(model, question, got, dice.randint(1, 4))
        if not answer_to(question).startswith("".join(got)):
            wrong.append(f"{question}: {got}")

    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*[one(start + n) for n in range(AT_ONCE)])
        await asyncio.to_thread(gc.collect)  # finalizers run in that thread
    # Everything still works, and nothing is left.
    if (await model.ainvoke("call-1")).text != answer_to("call-1"):
        wrong.append("the call after all others")
    await aclose_connections()
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        wrong.append(f"{len(left)} tasks are left: {next(iter(left))}")
    return wrong


def runner_of(loop: str) -> Callable[..., Any]:
    """Return the function that runs a coroutine on a kind of event loop."""
    if loop == "asyncio":
        return asyncio.run
    import uvloop  # noqa: PLC0415  # not for every platform

    run: Callable[..., Any] = uvloop.run
    return run


def work(loop: str, url: str, count: int, seed: int) -> list[str]:
    """Cancel streams on one loop, in this process; return what is wrong afterwards."""
    run = runner_of(loop)
    model = ChatNscale(model="m", service_token="t", base_url=url, max_retries=0)
    run(asyncio.sleep(0))  # libuv keeps a pipe of its own
    before, threads = open_files(), threading.active_count()
    wrong: list[str] = run(cancel_all(model, count, seed))
    close_connections()
    if leaked := open_files() - before:
        wrong.append(f"{leaked} files are open")
    if left := threading.active_count() - threads:
        wrong.append(f"{left} threads are left")
    return wrong


def report(count: int, seed: int) -> bool:
    """Print a line for each loop, with TLS and without; return whether it is bad."""
    environment = {**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)}
    loops = ["asyncio"]
    try:
        runner_of("uvloop")
        loops.append("uvloop")
    except ImportError:
        print("uvloop isn't installed")
    bad = False
    for loop, tls in product(loops, (False, True)):
        with running("tests.soak.server", tls=tls) as url:
            options = ["-W", "always::ResourceWarning", "-m", __name__]
            client = subprocess.run(
                [sys.executable, *options, loop, url, str(count // 2), str(seed)],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        *printed, last = client.stdout.splitlines() or [""]
        printed += client.stderr.splitlines()
        wrong = json.loads(last or "[]") + [f"printed: {line}" for line in printed]
        name = f"{loop} with TLS" if tls else loop
        print(
            f"{count // 2} canceled on {name}: wrong {len(wrong)}", *wrong[:10], sep="\n"
        )
        bad = bad or bool(wrong or client.returncode)
    return bad


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
