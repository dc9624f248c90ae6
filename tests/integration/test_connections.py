"""Connections that end, drip or run out, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from langchain_nscale import (
    ChatNscale,
    NscaleConnectionError,
    NscaleTimeoutError,
    aclose_connections,
    close_connections,
)
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.test_chat import WAYS, consume

ANSWER = (
    b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], '
    b'"id": "c", "model": "m"}'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'


@contextmanager
def raw_server(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve each connection with a function; yield the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            handle(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_sockets.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in open_sockets:
            each.close()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head


def model(base_url: str, **settings: Any) -> ChatNscale:
    defaults: dict[str, Any] = {"model": "m", "service_token": "t", "max_retries": 0}
    return ChatNscale(**{**defaults, "base_url": base_url, **settings})


ANSWERED = HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_kept_connection_that_was_closed_does_not_fail_a_call(
    way: str, clients: dict[str, Any]
) -> None:
    closed = threading.Event()

    def answer_then_close(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(ANSWERED)  # as if the connection stayed open
        connection.close()
        closed.set()

    with raw_server(answer_then_close) as base_url:
        chat = model(base_url, **clients)
        for _ in range(10):
            closed.clear()
            assert (await consume(chat, "Hi", way)).content == "yes"
            assert closed.wait(10)


@WAYS
async def test_a_request_that_was_read_is_not_sent_again(
    way: str, clients: dict[str, Any]
) -> None:
    """Each may be paid for, even if the connection is an old one."""
    requests: list[bytes] = []

    def answer_once(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(ANSWERED)
        requests.append(read_request(connection))

    with raw_server(answer_once) as base_url:
        chat = model(base_url, **clients)
        first = "ainvoke" if way.startswith("a") else "invoke"
        assert (await consume(chat, "Hi", first)).content == "yes"
        with pytest.raises(NscaleConnectionError) as caught:
            await consume(chat, "Hi", way)
    assert len(requests) == 1
    assert caught.value.retries == 0


@WAYS
async def test_a_new_connection_that_is_closed_is_a_fault(way: str) -> None:
    requests = []

    def hang_up(connection: socket.socket) -> None:
        requests.append(read_request(connection))

    with raw_server(hang_up) as base_url, pytest.raises(NscaleConnectionError):
        await consume(model(base_url), "Hi", way)
    assert len(requests) == 1


def drip_head(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
    drip(connection, b"x")


def drip_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(HEAD + b"content-length: 100000\r\n\r\n")
    drip(connection, b" ")


def drip_events(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    drip(connection, CHUNK)


def silence(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)


def drip(connection: socket.socket, data: bytes) -> None:
    for _ in range(1000):
        connection.sendall(data)
        time.sleep(0.02)  # the fault to survive, not a wait for something


@WAYS
@pytest.mark.parametrize("fault", [drip_head, drip_body, drip_events, silence])
async def test_a_call_ends_in_time_whatever_the_server_does(
    way: str, fault: Callable[[socket.socket], None]
) -> None:
    with raw_server(fault) as base_url:
        chat = model(base_url, total_timeout=0.4, max_retries=3)
        start = time.monotonic()
        with pytest.raises(NscaleTimeoutError, match="total_timeout") as caught:
            await consume(chat, "Hi", way)
        assert time.monotonic() - start < 10
        if fault is drip_events and "stream" in way:
            assert caught.value.partial is not None
            assert set(caught.value.partial.text) == {"a"}
        close_connections()
        await aclose_connections()


async def test_waits_between_retries_count(make: Any, server: NscaleServer) -> None:
    server.add(*[ServerReply.error(503, "busy", headers={"retry-after": "9"})] * 3)
    with pytest.raises(Exception, match="503") as caught:
        make(max_retries=2, total_timeout=5).invoke("Hi")
    assert caught.value.retries == 0  # type: ignore[attr-defined]  # an NscaleError
    assert len(server.requests) == 1


async def test_a_call_that_ends_in_time_is_not_limited(
    make: Any, server: NscaleServer
) -> None:
    server.add(*["Hello"] * 4)
    chat = make(total_timeout=60)
    for way in ("invoke", "ainvoke", "stream", "astream"):
        assert (await consume(chat, "Hi", way)).content == "Hello"


MANY = """
import asyncio, resource, sys
from langchain_nscale import ChatNscale
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
model = ChatNscale(model="m", service_token=sys.argv[2], base_url=sys.argv[1],
                   max_retries=0)
async def main():
    answers = await asyncio.gather(*(model.ainvoke(f"{i}") for i in range(300)))
    print(len({a.id for a in answers}))
