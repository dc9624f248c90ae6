"""A loopback server that answers from prebuilt bytes, as fast as the client can read.

Which answer is in the request's `model`: `text-2000` is a stream of 2,000 chunks of text
(also `reasoning-N`, `tools-N`, `json-N`), with `-seg` each event in a write of its own,
with `-pace` one every few milliseconds, and with `-hold-N` without its end until N streams
are open. A request that isn't streamed gets a short whole reply, a tool call if the model is
`agent` and an object if it is `object`, and one for embeddings gets vectors. With `--tls` it speaks TLS.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import struct
from contextlib import suppress
from functools import lru_cache
from typing import Any

from tests import loopback

MODEL = re.compile(rb'"model":\s*"([^"]+)"')
STREAM = re.compile(rb'"stream":\s*true')
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
HEAD = {"id": "chatcmpl-1", "created": 1784187753, "model": "bench"}
PACE = 0.005  # seconds between the tokens of a paced stream
USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}


def event(delta: dict[str, Any] | None, **choice: Any) -> bytes:
    entry = {"index": 0, "delta": delta, "finish_reason": None, **choice}
    choices = [] if delta is None else [entry]
    usage = USAGE if delta is None else None
    chunk = {**HEAD, "object": "chat.completion.chunk", "choices": choices}
    return b"data: " + json.dumps({**chunk, "usage": usage}).encode() + b"\n\n"


@lru_cache
def events(kind: str, count: int) -> list[bytes]:
    if kind == "tools":
        function = {"name": "f", "arguments": ""}
        first = {"index": 0, "id": "x", "type": "function", "function": function}
        made = [event({"role": "assistant", "tool_calls": [first]})]
        texts = ['{"a": "', *["token "] * (count - 2), '"}']
        made += [
            event({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
            for text in texts
        ]
    elif kind == "json":
        fields = {f"field{number}": "x" * 35 for number in range(count)}
        text = json.dumps(fields)
        made = [event({"role": "assistant", "content": ""})]
        made += [event({"content": text[at : at + 4]}) for at in range(0, len(text), 4)]
    else:
        field = "reasoning_content" if kind == "reasoning" else "content"
        made = [event({"role": "assistant", "content": ""})]
        made += [event({field: " token"}, finish_reason=None)] * count
    return [*made, event({}, finish_reason="stop"), event(None), b"data: [DONE]\n\n"]


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@lru_cache
def stream_bytes(kind: str, count: int) -> bytes:
    data = b"".join(events(kind, count))
    pieces = [data[at : at + 16_384] for at in range(0, len(data), 16_384)]
    return STREAM_HEAD + b"".join(map(chunked, pieces)) + b"0\r\n\r\n"


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def whole(message: dict[str, Any], reason: str) -> bytes:
    choice = {"index": 0, "finish_reason": reason}
    choice["message"] = {"role": "assistant", **message}
    completion = {**HEAD, "object": "chat.completion", "choices": [choice]}
    completion["system_fingerprint"] = "fp_1"
    body = json.dumps({**completion, "usage": USAGE}).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\n" + head.encode() + body


WHOLE = whole({"content": "Hello there, how are you?", "tool_calls": []}, "stop")
LOOK = {"name": "look", "arguments": '{"place": "x"}'}
TOOL_CALL = {"id": "call_1", "type": "function", "function": LOOK}
OBJECT = whole({"content": '{"field0": "x", "field1": "y"}'}, "stop")
CALL = whole({"content": None, "tool_calls": [TOOL_CALL]}, "tool_calls")


DIMENSIONS = 384
VECTOR = [(-1) ** n / (n + 3) for n in range(DIMENSIONS)]
PACKED = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *VECTOR)).decode()


def embeddings(body: bytes) -> bytes:
    asked = json.loads(body)
    packed = asked.get("encoding_format") == "base64"
    one = json.dumps(PACKED if packed else VECTOR)
    return embeddings_bytes(len(asked["input"]), one)


@lru_cache
def embeddings_bytes(count: int, vector: str) -> bytes:
    data = ",".join(
        f'{{"object":"embedding","index":{n},"embedding":{vector}}}' for n in range(count)
    )
    usage = json.dumps({"prompt_tokens": count, "total_tokens": count})
    body = f'{{"object":"list","data":[{data}],"model":"e","usage":{usage}}}'.encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\n" + head.encode() + body


def reply_to(body: bytes) -> bytes:
    model = MODEL.search(body)
    return {b"agent": CALL, b"object": OBJECT}.get(model[1] if model else b"", WHOLE)


connections = itertools.count()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = next(connections)  # after the handshake, if there is one
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET "):
                writer.write(f"HTTP/1.0 200 OK\r\n\r\n{number}".encode())
                writer.close()
                return
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            if b"/embeddings" in head[:60]:
                writer.write(embeddings(body))
                await writer.drain()
                continue
            if not STREAM.search(body):
                writer.write(reply_to(body))
                continue
            model = MODEL.search(body)
            kind, count, *seg = (model[1] if model else b"text-9").decode().split("-")
            if seg[:1] == ["hold"]:  # the end comes when all clients have begun
                await hold(writer, kind, int(count), int(seg[1]))
            elif seg:
                writer.write(STREAM_HEAD)
                for piece in events(kind, int(count)):
                    writer.write(chunked(piece))
                    await writer.drain()
                    await asyncio.sleep(PACE if seg == ["pace"] else 0)
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(stream_bytes(kind, int(count)))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


holding: list[asyncio.Event] = []


async def hold(writer: asyncio.StreamWriter, kind: str, count: int, held: int) -> None:
    *first, finish, usage, done = events(kind, count)
    writer.write(STREAM_HEAD + chunked(b"".join(first)))
    await writer.drain()
    mine = asyncio.Event()
    holding.append(mine)
    # A client that opens fewer connections gets the ends of those it has.
    while len(holding) < held and not mine.is_set():
        open_before = len(holding)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(mine.wait(), 2)
        if len(holding) == open_before:
            break
    for other in holding:
        other.set()
    holding.clear()
    writer.write(chunked(finish + usage + done) + b"0\r\n\r\n")


if __name__ == "__main__":
    loopback.serve(serve)
