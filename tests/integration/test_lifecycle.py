"""Leaving, cancelling, threads, loops, forks: nothing hangs, nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from langchain_nscale import ChatNscale, aclose_connections, close_connections
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL
from tests.integration.test_chat import WAYS, consume
from tests.soak.soak import open_files


@pytest.fixture
def slow() -> Iterator[ChatNscale]:
    """A model whose streams don't end."""

    def respond(_: Any) -> ServerReply:
        return ServerReply(text="a b c d", stall_after=2)

    with NscaleServer(responder=respond) as server:
        yield ChatNscale(model=MODEL, max_retries=0, **server.settings)


@pytest.fixture(autouse=True)
def _nothing_is_complained_of(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail on 'was never closed', 'Task was destroyed' and their kin."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == []
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


def left() -> Counter[str]:
    """Count the requests and responses in memory: they have tokens and prompts."""
    gc.collect()
    own = "langchain_nscale._http"
    kinds = [type(each) for each in gc.get_objects()]
    names = [kind.__name__ for kind in kinds if str(kind.__module__).startswith(own)]
    return Counter(name for name in names if name.endswith(("Request", "Response")))


@WAYS
async def test_a_time_limit_keeps_nothing_of_a_call_that_has_ended(
    server: NscaleServer, way: str
) -> None:
    before = left()
    model = ChatNscale(model=MODEL, total_timeout=600, **server.settings)
    await consume(model, "Hi", way)
    assert left() == before


async def leave(model: ChatNscale, number: int) -> None:
    """Begin a stream and leave it, in one of four ways."""
    stream = model.astream("Hi")
    if number % 4 == 0:
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
    elif number % 4 == 1:
        task = asyncio.ensure_future(anext(stream))
        await task
        task = asyncio.ensure_future(anext(stream))
        task.cancel()
        with pytest.raises((asyncio.CancelledError, StopAsyncIteration)):
            await task
            await anext(stream)
    elif number % 4 == 2:
        reading = asyncio.ensure_future(drain(stream))
        await asyncio.wait([reading], timeout=0.02)
        # Older anyio and Python 3.10 lose a cancellation now and then, as httpx2 alone
        # shows too, so it may take a second one.
        while not reading.done():
            reading.cancel()
            await asyncio.wait([reading], timeout=0.5)
        with pytest.raises(asyncio.CancelledError):
            reading.result()
    else:
        await anext(stream)
        del stream  # left to the garbage collector


async def drain(stream: Any) -> None:
    async for _ in stream:
        pass


def test_streams_that_are_left_leave_nothing(slow: ChatNscale) -> None:
    async def many(count: int) -> int:
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                await leave(slow, number)

        await asyncio.gather(*[worker() for _ in range(20)])
        gc.collect()
        await aclose_connections()
        # The loop closes what the garbage collector found in tasks of its own.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        still = (await asyncio.wait(others, timeout=5))[1] if others else set()
        return len(still)

    asyncio.run(many(20))
    gc.collect()
    before = open_files()
    assert asyncio.run(many(int(os.environ.get("LEFT_STREAMS", "200")))) == 0
    gc.collect()
    assert open_files() <= before + 4  # what the server has not yet seen close


def test_sync_streams_that_are_left_leave_nothing(slow: ChatNscale) -> None:
    for _ in range(50):
        stream = slow.stream("Hi")
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # a generator
        next(slow.stream("Hi"))  # left to the garbage collector
    close_connections()
    assert threading.active_count() < 20


def test_an_interrupt_gives_the_connection_up(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="a b c d"))
    stream = make().stream("Hi")
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt)
    assert make().invoke("Hi").text == "You said: Hi"


def test_one_model_in_64_threads_of_which_half_have_loops(
    make: Any, server: NscaleServer
) -> None:
    model = make(max_retries=2)
    barrier = threading.Barrier(64)
    assert server.requests == []

    def work(number: int) -> str:
        barrier.wait()
        if number % 2:
            answer: str = asyncio.run(model.ainvoke(str(number))).text
            return answer
        return "".join(chunk.text for chunk in model.stream(str(number)))

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(work, range(64)))
    assert found == [f"You said: {number}" for number in range(64)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_fork_after_use(make: Any) -> None:
    model = make()
    assert model.invoke("Hi").text == "You said: Hi"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Whatever happens, the child must not go on with the tests.
        try:
            os.write(writing, model.invoke("child").text.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said == b"You said: child"
    assert model.invoke("parent").text == "You said: parent"
