"""`make fuzz`: arbitrary bytes as replies; nothing but our own errors may come out.

libFuzzer's options may follow, for example `-max_total_time=600`. An input that takes
longer than a second counts as a failure, as its cost can't be linear then.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["langchain_nscale"]):
    from langchain_nscale._failures import status_error
    from langchain_nscale._replies.chunks import ChunkWriter
    from langchain_nscale._replies.events import EventWriter
    from langchain_nscale._replies.reader import StreamReader, chat_result
    from langchain_nscale._replies.reply import ReplyOptions
    from langchain_nscale._replies.sse import SSEDecoder
    from langchain_nscale.errors import NscaleError
    from tests.unit.replies import FINISH, chunk, response

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


def decoded(pieces: list[bytes]) -> list[bytes]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.flush()]


def test_one(data: bytes) -> None:
    """Read an input in every way that there is."""
    pieces = built(data)
    whole = b"".join(pieces)
    if decoded(pieces) != decoded([whole]) and whole:
        msg = "how a stream is cut changes its events"
        raise AssertionError(msg)
    kind = TYPES[len(data) % len(TYPES)]
    got = response(b"", content_type=kind)
    for writer in (ChunkWriter(), ChunkWriter(v1=True), EventWriter()):
        reader = StreamReader(got, writer, ReplyOptions(think_tags="both"))
        with suppress(NscaleError):
            for piece in pieces:
                list(reader.feed(piece))
            list(reader.flush())
        reader.partial()
    body = whole.removeprefix(b"data: ")
    for each in TYPES:
        with suppress(NscaleError):
            chat_result(response(body, content_type=each))
    status_error(response(body, status=400), body)


def main() -> None:
    """Fuzz for two minutes, or as the options say."""
    options = sys.argv[1:] or ["-max_total_time=120"]
    atheris.Setup([sys.argv[0], "-timeout=1", "-max_len=4096", *options], test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
