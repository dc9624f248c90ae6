"""Each time limit of a call, as listed in `Limits`, by the public settings."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest

from langchain_nscale import (
    NscaleError,
    NscaleStalledStreamError,
    NscaleTimeoutError,
    aclose_connections,
    close_connections,
)
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.test_chat import WAYS, consume
from tests.integration.test_connections import (
    ANSWERED,
    HEAD,
    model,
    raw_server,
    read_request,
    silence,
)


@contextmanager
def full_listener() -> Iterator[str]:
    """Yield an address at which connections are not completed: its queue is full."""
    with ExitStack() as stack:
        listener = socket.socket()
        stack.enter_context(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/v1"


def read_nothing(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reading_may_begin.wait(30)


reading_may_begin = threading.Event()


def half_an_answer(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(HEAD + b"content-length: 100\r\n\r\n{")
    connection.recv(1)


def no_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 500 Oh\r\ncontent-length: 100\r\n\r\n{")
    connection.recv(1)


# What the server does, the phase's limit, and the part of the message that names it.
PHASES: dict[str, tuple[Callable[[socket.socket], None], dict[str, float], str]] = {
    "write": (read_nothing, {"write": 0.3}, "WriteTimeout"),
    "read the head": (silence, {"read": 0.3}, "ReadTimeout"),
    "read the body": (half_an_answer, {"read": 0.3}, "ReadTimeout"),
}


async def failure(way: str, base_url: str, prompt: str = "Hi", **settings: Any) -> Any:
    with pytest.raises(NscaleError) as caught:
        await consume(model(base_url, **settings), prompt, way)
    close_connections()
    await aclose_connections()
    return caught.value


@WAYS
async def test_connect(way: str, clients: dict[str, Any]) -> None:
    with full_listener() as base_url:
        error = await failure(way, base_url, timeout=(0.3, 60), **clients)
    assert type(error) is NscaleTimeoutError
    assert "ConnectTimeout" in str(error)
    assert "Raise `timeout`" in str(error)


@WAYS
async def test_connect_with_tls(way: str, clients: dict[str, Any]) -> None:
    """The server accepts the connection, and does not answer the handshake."""
    with raw_server(read_nothing) as base_url:
        reading_may_begin.clear()
        address = base_url.replace("http", "https")
        error = await failure(way, address, timeout=(0.3, 60), **clients)
        reading_may_begin.set()
    assert type(error) is NscaleTimeoutError
    assert "ConnectTimeout" in str(error)


@WAYS
@pytest.mark.parametrize("phase", PHASES)
async def test_write_and_read(way: str, clients: dict[str, Any], phase: str) -> None:
    handle, limit, name = PHASES[phase]
    timeout = httpx2.Timeout(60, **limit)
    prompt = "x" * 20_000_000 if phase == "write" else "Hi"
    reading_may_begin.clear()
    with raw_server(handle) as base_url:
        error = await failure(way, base_url, prompt, timeout=timeout, **clients)
        reading_may_begin.set()
    is_stream = way in ("stream", "astream") and phase == "read the body"
    expected = NscaleStalledStreamError if is_stream else NscaleTimeoutError
    assert type(error) is expected
    assert name in f"{error} {error.__cause__}"


@WAYS
async def test_the_status_of_an_error_counts_even_if_its_body_does_not_come(
    way: str,
) -> None:
    with raw_server(no_body) as base_url:
        error = await failure(way, base_url, timeout=(60, 0.3))
    assert error.status_code == 500


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_pool(way: str, is_shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared clients have as many connections as the process can open."""
    resource: Any = pytest.importorskip("resource", reason="there is no such limit")
    close_connections()
    await aclose_connections()
    held = threading.Event()
    release = threading.Event()

    def hold(connection: socket.socket) -> None:
        read_request(connection)
        held.set()
        release.wait(30)
        connection.sendall(ANSWERED)

    one = httpx2.Limits(max_connections=1)
    timeout = httpx2.Timeout(60, pool=0.3)
    with raw_server(hold) as base_url, httpx2.Client(limits=one) as client:
        async with httpx2.AsyncClient(limits=one) as async_client:
            own = {"http_client": client, "http_async_client": async_client}
            chat = model(base_url, timeout=timeout, **({} if is_shared else own))
            monkeypatch.setattr(resource, "getrlimit", lambda _: (2, 2))
            if way == "ainvoke":
                first = asyncio.ensure_future(chat.ainvoke("Hi"))
            else:
                first = asyncio.ensure_future(asyncio.to_thread(chat.invoke, "Hi"))
            await asyncio.to_thread(held.wait, 30)
            with pytest.raises(NscaleTimeoutError, match="PoolTimeout"):
                await consume(chat, "Hi", way)
            release.set()
            assert (await first).text == "yes"
    close_connections()
    await aclose_connections()


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["silence", "keep-alives"])
async def test_stall(make: Any, server: NscaleServer, way: str, pause: float) -> None:
    server.add(ServerReply(text="a b c", stall_after=2, pause=pause))
    with pytest.raises(NscaleStalledStreamError, match=r"no event for 0\.3 s") as caught:
        await consume(make(stream_chunk_timeout=0.3), "Hi", way)
    assert caught.value.partial is not None
    assert caught.value.timeout_s == 0.3


@WAYS
async def test_the_first_bytes_of_a_stream_have_longer(
    make: Any, server: NscaleServer, way: str
) -> None:
    server.add(ServerReply(text="a", delay=0.5))
    assert (await consume(make(stream_chunk_timeout=0.1), "Hi", way)).text == "a"


# The limits `grace` and `total` are those of `test_a_stream_ends_when_the_reply_does`
# and `test_a_call_ends_in_time_whatever_the_server_does`.
