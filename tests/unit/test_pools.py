from __future__ import annotations

from typing import Any

import httpx2
import pytest

from langchain_nscale._http import pools as _pools
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


async def test_a_proxy_of_the_environment_is_honoured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pools, "getproxies", lambda: {"no": "127.0.0.1"})
    async with make_async_client() as direct:
        assert isinstance(direct._transport, PooledTransport)
    monkeypatch.setattr(_pools, "getproxies", lambda: {"https": "http://proxy:3128"})
    async with make_async_client() as proxied:
        assert not isinstance(proxied._transport, PooledTransport)
