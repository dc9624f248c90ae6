"""Certificates are checked unless the user's own client says otherwise."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from langchain_nscale import ChatNscale, NscaleConnectionError, aclose_connections
from langchain_nscale.testing import NscaleServer
from tests.integration.test_chat import WAYS, consume

PEM = Path(__file__).with_name("localhost.pem")
BODY = b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY) + BODY
)


@pytest.fixture
def address() -> Iterator[str]:
    """A server whose certificate nobody has signed; it answers one request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # what a client does that doesn't trust it
            plain, _ = listener.accept()
            with plain, context.wrap_socket(plain, server_side=True) as connection:
                asked = b""
                while not asked.endswith(b"}"):  # head and body may come apart
                    asked += connection.recv(65536)
                connection.sendall(ANSWER)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.close()
    thread.join(5)


async def test_a_call_that_is_cancelled_in_the_handshake_closes_its_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        model = ChatNscale(model="m", api_key="t", base_url=base_url, max_retries=0)
        task = asyncio.ensure_future(model.ainvoke("Hi"))
        connection, _ = await asyncio.to_thread(listener.accept)
        with connection:
            assert await asyncio.to_thread(
                connection.recv, 1
            )  # its side of the handshake
            gc.disable()
            try:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                connection.settimeout(10)
                while await asyncio.to_thread(connection.recv, 65536):
                    pass  # up to its end
            finally:
                gc.enable()


async def test_a_cancel_at_any_moment_of_connecting_prints_nothing() -> None:
    printed: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: printed.append(context))
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        base_url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        model = ChatNscale(model="m", api_key="t", base_url=base_url, max_retries=0)
        for ticks in range(40):
            task = asyncio.ensure_future(model.ainvoke("Hi"))
            if not ticks:  # what only the first call waits for is ready then
                (await asyncio.to_thread(listener.accept))[0].close()
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    await aclose_connections()
    gc.collect()
    assert not printed


@WAYS
async def test_an_unknown_certificate_is_refused(
    address: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PYTHONHTTPSVERIFY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(variable, "0")
    model: Any = ChatNscale(model="m", api_key="t", base_url=address, max_retries=0)
    with pytest.raises(NscaleConnectionError, match=r"certificate|CERTIFICATE"):
        await consume(model, "Hi", way)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
async def test_https_to_a_port_for_http_says_so(way: str) -> None:
    with NscaleServer() as server:
        address = server.base_url.replace("http:", "https:")
        model: Any = ChatNscale(model="m", api_key="t", base_url=address)
        with pytest.raises(NscaleConnectionError, match="without TLS at this port"):
            await consume(model, "Hi", way)
        assert server.requests == []


@WAYS
async def test_a_certificate_of_the_environment_is_trusted(
    address: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    model: Any = ChatNscale(model="m", api_key="t", base_url=address, max_retries=0)
    assert (await consume(model, "Hi", way)).text == "Hi"


def test_whoever_trusts_it_says_so(address: str) -> None:
    trusting = ssl.create_default_context(cafile=str(PEM))
    with httpx2.Client(verify=trusting) as client:
        model = ChatNscale(model="m", api_key="t", base_url=address, http_client=client)
        assert model.invoke("Hi").text == "Hi"
