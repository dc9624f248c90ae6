"""The clients that send without httpx2: keeping, limiting and closing connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import sys
import threading
import time
from asyncio import to_thread
from typing import Any

import pytest

from langchain_nscale import (
    NscaleConnectionError,
    NscaleError,
    NscaleMalformedResponseError,
    aclose_connections,
    close_connections,
)
from tests.integration.test_chat import WAYS, consume
from tests.integration.test_connections import (
    ANSWER,
    CHUNK,
    HEAD,
    model,
    raw_server,
    read_request,
)

LENGTH = b"content-length: %d\r\n\r\n"
FINISH = (
    b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
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


CLIENTS = pytest.mark.parametrize("way", ["stream", "astream"], ids=["sync", "async"])


async def close() -> None:
    close_connections()
    await aclose_connections()


class Left:
    """A stream, sync or async, that is read in steps."""

    def __init__(self, chat: Any, way: str) -> None:
        self._stream: Any = getattr(chat, way)("Hi")
        self._is_async = way == "astream"

    async def next(self) -> Any:
        if self._is_async:
            return await anext(self._stream)
        return await asyncio.to_thread(next, self._stream)

    async def close(self) -> None:
        await (self._stream.aclose() if self._is_async else to_thread(self._stream.close))


async def test_connections_are_closed_once_they_are_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    clock = time.monotonic
    with raw_server(server) as base_url:
        for _ in range(3):
            assert (await model(base_url).ainvoke("Hi")).text == "yes"
        assert (server.connections, server.requests) == (1, 3)
        monkeypatch.setattr("time.monotonic", lambda: clock() + 31)
        assert await to_thread(server.ended.acquire, timeout=10)
        assert (await model(base_url).ainvoke("Hi")).text == "yes"
        assert server.connections == 2


def one_event_of_many(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(HEAD + b"\r\n" + CHUNK)
    connection.recv(1)  # until its end


@CLIENTS
async def test_closing_ends_connections_in_use(way: str) -> None:
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        one_event_of_many(connection)
        ended.set()

    with raw_server(answer) as base_url:
        stream = Left(model(base_url), way)
        assert (await stream.next()).text == "a"
        await close()
        assert await to_thread(ended.wait, 10)
        with pytest.raises(NscaleError):
            await stream.next()


async def test_a_closed_client_sends_nothing() -> None:
    """It was closed after the call had begun."""
    server = Server()

    def token() -> str:
        close_connections()
        return "t"

    async def atoken() -> str:
        await aclose_connections()
        return "t"

    with raw_server(server) as base_url:
        await close()
        with pytest.raises(RuntimeError, match="closed"):
            model(base_url, service_token=token).invoke("Hi")
        with pytest.raises(RuntimeError, match="closed"):
            await model(base_url, service_token=atoken).ainvoke("Hi")
        assert server.requests == 0


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_request_that_the_server_can_not_have_seen_is_sent_again(
    way: str,
) -> None:
    """Writing to a kept connection fails before the last byte."""
    connections = []

    def answer_then_reset(connection: socket.socket) -> None:
        connections.append(1)
        if len(connections) > 1:
            connection.sendall(WHOLE)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(2**20):
                pass
            return
        read_request(connection)
        connection.sendall(WHOLE)
        connection.recv(10)  # of the next request
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with raw_server(answer_then_reset) as base_url:
        chat = model(base_url, max_retries=0)
        await consume(chat, "Hi", way)
        message = await consume(chat, "x" * 50_000_000, way)
        assert message.text == "yes"
        assert message.response_metadata["retries"] == 1
        assert len(connections) == 2


@WAYS
async def test_an_early_answer_is_read_though_the_request_is_not(way: str) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with raw_server(refuse) as base_url:
        with pytest.raises(NscaleError, match="no") as caught:
            await consume(model(base_url), "x" * 20_000_000, way)
        assert caught.value.status_code == 413


@WAYS
async def test_an_encoded_body_is_bounded_by_what_it_becomes(way: str) -> None:
    bomb = gzip.compress(b'{"a": "' + b"x" * 50_000_000)
    head = HEAD + b"content-encoding: gzip\r\n" + LENGTH % len(bomb)
    with raw_server(Server(head + bomb)) as base_url:
        chat = model(base_url, max_response_bytes=1_000_000)
        with pytest.raises(NscaleMalformedResponseError, match="max_response_bytes"):
            await consume(chat, "Hi", way)


@CLIENTS
async def test_a_fast_server_waits_for_a_slow_reader(way: str) -> None:
    """What is received but not read is bounded, however much is sent."""
    comments = (b": " + b"x" * 65_000 + b"\n\n") * 4
    size = 200 * len(comments)
    sent = 0
    has_sent_some = threading.Event()

    def answer(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(HEAD + b"\r\n" + CHUNK)
        for _ in range(200):
            connection.sendall(comments)
            sent += len(comments)
            has_sent_some.set()
        connection.sendall(FINISH)

    with raw_server(answer) as base_url:
        stream = Left(model(base_url), way)
        assert (await stream.next()).text == "a"
        assert await to_thread(has_sent_some.wait, 10)
        for _ in range(2000):  # the event loop runs, and nobody reads
            await asyncio.sleep(0)
        assert sent < size / 2  # the rest of it is in the buffers of both sockets
        assert (await stream.next()).chunk_position == "last"
        assert sent == size
        await stream.close()


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
            chat = model("http://two.example/v1", allow_insecure_http=True)
            call = asyncio.ensure_future(chat.ainvoke("Hi"))
            connection, _ = await to_thread(listener.accept)
            with connection:
                await to_thread(read_request, connection)
                connection.sendall(WHOLE)
                assert (await asyncio.wait_for(call, 10)).text == "yes"
        for each in waiting:
            each.close()


async def test_a_host_of_which_no_address_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        kind = (socket.SOCK_STREAM, 6, "")
        return [(socket.AF_INET, *kind, (f"127.0.0.{n}", 1)) for n in (1, 2, 3)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    # The first one is what users know.
    with pytest.raises(
        NscaleConnectionError, match=r"none\.example failed.*127\.0\.0\.1"
    ):
        await model("http://none.example/v1", allow_insecure_http=True).ainvoke("Hi")


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
