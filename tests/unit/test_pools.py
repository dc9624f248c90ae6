from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from langchain_nscale._http import pools as _pools
from langchain_nscale._http.address import is_local
from langchain_nscale._http.pools import PooledTransport, make_async_client


class Pool(httpx2.AsyncBaseTransport):
    """Stands for one connection pool; records what it was given."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if request.url.path == "/fail":
            msg = "no"
            raise httpx2.ConnectError(msg)
        return httpx2.Response(200, stream=httpx2.ByteStream(b"ok"))

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Pool]:
    made: list[Pool] = []

    def make(**_: Any) -> Pool:
        made.append(Pool())
        return made[-1]

    monkeypatch.setattr("httpx2.AsyncHTTPTransport", make)
    return made


async def test_calls_in_turn_share_a_pool_and_calls_at_once_are_spread(
    pools: list[Pool],
) -> None:
    async with httpx2.AsyncClient(transport=PooledTransport()) as client:
        for _ in range(3):
            assert (await client.get("http://x/")).text == "ok"
        assert [len(pool.requests) for pool in pools[:3]] == [3, 0, 0]
        request = client.build_request("GET", "http://x/")
        held = [await client.send(request, stream=True) for _ in range(40)]
        assert [len(pool.requests) for pool in pools] == [5] + [2] * 7 + [1] * 24
        for response in held:
            await response.aclose()
            await response.aclose()  # counts once
        await client.get("http://x/")
        assert len(pools[0].requests) == 6
    assert all(pool.closed for pool in pools)


async def test_a_request_that_fails_leaves_its_pool_free(pools: list[Pool]) -> None:
    async with httpx2.AsyncClient(transport=PooledTransport()) as client:
        for _ in range(3):
            with pytest.raises(httpx2.ConnectError):
                await client.get("http://x/fail")
    assert len(pools[0].requests) == 3


async def test_idle_pools_close_their_connections(
    pools: list[Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = PooledTransport()
    async with httpx2.AsyncClient(transport=transport) as client:
        request = client.build_request("GET", "http://x/")
        held = [await client.send(request, stream=True) for _ in range(3)]
        for response in held[:2]:
            await response.aclose()
        transport.close_idle()
        assert not any(pool.closed for pool in pools)  # used a moment ago
        monkeypatch.setattr(_pools, "KEEPALIVE", 0.0)
        transport.close_idle()
        await asyncio.gather(*transport._closing)
        assert [pool.closed for pool in pools[:4]] == [True, True, False, False]
        await held[2].aclose()
        await client.get("http://x/")
        assert len(pools) == 34  # new ones in their places


@pytest.mark.usefixtures("pools")
async def test_only_some_requests_connect_at_once() -> None:
    async with httpx2.AsyncClient(transport=PooledTransport()) as client:
        request = client.build_request("GET", "http://x/")
        held = [await client.send(request, stream=True) for _ in range(64)]
        busy = client.build_request("GET", "http://x/")
        held.append(await client.send(busy, stream=True))
        assert request.extensions["trace"]._semaphore is None
        assert busy.extensions["trace"]._semaphore is not None
        semaphore = asyncio.Semaphore(1)
        turn = _pools._Opening("https", semaphore)
        await turn("connection.connect_tcp.started", {})
        assert semaphore.locked()
        await turn("connection.connect_tcp.complete", {"return_value": None})
        assert semaphore.locked()
        await turn("connection.start_tls.complete", {})
        assert not semaphore.locked()
        turn.end()  # holds nothing any more
        await turn("connection.connect_tcp.started", {})
        await turn("connection.connect_tcp.failed", {})
        assert not semaphore.locked()
        for response in held:
            await response.aclose()


@pytest.mark.usefixtures("pools")
async def test_only_requests_that_may_open_a_connection_are_followed() -> None:
    async with httpx2.AsyncClient(transport=PooledTransport()) as client:

        async def send() -> httpx2.Request:
            request = client.build_request("GET", "https://x/")
            response = await client.send(request, stream=True)
            await response.aclose()
            return request

        assert "trace" in (await send()).extensions
        client._transport._opened[0] = 1  # type: ignore[attr-defined]  # as if it had
        assert "trace" not in (await send()).extensions


def test_connections_are_bounded_by_the_limit_on_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource", reason="there is no such limit")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert _pools.max_connections() == 768
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert _pools.max_connections() is None


async def test_a_proxy_of_the_environment_is_honoured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pools, "getproxies", lambda: {"no": "127.0.0.1"})
    async with make_async_client().client as direct:
        assert isinstance(direct._transport, PooledTransport)
    monkeypatch.setattr(_pools, "getproxies", lambda: {"https": "http://proxy:3128"})
    async with make_async_client().client as proxied:
        assert not isinstance(proxied._transport, PooledTransport)


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
