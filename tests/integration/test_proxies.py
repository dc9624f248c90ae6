"""What proxies answer: sent once where a repetition can't help, and the hop is named."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest

from langchain_nscale import (
    ChatNscale,
    NscaleConnectionError,
    NscaleError,
    NscaleInvalidRequestError,
    NscalePermissionDeniedError,
)
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL
from tests.integration.test_chat import WAYS, consume

pytestmark = pytest.mark.usefixtures("fresh_clients")

SQUID = b"<!DOCTYPE html><html><body>Access Denied</body></html>"


class Proxy:
    """Answers every request, a CONNECT or not, with one status."""

    def __init__(self, answer: bytes) -> None:
        self.requests: list[bytes] = []
        self.answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
                self.requests.append(head)
                connection.sendall(self.answer)

    def close(self) -> None:
        self._socket.close()


def answer(status: str, body: bytes = SQUID) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: text/html\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy(answer("407 Proxy Authentication Required"))
    yield proxy
    proxy.close()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port


def model(**settings: Any) -> ChatNscale:
    return ChatNscale(
        **{
            "model": MODEL,
            "base_url": "https://service.example/v1",
            "service_token": "t",
            **settings,
        }
    )


@WAYS
@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("407 Proxy Authentication Required", "user and password"),
        ("403 Forbidden", r"service\.example allowed.*NO_PROXY"),
        ("401 Unauthorized", r"service\.example allowed"),
        ("405 Method Not Allowed", "can reach"),
    ],
)
async def test_a_refused_connection_is_asked_for_once(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, way: str, status: str, says: str
) -> None:
    proxy.answer = answer(status)
    # pragma: allowlist nextline secret
    monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.address}")
    with pytest.raises(NscaleConnectionError, match=says) as caught:
        await consume(model(), "Hi", way)
    message = str(caught.value)
    assert f"proxy http://{proxy.address} (https_proxy)" in message
    assert "token" not in message
    assert "secret" not in message
    assert not caught.value.is_retryable
    assert [head.split()[0] for head in proxy.requests] == [b"CONNECT"]


@WAYS
async def test_a_proxy_that_cannot_reach_the_service_is_asked_again(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    proxy.answer = answer("503 Service Unavailable")
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    with pytest.raises(NscaleConnectionError, match=r"HTTPS_PROXY.*can reach service"):
        await consume(model(max_retries=1), "Hi", way)
    assert len(proxy.requests) == 2


@WAYS
async def test_a_proxy_that_is_down(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    address = f"127.0.0.1:{unused_port()}"
    # pragma: allowlist nextline secret
    monkeypatch.setenv("ALL_PROXY", f"http://me:secret@{address}")
    with pytest.raises(NscaleConnectionError) as caught:
        await consume(model(max_retries=0), "Hi", way)
    hop = f"connection to the proxy http://{address} (ALL_PROXY) failed"
    assert hop in str(caught.value)
    assert "secret" not in str(caught.value)


@WAYS
async def test_without_a_proxy_the_service_is_named(way: str) -> None:
    base_url = f"http://127.0.0.1:{unused_port()}/v1"
    with pytest.raises(NscaleConnectionError, match=r"connection to 127\.0\.0\.1 failed"):
        await consume(model(base_url=base_url, max_retries=0), "Hi", way)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_the_proxy_of_a_users_own_client(proxy: Proxy, library: Any) -> None:
    with (
        library.Client(proxy=f"http://{proxy.address}") as client,
        pytest.raises(NscaleConnectionError, match="The proxy refused") as caught,
    ):
        model(http_client=client).invoke("Hi")
    assert not caught.value.is_retryable
    assert len(proxy.requests) == 1


@WAYS
@pytest.mark.parametrize("status", [401, 403])
async def test_a_page_is_not_the_tokens_fault(
    server: NscaleServer, way: str, status: int
) -> None:
    headers = {"content-type": "text/html"}
    server.add(ServerReply(status=status, body=SQUID, headers=headers))
    with pytest.raises(NscaleError, match="A proxy or gateway answered") as caught:
        await consume(ChatNscale(model=MODEL, **server.settings), "Hi", way)
    assert "Check the service token" not in str(caught.value)
    assert "Grant the service token" not in str(caught.value)
    assert len(server.requests) == 1


async def test_the_services_own_denial_is_the_tokens_fault(server: NscaleServer) -> None:
    server.add(ServerReply.error(403, "inference:write is missing"))
    with pytest.raises(NscalePermissionDeniedError, match=r"Nscale answered 403.*Grant"):
        ChatNscale(model=MODEL, **server.settings).invoke("Hi")


@WAYS
async def test_a_407_without_connect(server: NscaleServer, way: str) -> None:
    server.add(ServerReply(status=407, body=SQUID))
    with pytest.raises(NscaleInvalidRequestError, match=r"gateway answered 407.*user"):
        await consume(ChatNscale(model=MODEL, **server.settings), "Hi", way)
    assert len(server.requests) == 1