asyncio.run(main())
"""


def test_more_calls_than_open_files_wait_for_their_turn(server: NscaleServer) -> None:
    pytest.importorskip("resource", reason="there is no limit on open files")
    command = [sys.executable, "-c", MANY, server.base_url, server.token]
    output = subprocess.check_output(command, text=True, timeout=100)  # noqa: S603
    assert output.strip() == "300"


async def test_kept_connections_are_probed(make: Any, server: NscaleServer) -> None:
    """As ChatOpenAI's are: a peer that is gone is noticed within minutes."""
    server.add("a", "b")
    opened: list[Any] = []
    connect = socket.socket.setsockopt

    def setsockopt(self: socket.socket, *args: Any) -> None:
        opened.append(args[:3])
        connect(self, *args)

    close_connections()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "setsockopt", setsockopt)
        make().invoke("Hi")
        await make().ainvoke("Hi")
    assert opened.count((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)) >= 2


DONE = (
    CHUNK
    + b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    + b"data: [DONE]\n\n"
)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(DONE), DONE)
)
END = b"0\r\n\r\n"  # of a body in chunks


class Streams:
    """Streams a reply to each request, and counts the connections."""

    def __init__(
        self, gap: float | None = 0.0, delay: float = 0.0, end: bytes = END
    ) -> None:
        """Begin.

        Args:
            gap: Seconds between `[DONE]` and the end of the body; `None` for no end.
            delay: Seconds before each reply but the first of a connection.
            end: What follows `[DONE]`.
        """
        self.connections = 0
        self._gap = gap
        self._delay = delay
        self._end = end

    def __call__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        first = True
        while read_request(connection):
            time.sleep(0 if first else self._delay)
            first = False
            if self._gap is None:
                connection.sendall(CHUNKED)
                continue
            if not self._gap:
                connection.sendall(CHUNKED + self._end)
                continue
            connection.sendall(CHUNKED)
            time.sleep(self._gap)
            connection.sendall(self._end)


@pytest.mark.parametrize(
    ("gap", "end"),
    [(0.0, END), (0.005, END), (0.005, b"8\r\n: ping\n\n\r\n" + END)],
    ids=["at once", "5 ms later", "with a ping, 5 ms later"],
)
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_streams_in_a_row_share_a_connection(
    way: str, gap: float, end: bytes, clients: dict[str, Any]
) -> None:
    streams = Streams(gap, end=end)
    with raw_server(streams) as base_url:
        chat = model(base_url, **clients)
        for _ in range(10):
            assert (await consume(chat, "Hi", way)).text == "a"
        close_connections()
        await aclose_connections()
    # A busy machine may take longer than 50 ms to send the end.
    assert streams.connections <= (1 if not gap else 3)


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_body_that_does_not_end_costs_its_connection(
    way: str, clients: dict[str, Any]
) -> None:
    streams = Streams(gap=None)
    with raw_server(streams) as base_url:
        chat = model(base_url, **clients)
        for _ in range(4):
            assert (await consume(chat, "Hi", way)).text == "a"
        close_connections()
        await aclose_connections()
    assert streams.connections == 4


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_no_timer_of_a_stream_that_has_ended_cuts_the_next(
    way: str, clients: dict[str, Any]
) -> None:
    streams = Streams(delay=0.6)
    with raw_server(streams) as base_url:
        assert (
            await consume(model(base_url, total_timeout=0.5, **clients), "Hi", way)
        ).text == "a"
        assert (await consume(model(base_url, **clients), "Hi", way)).text == "a"
        close_connections()
        await aclose_connections()
    assert streams.connections == 1


async def test_a_busy_event_loop_keeps_its_connections() -> None:
    connections = 0
    loop, has_ended = asyncio.get_running_loop(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2]
                await reader.readexactly(int(length.split()[0]))
                writer.write(CHUNKED)
                await writer.drain()
                for _ in range(5):  # until the client waits for the end
                    await asyncio.sleep(0)
                busy_until = loop.time() + 0.06  # longer than the client waits
                while loop.time() < busy_until:
                    pass
                writer.write(END)
        writer.close()
        await writer.wait_closed()
        has_ended.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        chat = ChatNscale(
            model="m", service_token="t", base_url=f"http://127.0.0.1:{port}/v1"
        )
        for _ in range(3):
            assert (await consume(chat, "Hi", "astream")).text == "a"
        await aclose_connections()
        await asyncio.wait_for(has_ended.wait(), 20)
    assert connections == 1
