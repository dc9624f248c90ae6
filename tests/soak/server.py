"""A TLS server whose streams say the name of their question, a token at a time."""

from __future__ import annotations

import asyncio
import json
import re
import ssl

from tests import loopback

QUESTION = re.compile(rb"call-\d+")
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
TOKENS = 20
PACE = 0.5  # seconds between tokens
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def answer_to(question: str) -> str:
    """The whole answer; no other question has a part of it."""
    return "".join(f"{question}/{number} " for number in range(TOKENS))


def event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    data = b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            found = QUESTION.findall(body)
            question = found[-1].decode() if found else "call-0"
            writer.write(HEAD + event({"role": "assistant", "content": ""}))
            for number in range(TOKENS):
                writer.write(event({"content": f"{question}/{number} "}))
                await writer.drain()
                await asyncio.sleep(PACE)
            writer.write(event({}, "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        writer.close()


if __name__ == "__main__":
    loopback.serve(serve)
