"""v3 event streams: whoever leaves one closes the connection and ends the run."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler

from langchain_nscale import ChatNscale, NscaleUsageCallbackHandler
from tests.unit.service import Service as Answering
from tests.unit.service import chat, stream

pytestmark = pytest.mark.filterwarnings("ignore:.*is in beta")

WORDS = 20


def events() -> Iterator[bytes]:
    for number in range(WORDS):
        finish = "stop" if number == WORDS - 1 else None
        delta = {"content": f"{number} "}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        yield b"data: %s\n\n" % json.dumps({"choices": [choice]}).encode()
    usage = {"prompt_tokens": 1, "completion_tokens": WORDS}
    yield b"data: %s\n\n" % json.dumps({"choices": [], "usage": usage}).encode()
    yield b"data: [DONE]\n\n"


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that knows how much of it was read, and whether it was closed."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed = False
        self.hangs_after = WORDS + 2

    def __iter__(self) -> Iterator[bytes]:
        for event in events():
            self.sent += 1
            yield event

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in events():
            await asyncio.sleep(0)
            if self.sent == self.hangs_after:
                await asyncio.Event().wait()
            self.sent += 1
            yield event

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


class Heard(BaseCallbackHandler):
    """Counts the begins and ends of runs; in async calls in a thread of its own."""

    def __init__(self) -> None:
        self.began = self.ended = self.failed = self.tokens = 0

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.began += 1

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.ended += 1

    def on_llm_error(self, *_: Any, **__: Any) -> None:
        self.failed += 1


class HeardTokens(Heard):
    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        self.tokens += 1


class Slow(AsyncCallbackHandler):
    """Waits at each event, as a handler does that writes to a network."""

    def __init__(self) -> None:
        self.began = self.ended = self.failed = 0

    async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.began += 1

    async def on_stream_event(self, *_: Any, **__: Any) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.ended += 1

    async def on_llm_error(self, *_: Any, **__: Any) -> None:
        self.failed += 1


@pytest.fixture
def body() -> Body:
    return Body()


@pytest.fixture
def model(body: Body) -> ChatNscale:
    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=body)

    transport = httpx2.MockTransport(respond)
    return ChatNscale(
        model="m",
        base_url="https://x.test/v1",
        service_token="t",
        http_client=httpx2.Client(transport=transport),
        http_async_client=httpx2.AsyncClient(transport=transport),
    )


@pytest.fixture(autouse=True)
def _without_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    gc.collect()
    complaints.clear()  # of earlier tests
    gc.disable()
    yield
    gc.enable()
    gc.collect()
    assert complaints == []


# --- sync -------------------------------------------------------------------------------


def left_loop(stream: Any) -> None:
    for _ in stream:
        break


def left_text(stream: Any) -> None:
    for _ in stream.text:
        break


def left_by_an_error(stream: Any) -> None:
    with pytest.raises(LookupError):
        for _ in stream:
            raise LookupError


def left_block(stream: Any) -> None:
    with stream as events:
        next(iter(events))


def half_read_text(stream: Any) -> None:
    next(iter(stream.text))


def as_function(stream: Any) -> Any:
    return next(event for event in stream if event["event"] == "content-block-delta")


LEAVING = [
    left_loop,
    left_text,
    left_by_an_error,
    left_block,
    half_read_text,
    as_function,
]
HANDLERS = [Heard, HeardTokens]


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("bound", [False, True])
def test_leaving_ends_it(
    model: ChatNscale,
    body: Body,
    leave: Callable[[Any], None],
    handler: Callable[[], Heard],
    bound: bool,
) -> None:
    heard, usage = handler(), NscaleUsageCallbackHandler({"m": (1, 1)})
    config: Any = {"callbacks": [heard, usage]}
    streamed: Any = model.bind(temperature=1) if bound else model
    leave(streamed.stream_events("q", config, version="v3"))
    assert body.closed
    assert body.sent < WORDS
    assert (heard.began, heard.ended, heard.failed) == (1, 0, 1)
    assert (usage.total.cancelled, usage.total.unreported) == (1, 1)
    assert usage.cost is None
    assert usage.total.calls == heard.began


def test_dropping_the_last_reference_ends_it(model: ChatNscale, body: Body) -> None:
    stream = model.stream_events("q", version="v3")
    left_loop(stream)
    assert not body.closed  # the rest can still be read
    del stream
    assert body.closed


def test_reading_on_after_a_loop_that_was_left(model: ChatNscale, body: Body) -> None:
    heard = Heard()
    stream = model.stream_events("q", {"callbacks": [heard]}, version="v3")
    left_loop(stream)
    left_text(stream)
    assert stream.output.text == "".join(f"{number} " for number in range(WORDS))
    assert "".join(stream.text) == str(stream.text) == stream.output.text
    assert repr(stream.text) == repr(stream.output.text)
    assert bool(stream.text)
    assert stream.tool_calls.get() == []
    assert (heard.ended, heard.failed) == (1, 0)
    assert body.closed


def test_the_connection_is_released_before_the_last_event(
    model: ChatNscale, body: Body
) -> None:
    for event in model.stream_events("q", version="v3"):
        assert body.closed == (event["event"] == "message-finish")


def test_a_stream_that_was_never_read_never_begins(model: ChatNscale, body: Body) -> None:
    heard = Heard()
    stream = model.stream_events("q", {"callbacks": [heard]}, version="v3")
    del stream
    assert (heard.began, body.sent) == (0, 0)


def test_closing_twice(model: ChatNscale, body: Body) -> None:
    heard = Heard()
    with model.stream_events("q", {"callbacks": [heard]}, version="v3") as stream:
        left_loop(stream)
        stream.close()
        stream.close()
    assert body.closed
    assert heard.failed == 1
    with pytest.raises(GeneratorExit):
        _ = stream.output


# --- async ------------------------------------------------------------------------------


async def aleft_loop(stream: Any) -> None:
    async for _ in stream:
        break


async def aleft_text(stream: Any) -> None:
    async for _ in stream.text:
        break


async def aleft_by_an_error(stream: Any) -> None:
    with pytest.raises(LookupError):
        async for _ in stream:
            raise LookupError


async def aleft_block(stream: Any) -> None:
    async with stream as events:
        async for _ in events:
            break


async def cancelled(stream: Any) -> None:
    async def read() -> None:
        async for _ in stream:
            reached.set()
            await asyncio.Event().wait()

    reached = asyncio.Event()
    task = asyncio.create_task(read())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


ALEAVING = [aleft_loop, aleft_text, aleft_by_an_error, aleft_block, cancelled]
AHANDLERS = [Heard, HeardTokens, Slow]


async def until(done: Callable[[], bool]) -> None:
    """Let the event loop work until something holds, for a second at most."""
    for _ in range(200):
        if done():
            return
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("handler", AHANDLERS)
@pytest.mark.parametrize("leave", ALEAVING)
@pytest.mark.parametrize("keeps", [False, True])
async def test_leaving_an_async_stream_ends_it(
    model: ChatNscale, body: Body, leave: Any, handler: Any, keeps: bool
) -> None:
    body.hangs_after = 3
    heard, usage = handler(), NscaleUsageCallbackHandler({"m": (1, 1)})
    config: Any = {"callbacks": [heard, usage]}
    stream = await model.astream_events("q", config, version="v3")
    await leave(stream)
    if not keeps:
        del stream
    await until(lambda: body.closed and heard.failed)
    assert body.closed
    assert (heard.began, heard.ended, heard.failed) == (1, 0, 1)
    assert usage.total.cancelled == usage.total.unreported == 1
    assert usage.total.calls == heard.began


async def test_one_reader_leaves_and_another_reads_on(model: ChatNscale) -> None:
    stream = await model.astream_events("q", version="v3")
    texts: list[str] = []

    async def read() -> None:
        texts.extend([text async for text in stream.text])

    await asyncio.gather(read(), aleft_loop(stream))
    assert len(texts) == WORDS
    assert (await stream).text == "".join(texts)


async def test_reading_on_at_once(model: ChatNscale) -> None:
    stream = await model.astream_events("q", version="v3")
    await aleft_loop(stream)
    message = await stream.output
    assert message.text == "".join(f"{number} " for number in range(WORDS))
    assert await stream.text == message.text
    assert (await stream).text == message.text
    assert stream.text.done
    assert stream.text.error is None


async def test_reading_on_too_late_says_so(model: ChatNscale, body: Body) -> None:
    body.hangs_after = 3
    stream = await model.astream_events("q", {"callbacks": [Slow()]}, version="v3")
    await aleft_loop(stream)
    await until(lambda: body.closed)
    for rest in (stream, stream.output, stream.text):
        with pytest.raises(RuntimeError, match="closed when its last reader stopped"):
            await rest


async def test_an_async_stream_that_was_never_read(model: ChatNscale, body: Body) -> None:
    heard = Heard()
    stream = await model.astream_events("q", {"callbacks": [heard]}, version="v3")
    del stream
    await asyncio.sleep(0)
    assert (heard.began, body.sent) == (0, 0)


@pytest.mark.parametrize("handler", AHANDLERS)
async def test_cancelling_ainvoke_that_streams(
    model: ChatNscale, body: Body, handler: Any
) -> None:
    body.hangs_after = 3
    heard = handler()
    streaming = model.model_copy(update={"streaming": True})
    task = asyncio.create_task(streaming.ainvoke("q", {"callbacks": [heard]}))
    await until(lambda: body.sent > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as kept:  # as loggers keep tracebacks
        await task
    await until(lambda: body.closed)
    assert body.closed
    assert kept.type is asyncio.CancelledError
    assert (heard.began, heard.ended, heard.failed) == (1, 0, 1)


def test_a_loop_that_ends_before_the_stream(model: ChatNscale, body: Body) -> None:
    body.hangs_after = 3

    async def main() -> Any:
        stream = await model.astream_events("q", {"callbacks": [Slow()]}, version="v3")
        await aleft_loop(stream)
        return stream

    stream = asyncio.run(main())
    assert body.closed
    del stream


def test_a_refusal_is_a_block_that_begins_and_ends() -> None:
    model: Any = chat(Answering(stream({"content": "Hm."}, {"refusal": "No."})))
    blocks: dict[int, list[Any]] = {}
    for event in model.stream_events("Hi", version="v3"):
        if event["event"] in ("content-block-start", "content-block-finish"):
            blocks.setdefault(event["index"], []).append(event)
    assert [[event["event"] for event in each] for each in blocks.values()] == [
        ["content-block-start", "content-block-finish"]
    ] * 2
    content = blocks[1][1]["content"]
    content.pop("index", None)  # of langchain-core
    assert content == {"type": "refusal", "refusal": "No."}
