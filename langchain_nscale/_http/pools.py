"""Many small connection pools instead of one large pool, for concurrent async calls.

httpcore checks every connection of a pool whenever a request begins or ends, with a
system call for each idle one. With 200 concurrent calls this dominates the cost of a
call; with the load spread over 32 pools the cost becomes negligible.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypedDict
from urllib.request import getproxies, proxy_bypass

import httpx2

_POOLS = 32
# Connections are opened on demand, so the caller's concurrency is the only limit; idle
# ones are kept for the next burst.
LIMITS = httpx2.Limits(
    max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0
)
_LOOPBACK = ("localhost", "*.localhost", "127.0.0.1", "[::1]")


class _Arguments(TypedDict):
    limits: httpx2.Limits
    cookies: CookieJar
    mounts: dict[str, None]


def _arguments() -> _Arguments:
    """Return the arguments of every client.

    Clients are shared between tokens, so they keep no cookies. A proxy never gets what is
    meant for this machine: it would see the token in clear text.
    """
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    return {
        "limits": LIMITS,
        "cookies": CookieJar(no_cookies),
        "mounts": {f"all://{host}": None for host in _LOOPBACK},
    }


class PooledTransport(httpx2.AsyncBaseTransport):
    """Sends each request through the pool with the fewest requests in flight."""

    def __init__(self) -> None:
        context = httpx2.create_ssl_context()  # takes 30 ms, so all pools share it
        self._pools = [
            httpx2.AsyncHTTPTransport(verify=context, limits=LIMITS)
            for _ in range(_POOLS)
        ]
        self._busy = [0] * _POOLS

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; it counts as in flight until its response is closed."""
        # Ties go to the first pool, so sequential calls reuse one connection.
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
    """A response's body that calls `release` once when it is closed."""

    def __init__(self, stream: Any, release: Callable[[], None]) -> None:
        self._stream = stream
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()  # type: ignore[no-any-return]  # an async stream

    async def aclose(self) -> None:
        """Close the stream."""
        release, self._release = self._release, None
        if release is not None:
            release()
        await self._stream.aclose()


def make_client(base_url: str) -> httpx2.Client:
    """Create a sync client.

    Raises:
        ValueError: A variable of the environment prevents it; the error names it.
    """
    try:
        return httpx2.Client(**_arguments())
    except (OSError, ValueError, ImportError) as error:
        proxy = usable_proxy(base_url, error)
        return httpx2.Client(**_arguments(), trust_env=False, proxy=proxy)


def make_async_client(base_url: str = "") -> httpx2.AsyncClient:
    """Create an async client.

    Behind a proxy, it uses httpx2's own transport, which reads the proxy variables.

    Raises:
        ValueError: A variable of the environment prevents it; the error names it.
    """
    try:
        if {"http", "https", "all"} & getproxies().keys():
            return httpx2.AsyncClient(**_arguments())
        return httpx2.AsyncClient(**_arguments(), transport=PooledTransport())
    except (OSError, ValueError, ImportError) as error:
        proxy = usable_proxy(base_url, error)
        return httpx2.AsyncClient(**_arguments(), trust_env=False, proxy=proxy)


def usable_proxy(base_url: str, error: Exception) -> str | None:
    """Return the proxy for an address if only other variables are unusable.

    Raises:
        ValueError: The variable that applies to the address is unusable.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(name)
        if path and isinstance(error, OSError):  # includes ssl.SSLError
            msg = f"{name} is {path!r}, which can't be used: {error}."
            raise ValueError(msg) from None
    url = httpx2.URL(base_url)
    proxies = getproxies()
    kind = url.scheme if url.scheme in proxies else "all"
    proxy = proxies.get(kind)
    if proxy is None or proxy_bypass(url.host) or url.host in _LOOPBACK:
        return None
    scheme = proxy.partition("://")[0]
    if scheme in ("http", "https"):
        return proxy
    hint = "install the extra `socks`: pip install 'langchain-nscale[socks]'"
    if scheme == "socks" or not isinstance(error, ImportError):
        hint = "use http://, https:// or socks5://"
    msg = f"{kind.upper()}_PROXY has a proxy of the kind {scheme}://: {hint}."
    raise ValueError(msg) from None
