"""Cancelled calls, in every way of calling: counted once, their cost unknown."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from types import AsyncGeneratorType
from typing import Any
from uuid import UUID

import anyio
import httpx2
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_nscale import (
    ChatNscale,
    NscaleUsageCallbackHandler,
    get_nscale_usage_callback,
)

CALLS = 1000
PRICES = {"m": (1, 1)}
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


class Service:
    """Answers prompts with even numbers; for the others it begins and never ends."""

    def __init__(self) -> None:
        self.hanging = 0
        self.reached = asyncio.Condition()
        self.model = ChatNscale(
            model="m",
            base_url="https://x.test/v1",
            service_token="t",
            max_retries=0,
            http_async_client=httpx2.AsyncClient(
                transport=httpx2.MockTransport(self.respond)
            ),
        )

    async def respond(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        (number,) = map(int, re.findall(r"\d+", body["messages"][-1]["content"]))
        if body.get("stream"):
            return httpx2.Response(200, content=self.events(hangs=number % 2 == 1))
        if number % 2:
            await self.hang()
        message = {"role": "assistant", "content": "x"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx2.Response(
            200, json={"model": "m", "choices": [choice], "usage": USAGE}
        )

    async def events(self, *, hangs: bool) -> AsyncIterator[bytes]:
        yield event({"role": "assistant", "content": "x"})
        if hangs:
            await self.hang()
        yield event({}, "stop") + b'data: {"choices": [], "usage": %s}\n\n' % (
            json.dumps(USAGE).encode()
        )
        yield b"data: [DONE]\n\n"

    async def hang(self) -> None:
        async with self.reached:
            self.hanging += 1
            self.reached.notify_all()
        await asyncio.Event().wait()

    async def wait_for(self, hanging: int) -> None:
        async with self.reached:
            await self.reached.wait_for(lambda: self.hanging == hanging)


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %s\n\n" % json.dumps({"model": "m", "choices": [choice]}).encode()


async def by_ainvoke(model: Any, number: int, config: Any) -> None:
    await model.ainvoke(str(number), config)


async def by_abatch(model: Any, number: int, config: Any) -> None:
    await model.abatch([str(number)], config)


async def by_agenerate(model: Any, number: int, config: Any) -> None:
    await by_agenerate_all(model)([str(number)], config)


async def by_astream(model: Any, number: int, config: Any) -> None:
    async for _ in model.astream(str(number), config):
        pass


async def by_events(model: Any, number: int, config: Any) -> None:
    async with await model.astream_events(str(number), config, version="v3") as events:
        async for _ in events:
            pass
        await events


async def by_chain(model: Any, number: int, config: Any) -> None:
    await (model | StrOutputParser()).ainvoke(str(number), config)


async def by_agent(model: Any, number: int, config: Any) -> None:
    question: Any = {"messages": [("user", str(number))]}
    await create_agent(model, []).ainvoke(question, config)


async def by_agent_stream(model: Any, number: int, config: Any) -> None:
    question: Any = {"messages": [("user", str(number))]}
    agent = create_agent(model, [])
    async for _ in agent.astream(question, config, stream_mode="messages"):
        pass


Way = Callable[[Any, int, Any], Coroutine[Any, Any, None]]
WAYS: list[Way] = [
    by_ainvoke,
    by_abatch,
    by_astream,
    by_events,
    by_chain,
    by_agent,
    by_agent_stream,
]
AGENTS: list[Way] = [by_agent, by_agent_stream]


def skip_if_callbacks_are_lost(way: Way) -> None:
    if way in AGENTS and sys.version_info < (3, 11):
        pytest.skip("LangGraph's async nodes don't see callbacks before Python 3.11")


BETA = pytest.mark.filterwarnings("ignore:.*is in beta")


@BETA
@pytest.mark.parametrize("how", ["callbacks", "block"])
@pytest.mark.parametrize("way", WAYS)
async def test_half_of_the_calls_are_cancelled(way: Way, how: str) -> None:
    skip_if_callbacks_are_lost(way)
    calls = CALLS if how == "callbacks" else CALLS // 10
    calls = calls // 5 if way in AGENTS else calls
    service = Service()
    with get_nscale_usage_callback(PRICES) as block:
        usage = NscaleUsageCallbackHandler(PRICES) if how == "callbacks" else block
        config = {"callbacks": [usage]} if how == "callbacks" else {}
        tasks = [
            asyncio.create_task(way(service.model, number, config))
            for number in range(calls)
        ]
        await asyncio.gather(*tasks[::2])
        await service.wait_for(calls // 2)
        for task in tasks[1::2]:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == calls // 2
    total = usage.total
    assert (total.calls, total.cancelled, total.unreported) == (
        calls,
        calls // 2,
        calls // 2,
    )
    assert total.failed == 0
    assert total.input_tokens == 3 * (calls // 2)
    assert total.cost is None  # unknown, not 0
    assert total.known_cost > 0


@BETA
@pytest.mark.parametrize("ticks", range(12))
@pytest.mark.parametrize("way", [*WAYS, by_agenerate])
async def test_no_moment_of_a_cancellation_loses_a_call(way: Way, ticks: int) -> None:
    skip_if_callbacks_are_lost(way)
    # A call is counted from its `on_chat_model_start`, whenever the loop cancels it.
    service = Service()
    usage, heard = NscaleUsageCallbackHandler(PRICES), Heard()
    task = asyncio.create_task(way(service.model, 1, {"callbacks": [usage, heard]}))
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert heard.began or ticks < 8
    assert len(heard.began) == len(heard.ended) == usage.total.calls
    assert usage.total.cancelled == usage.total.calls


async def test_scopes_that_cancel_again_at_every_await() -> None:
    service = Service()
    usage, tracer = NscaleUsageCallbackHandler(PRICES), SlowTracer()
    prompts = [str(number) for number in (1, 3, 5)]
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            abatch: Any = service.model.abatch
            for call in (abatch, by_agenerate_all(service.model)):
                group.start_soon(call, prompts, {"callbacks": [usage, tracer]})
            await service.wait_for(6)
            scope.cancel()
    await tracer.wait_for_ends(6)
    assert usage.total.cancelled == usage.total.calls == 6


def by_agenerate_all(model: ChatNscale) -> Any:
    async def call(prompts: list[str], config: Any) -> None:
        messages: list[list[BaseMessage]] = [[HumanMessage(text)] for text in prompts]
        await model.agenerate(messages, callbacks=config["callbacks"])

    return call


class SlowTracer(AsyncCallbackHandler):
    """Suspends before it notes an end, as a tracer that writes to a network."""

    def __init__(self) -> None:
        self.ended = 0
        self.changed = asyncio.Condition()

    async def on_llm_error(self, *_: Any, **__: Any) -> None:
        await asyncio.sleep(0)
        async with self.changed:
            self.ended += 1
            self.changed.notify_all()

    async def wait_for_ends(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.ended == count)


class Heard(BaseCallbackHandler):
    """Notes which model runs begin and end."""

    run_inline = True

    def __init__(self) -> None:
        self.began: list[UUID] = []
        self.ended: list[UUID] = []

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self.began.append(run_id)

    def on_llm_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self.ended.append(run_id)

    def on_llm_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self.ended.append(run_id)


class Closed(BaseRateLimiter):
    """Lets no call through."""

    def acquire(self, *, blocking: bool = True) -> bool:  # noqa: ARG002  # interface
        return False

    async def aacquire(self, *, blocking: bool = True) -> bool:  # noqa: ARG002  # interface
        return await asyncio.Event().wait()


async def test_a_call_that_waits_for_the_rate_limiter() -> None:
    usage = NscaleUsageCallbackHandler(PRICES)
    model = Service().model.model_copy(update={"rate_limiter": Closed()})
    heard = Heard()
    config: Any = {"callbacks": [usage, heard]}
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(model.ainvoke("1", config), 0)
    call = asyncio.create_task(model.ainvoke("1", config))
    for _ in range(20):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert usage.total.cancelled == usage.total.calls == len(heard.began) == 1


class Endless(httpx2.AsyncByteStream):
    """A stream that begins and never ends."""

    def __init__(self) -> None:
        self.is_closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield event({"role": "assistant", "content": "x"})
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed.set()


async def test_no_task_is_left_of_a_closed_stream() -> None:
    def tasks() -> int:
        gc.collect()
        return sum(isinstance(each, asyncio.Task) for each in gc.get_objects())

    before = tasks()
    body = Endless()
    stream: Any = model_of(httpx2.Response(200, stream=body)).astream("a")
    await stream.__anext__()
    await stream.aclose()
    await body.is_closed.wait()
    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  # the last ones that close it
        await asyncio.sleep(0)
    assert tasks() == before


def model_of(response: httpx2.Response) -> ChatNscale:
    transport = httpx2.MockTransport(lambda _: response)
    return ChatNscale(
        model="m",
        base_url="https://x.test/v1",
        service_token="t",
        http_async_client=httpx2.AsyncClient(transport=transport),
    )


class Collected(httpx2.Response):
    """A response whose generators the collector finalizes while they are being closed.

    It does if it finds them in another thread: its first finalizer lets the event loop
    close them all, and meanwhile it goes on to the others.
    """

    finalized = 0

    async def aiter_bytes(self, _: int | None = None) -> AsyncGenerator[bytes, None]:
        try:
            yield event({"role": "assistant", "content": "x"})
        finally:
            for each in gc.get_objects():
                is_async = isinstance(each, AsyncGeneratorType)
                if is_async and each.ag_running and "_http" in each.ag_code.co_filename:
                    each.__del__()
                    self.finalized += 1


async def test_a_collected_stream_prints_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    response = Collected(200, content=b"")
    stream: Any = model_of(response).astream("a")
    await stream.__anext__()
    await stream.aclose()
    while not response.finalized:  # noqa: ASYNC110  # the event loop closes the rest
        await asyncio.sleep(0)
    assert not printed
