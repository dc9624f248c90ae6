"""Which client the environment demands."""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import httpx2
import pytest

from langchain_nscale._http import environment, sockets
from langchain_nscale._http.address import is_local
from langchain_nscale._http.blocking import DirectClient
from langchain_nscale._http.client import Httpx2Client
from langchain_nscale._http.environment import make_async_client, make_client
from langchain_nscale._http.looped import AsyncDirectClient

REMOTE = "https://inference.api.nscale.com/v1"


def test_connections_are_bounded_by_the_limit_on_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource", reason="there is no such limit")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert sockets.max_connections() == 768
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert sockets.max_connections() == sys.maxsize


async def both(base_url: str) -> tuple[Any, Any]:
    sync, looped = make_client(base_url), make_async_client(base_url)
    sync.close()
    await looped.aclose()
    return sync, looped


async def test_a_proxy_of_the_environment_is_honoured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxies = {"no": "127.0.0.1"}
    monkeypatch.setattr(environment, "getproxies", lambda: proxies)
    sync, looped = await both(REMOTE)
    assert isinstance(sync, DirectClient)
    assert isinstance(looped, AsyncDirectClient)
    proxies = {"https": "http://proxy:3128"}
    for client in await both(REMOTE):
        assert isinstance(client, Httpx2Client)
    for client in await both("http://127.0.0.1:8000/v1"):
        assert not isinstance(client, Httpx2Client)


async def test_httpx2_sends_where_there_is_no_wheel_of_httptools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "is_direct", False)
    for client in await both(REMOTE):
        assert isinstance(client, Httpx2Client)
        assert isinstance(
            client.client._transport,
            (httpx2.HTTPTransport, httpx2.AsyncHTTPTransport),
        )


async def test_the_headers_are_those_of_httpx2() -> None:
    expected = httpx2.Client(trust_env=False, verify=ssl.create_default_context())
    for client in await both(REMOTE):
        assert httpx2.Headers(client.headers) == expected.headers
    expected.close()


def test_an_unusable_certificate_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")
    with pytest.raises(ValueError, match=r"SSL_CERT_FILE is '/nonexistent\.pem'"):
        environment.ssl_context()


def test_one_ssl_context_serves_all_loops() -> None:
    context = environment.ssl_context()

    async def again() -> ssl.SSLContext:
        return environment.ssl_context()

    assert asyncio.run(again()) is context


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.255.3.4/v1", True),
        ("http://[::1]/v1", True),
        ("http://[::ffff:127.0.0.1]/v1", True),
        ("http://0.0.0.0:8000", True),
        ("http://localhost", True),
        ("http://LOCALHOST", True),
        ("http://model.localhost", True),
        ("http://128.0.0.1", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("https://inference.api.nscale.com/v1", False),
        ("http://[::ffff:10.0.0.1]/v1", False),
        ("", False),
        ("http://a..b", False),
    ],
)
def test_which_addresses_are_this_machines(url: str, local: bool) -> None:
    assert is_local(url) is local
