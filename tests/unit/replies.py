"""Replies as the API writes them, for unit tests: no server, only HTTP objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any

import httpx2
from langchain_core.language_models.chat_model_stream import ChatModelStream
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGenerationChunk

from langchain_nscale._replies.chunks import ChunkWriter
from langchain_nscale._replies.events import EventWriter
from langchain_nscale._replies.reader import StreamReader, chat_result
from langchain_nscale._replies.reply import ReplyOptions
from langchain_nscale._replies.tool_calls import original_arguments

REQUEST = httpx2.Request("POST", "https://inference.api.nscale.com/v1/chat/completions")


def response(
    content: bytes = b"",
    *,
    status: int = 200,
    content_type: str = "application/json",
    **headers: str,
) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(
        status,
        content=content,
        headers={"content-type": content_type, **named},
        request=REQUEST,
    )


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, **choice: Any) -> bytes:
    entry = {"index": 0, "delta": delta or {}, **choice}
    return event({"id": "c-1", "model": "m", "choices": [entry]})


FINISH = chunk(finish_reason="stop")
DONE = b"data: [DONE]\n\n"


def reader(*, v1: bool = False) -> StreamReader[ChatGenerationChunk]:
    got = response(b"", content_type="text/event-stream", status=200)
    return StreamReader(got, ChunkWriter(v1=v1))


def read(pieces: Iterable[bytes], *, v1: bool = False) -> list[AIMessageChunk]:
    stream = reader(v1=v1)
    chunks = [c for piece in pieces for c in stream.feed(piece)]
    chunks += stream.flush()
    assert all(isinstance(c.message, AIMessageChunk) for c in chunks)
    return [c.message for c in chunks]  # type: ignore[misc]  # as just asserted


def events(
    pieces: Iterable[bytes], options: ReplyOptions | None = None
) -> list[dict[str, Any]]:
    """The protocol events of a streamed reply."""
    got = response(b"", content_type="text/event-stream", status=200)
    stream = StreamReader(got, EventWriter(), options or ReplyOptions())
    return [
        *(event for piece in pieces for event in stream.feed(piece)),
        *stream.flush(),
    ]


def assembled(pieces: Iterable[bytes], options: ReplyOptions | None = None) -> AIMessage:
    """The message that langchain-core makes of a reply's events."""
    stream = ChatModelStream()
    for each in events(pieces, options):
        stream.dispatch(each)
    message = stream.output_message
    assert message is not None
    return message


def merge(chunks: Sequence[AIMessageChunk]) -> AIMessage:
    merged = chunks[0] + list(chunks[1:])
    message = message_chunk_to_message(merged)
    assert type(message) is AIMessage
    return message


def comparable(message: AIMessage) -> dict[str, Any]:
    """What whole and streamed replies have in common.

    A stream can only mark a call as invalid by what it appends to the arguments.
    """
    fields = message.model_dump()
    calls = [
        (call["name"], call["id"], original_arguments(call["args"] or ""))
        for call in fields.pop("invalid_tool_calls")
    ]
    return {**fields, "tool_calls": (fields["tool_calls"], calls)}


def every_way(
    pieces: Sequence[bytes], options: ReplyOptions | None = None
) -> dict[str, AIMessage]:
    """The message of a stream, by the way in which it is read and added up."""
    got = response(b"", content_type="text/event-stream", status=200)
    options = options or ReplyOptions()
    stream = StreamReader(got, ChunkWriter(), options)
    chunks = [c for piece in pieces for c in stream.feed(piece)]
    messages: Any = [c.message for c in [*chunks, *stream.flush()]]
    whole = chat_result(response(b"".join(pieces)), options).generations[0].message
    assert isinstance(whole, AIMessage)
    return {
        "one by one": message_chunk_to_message(reduce(add, messages)),  # type: ignore[dict-item]
        "as a list": merge(messages),
        "events": assembled(pieces, options),
        "invoke": whole,
    }


def streamed(*pieces: bytes) -> AIMessage:
    return merge(read(pieces))


def invoked(completion: Any) -> AIMessage:
    result = chat_result(response(json.dumps(completion).encode()))
    message = result.generations[0].message
    assert isinstance(message, AIMessage)
    return message
