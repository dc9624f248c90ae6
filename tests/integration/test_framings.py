"""Every framing of a response, over sockets: the shared clients beside httpx2's own.

Both must return the same answer, or raise the same error.
"""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from langchain_nscale import (
    ChatNscale,
    NscaleError,
    aclose_connections,
    close_connections,
)
from tests.integration.test_chat import WAYS, consume
from tests.integration.test_connections import raw_server, read_request

CHUNK = {"id": "c", "object": "chat.completion.chunk", "model": "m"}
DELTAS: list[dict[str, Any]] = [{"content": "Hel"}, {"content": "lo"}, {}]
EVENTS = b"".join(
    b"data: %b\n\n"
    % json.dumps(
        {
            **CHUNK,
            "choices": [{"index": 0, "delta": d, "finish_reason": None if d else "stop"}],
        }
    ).encode()
    for d in DELTAS
)
STREAM = EVENTS + b"data: [DONE]\n\n"
MESSAGE = {"role": "assistant", "content": "Hello"}
WHOLE = json.dumps(
    {
        **CHUNK,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    }
).encode()
Framing = Callable[[bytes], bytes]


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode("latin-1")


def chunked(
    body: bytes, size: int = 7, ext: bytes = b"", end: bytes = b"0\r\n\r\n"
) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), ext, p) for p in pieces) + end


def length(body: bytes, *more: str, add: int = 0, **line: str) -> bytes:
    return head(f"content-length: {len(body) + add}", *more, **line) + body


def with_chunks(body: bytes, *lines: str, **how: Any) -> bytes:
    return head("transfer-encoding: chunked", *lines) + chunked(body, **how)


def deflated(body: bytes) -> bytes:
    squeezed = zlib.compress(body)
    return length(squeezed, "content-encoding: deflate")


PAGE = b"<html><body>Bad gateway</body></html>"
FRAMINGS: dict[str, Framing] = {
    "length": length,
    "length, closed": lambda b: length(b, "connection: close"),
    "length, in capitals": lambda b: head(f"CONTENT-LENGTH: {len(b)}") + b,
    "until the end": lambda b: head("connection: close") + b,
    "until the end, unannounced": lambda b: head() + b,
    "HTTP/1.0": lambda b: head(version="1.0") + b,
    "HTTP/1.0, length": lambda b: length(b, version="1.0"),
    "HTTP/1.0, kept": lambda b: length(b, "connection: keep-alive", version="1.0"),
    "chunks": with_chunks,
    "chunks of a byte": lambda b: with_chunks(b, size=1),
    "one chunk": lambda b: with_chunks(b, size=100_000),
    "chunks, closed": lambda b: with_chunks(b, "connection: close"),
    "chunk extensions": lambda b: with_chunks(b, ext=b";a=b"),
    "quoted extensions": lambda b: with_chunks(b, ext=b';a="b c"'),
    "trailers": lambda b: with_chunks(b, end=b"0\r\nx-sum: 1\r\n\r\n"),
    "chunks and a length": lambda b: with_chunks(b, "content-length: 3"),
    "100 first": lambda b: head(status="100 Continue") + length(b),
    "102 first": lambda b: head(status="102 Processing") * 3 + length(b),
    "103 first": lambda b: head("link: </a>", status="103 Early Hints") + with_chunks(b),
    "gzip": lambda b: length(gzip.compress(b), "content-encoding: gzip"),
    "gzip in chunks": lambda b: with_chunks(gzip.compress(b), "content-encoding: gzip"),
    "deflate": deflated,
    "identity": lambda b: length(b, "content-encoding: identity"),
    "unknown encoding": lambda b: length(b, "content-encoding: x"),
    "not gzip": lambda b: length(b, "content-encoding: gzip"),
    "cut gzip": lambda b: length(gzip.compress(b)[:-20], "content-encoding: gzip"),
    "bare line feeds": lambda b: length(b).replace(b"\r\n", b"\n"),
    "many headers": lambda b: length(b, *[f"x-{n}: {n}" for n in range(90)]),
    "a long header": lambda b: length(b, "x-a: " + "a" * 60_000),
    "length too small": lambda b: length(b, add=-5),
    "length too large": lambda b: length(b, "connection: close", add=5),
    "two lengths": lambda b: length(b, "content-length: 7"),
    "negative length": lambda b: head("content-length: -1") + b,
    "no number": lambda b: head("content-length: many") + b,
    "cut in the head": lambda b: length(b)[:20],
    "cut after the head": lambda b: head(f"content-length: {len(b)}"),
    "cut in the body": lambda b: length(b)[:-15],
    "cut in a chunk": lambda b: with_chunks(b)[:-20],
    "cut before the last chunk": lambda b: with_chunks(b, end=b""),
    "cut in the last chunk": lambda b: with_chunks(b, end=b"0\r\n"),
    "wrong size": lambda b: with_chunks(b).replace(b"\r\n7\r\n", b"\r\n8\r\n", 2),
    "size is no number": lambda b: with_chunks(b).replace(b"\r\n7\r\n", b"\r\nz\r\n", 2),
    "nothing": lambda _: b"",
    "garbage": lambda _: b"\x00\x01\x02\x03" * 50,
    "SSH": lambda _: b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS alert": lambda _: b"\x15\x03\x01\x00\x02\x02\x50",
    "page, 200": lambda _: length(PAGE, "content-type: text/html"),
    "page, 502": lambda _: length(PAGE, status="502 Bad Gateway"),
    "520": lambda _: length(b"", status="520 Unknown"),
    "529": lambda _: length(b"{}", status="529 Overloaded"),
    "204": lambda _: head(status="204 No Content"),
    "301": lambda _: head(
        "location: https://x/", "content-length: 0", status="301 Moved"
    ),
    "407": lambda _: length(b"", status="407 Proxy Authentication Required"),
    "413": lambda _: length(b"", "connection: close", status="413 Too Large"),
    "431": lambda _: length(b"", status="431 Header Fields Too Large"),
    "101": lambda _: head("upgrade: h2c", "connection: upgrade", status="101 Switching"),
}


# httpx2 leaves generators behind whose encoded bodies can't be decoded.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@WAYS
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
async def test_a_framing(way: str, framing: Framing) -> None:
    body = STREAM if "stream" in way else WHOLE

    def answer(connection: socket.socket) -> None:
        while read_request(connection):
            data = framing(body)
            connection.sendall(data[:30])
            connection.sendall(data[30:])
            connection.shutdown(socket.SHUT_WR)

    with raw_server(answer) as base_url:
        with httpx2.Client(verify=False) as client:
            async with httpx2.AsyncClient(verify=False) as async_client:
                clients = {"http_client": client, "http_async_client": async_client}
                expected = await outcome(way, base_url, **clients)
        assert await outcome(way, base_url) == expected
        close_connections()
        await aclose_connections()


async def outcome(way: str, base_url: str, **clients: Any) -> str:
    """Return the answer, or the class and status of the error."""
    model = ChatNscale(
        model="m", service_token="t", base_url=base_url, max_retries=0, **clients
    )
    try:
        message = await consume(model, "Hi", way)
    except NscaleError as error:
        partial = error.partial.text if error.partial else None
        return f"{type(error).__name__} {error.status_code} {partial}"
    return str(message.text)
