"""Many small connection pools in place of a large one, for many async calls at once.

httpcore looks at every connection of a pool whenever a request begins or ends, and asks
the system about each idle one. With 200 calls at once that costs more than all else that
a call does; spread over some tens of pools it is hardly seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.request import getproxies

import httpx2

_POOLS = 32
# Connections are opened as calls need them, so the only limit is the caller's own
# concurrency; idle ones are kept for the next burst.
LIMITS = httpx2.Limits(
    max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0
)


class PooledTransport(httpx2.AsyncBaseTransport):
    """Sends each request through the pool that has the fewest under way."""

    def __init__(self) -> None:
        context = httpx2.create_ssl_context()  # takes 30 ms, so it is shared
        self._pools = [
            httpx2.AsyncHTTPTransport(verify=context, limits=LIMITS)
            for _ in range(_POOLS)
        ]
        self._busy = [0] * _POOLS

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; its pool is busy until the response is closed."""
        # The first of equals, so that one call after another reuses one connection.
        number = self._busy.index(min(self._busy))
        self._busy[number] += 1

        def release() -> None:
            self._busy[number] -= 1

        try:
            response = await self._pools[number].handle_async_request(request)
        except BaseException:
            release()
            raise
        response.stream = _Released(response.stream, release)
        return response

    async def aclose(self) -> None:
        """Close all pools."""
        for pool in self._pools:
            await pool.aclose()


class _Released(httpx2.AsyncByteStream):
    """A response's bytes; calls `release` once when it is closed."""

    def __init__(self, stream: object, release: Callable[[], None]) -> None:
        self._stream = stream
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()  # type: ignore[attr-defined,no-any-return]  # an async stream

    async def aclose(self) -> None:
        """Close the stream."""
        release, self._release = self._release, None
        if release is not None:
            release()
        await self._stream.aclose()  # type: ignore[attr-defined]  # an async stream


def make_async_client() -> httpx2.AsyncClient:
    """An async client. Behind a proxy it is httpx's own, which knows the variables."""
    if {"http", "https", "all"} & getproxies().keys():
        return httpx2.AsyncClient(limits=LIMITS)
    return httpx2.AsyncClient(transport=PooledTransport())
