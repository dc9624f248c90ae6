"""When a call is repeated: how often the service receives it, by what went wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from langchain_nscale import ChatNscale, NscaleEmbeddings, NscaleError
from tests.integration.test_connections import raw_server, read_request

EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'


def error(code: int | None = None) -> bytes:
    return (
        b"data: %s\n\n" % json.dumps({"error": {"message": "oh", "code": code}}).encode()
    )


Call = Callable[[dict[str, Any]], Any]


async def invoke(settings: dict[str, Any]) -> Any:
    return ChatNscale(**settings).invoke("Hi")


async def ainvoke(settings: dict[str, Any]) -> Any:
    return await ChatNscale(**settings).ainvoke("Hi")


async def stream(settings: dict[str, Any]) -> Any:
    return list(ChatNscale(**settings).stream("Hi"))


async def astream(settings: dict[str, Any]) -> Any:
    return [chunk async for chunk in ChatNscale(**settings).astream("Hi")]


async def events(settings: dict[str, Any]) -> Any:
    return list(ChatNscale(**settings).stream_events("Hi", version="v3"))


async def embed(settings: dict[str, Any]) -> Any:
    return NscaleEmbeddings(**settings).embed_documents(["a", "b"])


async def aembed(settings: dict[str, Any]) -> Any:
    return await NscaleEmbeddings(**settings).aembed_query("a")


async def list_models(settings: dict[str, Any]) -> Any:
    return ChatNscale(**settings).list_models(refresh=True)


async def alist_models(settings: dict[str, Any]) -> Any:
    return await ChatNscale(**settings).alist_models(refresh=True)


WHOLE = [invoke, ainvoke, embed, aembed, list_models, alist_models]
STREAMS = [stream, astream, events]


def reply(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    """Return a response, to be followed by the end of the connection."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {named[name]}" for name in named)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def cut(body: bytes) -> bytes:
    return reply(200, body, content_length="1000")


# What the service always answers, and how often it is asked with `max_retries=3`.
SENT = {
    "503": (reply(503, retry_after_ms="0"), 4),
    "429": (reply(429, retry_after_ms="0"), 4),
    "409": (reply(409, retry_after_ms="0"), 4),
    "408": (reply(408, retry_after_ms="0"), 4),
    "nothing": (b"", 4),
    "a part of the head": (b"HTTP/1.1 200 OK\r\nx-", 4),
    "503, cut": (reply(503, b"{", content_length="1000"), 4),
    "400": (reply(400), 1),
    "401": (reply(401), 1),
    "no credit": (reply(429, b'{"error": {"error_type": "INSUFFICIENT_CREDIT"}}'), 1),
    "501": (reply(501), 1),
    "505": (reply(505), 1),
    "a redirect": (reply(302, location="https://elsewhere.example"), 1),
    "a wait of an hour": (reply(503, retry_after="3600"), 1),
    "told not to": (reply(503, x_should_retry="false"), 1),
    "told to": (reply(400, x_should_retry="true"), 4),
}
# A complete reply was paid for, so it is requested once more only.
ANSWERED = {
    "not JSON": (reply(200, b"<html>"), 2),
    "not an object": (reply(200, b"3"), 2),
    "empty": (reply(200, b""), 2),
    "cut": (cut(b"{"), 2),
}
STREAMING = {
    "empty": (reply(200, b""), 4),
    "cut": (cut(b""), 4),
    "a page": (reply(200, b"<html>"), 4),
    "an error": (reply(200, error()), 4),
    "a final error": (reply(200, error(400)), 1),
}
DELIVERED = {
    "the end": (reply(200, EVENT), 1),
    "cut": (cut(EVENT), 1),
    "an error": (reply(200, EVENT + error()), 1),
}
CASES = [
    pytest.param(call, *case, id=f"{call.__name__}, {stage}, {name}")
    for stage, calls, cases in (
        ("sent", [*WHOLE, *STREAMS], SENT),
        ("answered", WHOLE, ANSWERED),
        ("streaming", STREAMS, STREAMING),
        ("delivered", STREAMS, DELIVERED),
    )
    for call in calls
    for name, case in cases.items()
]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("call", "answer", "requests"), CASES)
async def test_how_often_a_request_is_sent(
    call: Call, answer: bytes, requests: int, clients: dict[str, Any]
) -> None:
    received: list[bytes] = []

    def respond(connection: socket.socket) -> None:
        received.append(read_request(connection))
        connection.sendall(answer)

    with raw_server(respond) as base_url:
        settings = {"model": "m", "service_token": "t", "base_url": base_url}
        with pytest.raises(NscaleError) as caught:
            await call({**settings, **clients, "max_retries": 3})
    assert len(received) == requests
    assert caught.value.requests == requests
    assert caught.value.retries == requests - 1
