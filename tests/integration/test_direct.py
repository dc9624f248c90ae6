"""The clients that send without httpx2: keeping, limiting and closing connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from langchain_nscale import NscaleMalformedResponseError
from langchain_nscale._http import kept
from langchain_nscale._http.client import Request
from langchain_nscale._http.environment import make_async_client, make_client
from langchain_nscale._http.sockets import open_socket
from tests.integration.test_chat import WAYS, consume
from tests.integration.test_connections import (
    ANSWER,
    HEAD,
    model,
    raw_server,
    read_request,
)

LENGTH = b"content-length: %d\r\n\r\n"
WHOLE = HEAD + LENGTH % len(ANSWER) + ANSWER


class Server:
    """Answers all requests of a connection; counts connections and requests."""

    def __init__(self, answer: bytes = WHOLE) -> None:
        self.answer = answer
        self.connections = 0
        self.requests = 0
        self.ended = threading.Semaphore(0)

    def __call__(self, connection: socket.socket) -> None:
        self.connections += 1
        while read_request(connection):
            self.requests += 1
            connection.sendall(self.answer)
        self.ended.release()


def request(base_url: str, **timeouts: float | None) -> Request:
    phases: dict[str, float | None] = dict.fromkeys(
        ("connect", "read", "write", "pool"), 9
    )
    return Request("POST", base_url, None, {}, b"{}", {**phases, **timeouts})


class Both:
    """A client, sync or async, with the same interface in a test."""

    def __init__(self, kind: str) -> None:
        self.is_async = kind == "async"
        make: Callable[[str], Any] = make_async_client if self.is_async else make_client
        self.client: Any = make("http://127.0.0.1")
        self.pool: kept.Pool[Any] = self.client

    async def send(self, sent: Request) -> Any:
        if self.is_async:
            return await self.client.send(sent)
        return await asyncio.to_thread(self.client.send, sent)

    async def read(self, response: Any) -> bytes:
        if self.is_async:
            return b"".join([piece async for piece in response.aiter_bytes()])
        return await asyncio.to_thread(lambda: b"".join(response.iter_bytes()))

    async def end(self, it: Any) -> None:
        if self.is_async:
            await it.aclose()
        else:
            it.close()

    async def ask(self, base_url: str, **timeouts: float | None) -> bytes:
        response = await self.send(request(base_url, **timeouts))
        try:
            return await self.read(response)
        finally:
            await self.end(response)


@pytest.fixture(params=["sync", "async"])
async def both(request: pytest.FixtureRequest) -> Any:
    client = Both(request.param)
    yield client
    await client.end(client.client)


async def test_connections_are_kept_and_closed_once_they_are_idle(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    later: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr(both.pool, "_call_later", lambda *call: later.append(call))
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with raw_server(server) as base_url:
        for _ in range(3):
            assert await both.ask(base_url) == ANSWER
        assert (server.connections, server.requests) == (1, 3)
        [(seconds, on_time)] = later
        assert seconds == 30
        now = 120.0
        await both.ask(base_url)  # it has been used since
        now = 130.0
        on_time()
        assert later[-1][0] == 20
        now = 150.0
        later[-1][1]()
        assert await asyncio.to_thread(server.ended.acquire, timeout=10)
        assert len(later) == 2  # nothing is left to wait for
        await both.ask(base_url)
        assert server.connections == 2
        assert len(later) == 3


async def test_a_closed_client_sends_nothing(both: Both) -> None:
    server = Server()
    with raw_server(server) as base_url:
        held = await both.send(request(base_url))
        await both.end(both.client)
        with pytest.raises(RuntimeError, match="closed"):
            await both.send(request(base_url))
        await both.end(held)
        assert await asyncio.to_thread(server.ended.acquire, timeout=10)
        assert server.requests == 1


async def test_a_body_can_not_be_read_once_its_connection_is_given_back(
    both: Both,
) -> None:
    with raw_server(Server()) as base_url:
        response = await both.send(request(base_url))
        await both.end(response)
        await both.end(response)  # counts once
        response._body = b""
        with pytest.raises(httpx2.StreamClosed):
            await both.read(response)


@pytest.mark.parametrize("phase", ["read", "write", "pool", "connect"])
async def test_each_phase_has_its_limit(both: Both, phase: str) -> None:
    release = threading.Event()

    def silent(_: socket.socket) -> None:
        release.wait(20)

    with raw_server(silent) as base_url:
        scheme = "https" if phase == "connect" else "http"  # no handshake
        sent = request(base_url.replace("http", scheme), **{phase: 0.1})
        if phase == "write":
            sent.content = b"x" * 50_000_000
        elif phase == "pool":
            kind: Any = asyncio if both.is_async else threading
            both.client._turns = kind.Semaphore(0)
        with pytest.raises(getattr(httpx2, f"{phase.title()}Timeout")):
            await both.send(sent)
        release.set()


async def test_a_request_that_the_server_can_not_have_seen_is_marked(both: Both) -> None:
    """Writing to a kept connection fails before the last byte."""

    def answer_then_reset(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(WHOLE)
        connection.recv(10)  # of the next request
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with raw_server(answer_then_reset) as base_url:
        await both.ask(base_url)
        sent = request(base_url)
        sent.content = b"x" * 50_000_000
        with pytest.raises(httpx2.TransportError) as caught:
            await both.send(sent)
        assert getattr(caught.value, "is_unseen", False) is True


async def test_a_request_that_was_sent_as_a_whole_is_not(both: Both) -> None:
    def answer_then_close(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(WHOLE)
        read_request(connection)

    with raw_server(answer_then_close) as base_url:
        await both.ask(base_url)
        with pytest.raises(httpx2.RemoteProtocolError) as caught:
            await both.send(request(base_url))
        assert not getattr(caught.value, "is_unseen", False)


async def test_an_early_answer_is_read_though_the_request_is_not(both: Both) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with raw_server(refuse) as base_url:
        sent = request(base_url)
        sent.content = b"x" * 20_000_000
        response = await both.send(sent)
        assert response.status_code == 413
        assert await both.read(response) == b"no"
        await both.end(response)


@WAYS
async def test_an_encoded_body_is_bounded_by_what_it_becomes(way: str) -> None:
    bomb = gzip.compress(b'{"a": "' + b"x" * 50_000_000)
    head = HEAD + b"content-encoding: gzip\r\n" + LENGTH % len(bomb)
    with raw_server(Server(head + bomb)) as base_url:
        chat = model(base_url, max_response_bytes=1_000_000)
        with pytest.raises(NscaleMalformedResponseError, match="max_response_bytes"):
            await consume(chat, "Hi", way)


async def test_a_fast_server_waits_for_a_slow_reader() -> None:
    """What is received but not read is bounded, however much is sent."""
    body = b"x" * 50_000_000
    client: Any = make_async_client("http://127.0.0.1")
    with raw_server(Server(HEAD + LENGTH % len(body) + body)) as base_url:
        response = await client.send(request(base_url))
        for _ in range(2000):  # the event loop runs, and nobody reads
            await asyncio.sleep(0)
        assert response._connection._unread_size < 2_000_000
        size = sum([len(piece) async for piece in response.aiter_bytes()])
        assert size == len(body)
        await response.aclose()
    await client.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="another queue of connections")
async def test_an_address_that_does_not_answer_does_not_hold_up_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]  # more than its queue takes
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        with socket.create_server(("127.0.0.1", 0)) as listener:

            async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
                kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
                return [(*kind, s.getsockname()) for s in (full, listener)]

            loop = asyncio.get_running_loop()
            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
            opened = await asyncio.wait_for(open_socket("two.example", 1), 10)
            assert opened.getpeername() == listener.getsockname()
            opened.close()
        for each in waiting:
            each.close()


async def test_a_host_of_which_no_address_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        kind = (socket.SOCK_STREAM, 6, "")
        return [(socket.AF_INET, *kind, ("127.0.0.1", 1))] * 3

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectionRefusedError):
        await open_socket("none.example", 1)


def test_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="not on Windows")
    server = Server()
    events = b"".join(
        b"data: %b\n\n" % json.dumps(chunk).encode()
        for chunk in (
            {"choices": [{"index": 0, "delta": {"content": "a"}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        )
    )
    stream = Server(HEAD + b"\r\n" + events)  # without an end, so the grace ends it

    async def run(answering: str, streaming: str) -> None:
        for _ in range(3):
            assert (await model(answering).ainvoke("Hi")).text == "yes"
        assert server.connections == 1
        chunks = [chunk async for chunk in model(streaming).astream("Hi")]
        assert "".join(chunk.text for chunk in chunks) == "a"

    loop = uvloop.new_event_loop()
    with raw_server(server) as answering, raw_server(stream) as streaming:
        loop.run_until_complete(run(answering, streaming))
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
