"""`make fuzz`: arbitrary bytes as replies; nothing but our own errors may come out.

libFuzzer's options may follow, for example `-max_total_time=600`. An input that takes
longer than a second counts as a failure, as its cost can't be linear then.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import atheris
import httpx2

with atheris.instrument_imports(include=["langchain_nscale"]):
    from langchain_nscale import NscaleError
    from tests.unit.answers import (
        FINISH,
        assembled,
        chunk,
        comparable,
        failure,
        invoked,
        read,
        streamed,
    )
    from tests.unit.service import Service, chat

# What the fuzzer splices: a byte of it alone would seldom make a chunk.
PARTS = [
    FINISH,
    chunk({"content": "<think>a</think>b"}),
    chunk({"reasoning": "a"}),
    chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}),
    b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n',
    b'data: {"error": {"message": "a"}}\n\n',
    b"data: [DONE]\n\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    # Loose forms: pings, nulls, halves of an emoji, a whole reply, nesting.
    b": ping\n\ndata: {}\n\ndata: null\n\nevent: ping\n\n",
    chunk({"content": None, "tool_calls": [{"index": None, "function": None}, None]}),
    b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "\\ude00"}}]}\n\n',
    b'{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}',
    chunk(finish_reason="abort"),
    b'data: {"choices": [], "usage": {"prompt_tokens": "NaN"}}\n\n',
    b"[" * 300,
]
TYPES = ("text/event-stream", "application/json", "text/plain")


def built(data: bytes) -> list[bytes]:
    """Pieces of a stream: a low byte stands for a part, any other for itself."""
    pieces = []
    text = bytearray()
    for byte in data:
        if byte < len(PARTS):
            pieces += [bytes(text), PARTS[byte]]
            text.clear()
        else:
            text.append(byte)
    return [piece for piece in [*pieces, bytes(text)] if piece]


def outcome(pieces: list[bytes], **settings: Any) -> Any:
    """What a stream says: the sum of its chunks, or its error and what came before."""
    with suppress(NscaleError):
        return comparable(streamed(*pieces, **settings))
    _, error = failure(*pieces, **settings)
    return type(error), error.partial and comparable(error.partial)


def test_one(data: bytes) -> None:
    """Read an input in every way that there is."""
    pieces = built(data)
    whole = b"".join(pieces)
    kind = TYPES[len(data) % len(TYPES)]
    settings: dict[str, Any] = {"kind": kind, "think_tags": "both"}
    if outcome(pieces, **settings) != outcome([whole], **settings):
        msg = "how a stream is cut changes what it says"
        raise AssertionError(msg)
    with suppress(NscaleError):
        read(pieces, output_version="v1", **settings)
    with suppress(NscaleError):
        assembled(pieces, **settings)
    body = whole.removeprefix(b"data: ")
    for each in TYPES:
        with suppress(NscaleError):
            invoked(body, kind=each)
    with suppress(NscaleError):
        chat(Service(httpx2.Response(400, content=body)), max_retries=0).invoke("Hi")


def main() -> None:
    """Fuzz for two minutes, or as the options say."""
    options = sys.argv[1:] or ["-max_total_time=120"]
    atheris.Setup([sys.argv[0], "-timeout=1", "-max_len=4096", *options], test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
