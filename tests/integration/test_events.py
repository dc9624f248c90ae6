"""Streaming events of version 3, which LangGraph and Deep Agents use, over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.outputs import ChatGenerationChunk

from langchain_nscale import NscaleInterruptedStreamError
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning"
)
REPLY = ServerReply(
    text="Hello, world!",
    reasoning="Let me greet.",
    tool_calls=[ToolCallReply("get_weather", {"city": "Oslo"}, id="call-1")],
)


class Tokens(BaseCallbackHandler):
    """Listens to tokens as code did before there were events."""

    def __init__(self) -> None:
        self.chunks: list[ChatGenerationChunk] = []

    def on_llm_new_token(self, *_: Any, chunk: Any = None, **__: Any) -> None:
        self.chunks.append(chunk)


class AsyncTokens(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.chunks: list[ChatGenerationChunk] = []

    async def on_llm_new_token(self, *_: Any, chunk: Any = None, **__: Any) -> None:
        self.chunks.append(chunk)


async def events(model: Any, *, aio: bool, **config: Any) -> tuple[list[Any], Any]:
    """All events, and the message that langchain-core makes of them."""
    if aio:
        stream = await model.astream_events("Hi", version="v3", **config)
        return [event async for event in stream], await stream.output
    stream = model.stream_events("Hi", version="v3", **config)
    return list(stream), stream.output


AIO = pytest.mark.parametrize("aio", [False, True], ids=["sync", "async"])


@AIO
async def test_events_say_what_invoke_says(
    make: Any, server: NscaleServer, aio: bool
) -> None:
    server.add(REPLY, REPLY)
    one = make().invoke("Hi")
    found, message = await events(make(), aio=aio)
    assert message.text == one.text
    assert message.usage_metadata == one.usage_metadata
    assert message.tool_calls == one.tool_calls
    kinds = [block["type"] for block in message.content_blocks]
    assert kinds == ["reasoning", "text", "tool_call"]
    assert message.content_blocks[0]["reasoning"] == "Let me greet."
    assert found[0]["event"] == "message-start"
    assert found[-1]["event"] == "message-finish"
    assert found[-1]["usage"] == one.usage_metadata
    deltas = [e["delta"] for e in found if e["event"] == "content-block-delta"]
    assert "".join(d.get("text", "") for d in deltas) == "Hello, world!"
    assert len([d for d in deltas if "text" in d]) > 1


@AIO
async def test_handlers_of_tokens_hear_every_one(
    make: Any, server: NscaleServer, aio: bool
) -> None:
    server.add(REPLY)
    handler: Any = AsyncTokens() if aio else Tokens()
    _, message = await events(make(), aio=aio, config={"callbacks": [handler]})
    merged = handler.chunks[0].message
    for chunk in handler.chunks[1:]:
        merged += chunk.message
    assert merged.content == message.text
    assert merged.tool_calls == message.tool_calls
    assert merged.additional_kwargs == {"reasoning_content": "Let me greet."}
    assert merged.usage_metadata == message.usage_metadata
    assert str(message.id).startswith("lc_run-")


@AIO
async def test_a_cut_stream_keeps_what_had_come(
    make: Any, server: NscaleServer, aio: bool
) -> None:
    server.add(ServerReply(text="Hello, world!", cut_after=700))
    with pytest.raises(NscaleInterruptedStreamError) as caught:
        await events(make(), aio=aio)
    assert caught.value.partial is not None
    assert "Hello, world!".startswith(caught.value.partial.text)


@AIO
async def test_a_whole_reply_in_place_of_a_stream(
    make: Any, server: NscaleServer, aio: bool
) -> None:
    body = {
        "id": "c",
        "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
    }
    server.add(ServerReply(body=body))
    _, message = await events(make(), aio=aio)
    assert message.text == "Hi"
    assert message.response_metadata["finish_reason"] == "stop"
