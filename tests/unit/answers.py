"""Replies as the API writes them, and what a model makes of them; no socket is opened."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message

from langchain_nscale import ChatNscale, NscaleError
from tests.unit.ways import model_for

EVENTS = "text/event-stream"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, **choice: Any) -> bytes:
    entry = {"index": 0, "delta": delta or {}, **choice}
    return event({"id": "c-1", "model": "m", "choices": [entry]})


FINISH = chunk(finish_reason="stop")
DONE = b"data: [DONE]\n\n"


def model_of(
    *pieces: bytes, fault: Exception | None = None, kind: str = EVENTS, **settings: Any
) -> ChatNscale:
    """A model whose service answers with these pieces of a body, and then a fault."""

    def body() -> Iterable[bytes]:
        yield from pieces
        if fault is not None:
            raise fault

    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=body(), headers={"content-type": kind})

    return model_for(respond, **settings)


def read(pieces: Iterable[bytes], **settings: Any) -> list[AIMessageChunk]:
    """The chunks of a streamed reply."""
    return list(model_of(*pieces, **settings).stream("Hi"))


def failure(*pieces: bytes, **settings: Any) -> tuple[list[str], NscaleError]:
    """The texts that a stream yields before it fails, and its error."""
    texts = []
    with pytest.raises(NscaleError) as caught:
        for each in model_of(*pieces, **settings).stream("Hi"):
            texts.append(str(each.text))  # noqa: PERF401  # what came before the error counts
    return texts, caught.value


def merge(chunks: Sequence[AIMessageChunk]) -> AIMessage:
    merged = chunks[0] + list(chunks[1:])
    message = message_chunk_to_message(merged)
    assert type(message) is AIMessage
    return message


def streamed(*pieces: bytes, **settings: Any) -> AIMessage:
    """The sum of the chunks of a streamed reply."""
    return merge(read(pieces, **settings))


def assembled(pieces: Iterable[bytes], **settings: Any) -> AIMessage:
    """The message that langchain-core makes of the events of a streamed reply."""
    return model_of(*pieces, **settings).stream_events("Hi", version="v3").output


def invoked(completion: Any, **settings: Any) -> AIMessage:
    """The message of a reply that is not streamed: an object, or the bytes of a body."""
    is_bytes = isinstance(completion, bytes)
    body = completion if is_bytes else json.dumps(completion).encode()
    return model_of(body, **{"kind": "application/json", **settings}).invoke("Hi")


def every_way(pieces: Sequence[bytes], **settings: Any) -> dict[str, AIMessage]:
    """The message of a stream, by the way in which it is read and added up."""
    chunks: Any = read(pieces, **settings)
    return {
        "one by one": message_chunk_to_message(reduce(add, chunks)),  # type: ignore[dict-item]
        "as a list": merge(chunks),
        "events": assembled(pieces, **settings),
        "invoke": invoked(b"".join(pieces), kind=EVENTS, **settings),
    }


def comparable(message: AIMessage) -> dict[str, Any]:
    """What whole and streamed replies have in common: all but the ID of the run."""
    fields = message.model_dump(exclude={"id"})
    calls = [
        (call["name"], call["id"], call["args"] or "")
        for call in fields.pop("invalid_tool_calls")
    ]
    return {**fields, "tool_calls": (fields["tool_calls"], calls)}
