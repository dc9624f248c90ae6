"""The connection pools behind the shared clients.

httpcore checks every connection of a pool whenever a request begins or ends, with a
system call for each idle one. With 200 concurrent async calls this dominates the cost of
a call; with the load spread over 32 pools the cost becomes negligible.

A pool that has been idle for a while is replaced, which closes its connections: httpcore
itself only closes them at the pool's next request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from typing import Any, TypedDict
from urllib.request import getproxies, proxy_bypass

import httpx2

from langchain_nscale._http.address import is_local
from langchain_nscale._http.client import SharedClient

try:
    import resource
except ImportError:  # Windows, which has no limit on sockets
    resource = None  # type: ignore[assignment]

_POOLS = 32
KEEPALIVE = 30.0  # seconds after which idle connections are closed
# At most this many connections are opened at once, and others wait: while a process is
# busy opening thousands, the time limit for connecting would run out.
_CONNECTING = 64
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# Modules that httpx2 and what it uses import during the first async request.
_LATE_IMPORTS = ("anyio._backends._asyncio",)

is_prepared = False


def _socket_options() -> list[tuple[int, int, int]]:
    """Return options that notice dead connections after about two minutes."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPALIVE", 60),  # the same on macOS
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 120_000),  # milliseconds
    ):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def max_connections() -> int | None:
    """Return how many connections this process can hold open; others wait for one.

    This is three quarters of its limit on open files.
    """
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else max(limit * 3 // 4, 1)


def _limits(pools: int = 1) -> httpx2.Limits:
    connections = max_connections()
    return httpx2.Limits(
        max_connections=connections and max(connections // pools, 1),
        max_keepalive_connections=None,
        keepalive_expiry=KEEPALIVE,
    )


class _Arguments(TypedDict):
    limits: httpx2.Limits
    cookies: CookieJar
    verify: ssl.SSLContext


def _arguments() -> _Arguments:
    """Return the arguments of every client.

    Clients are shared between tokens, so they keep no cookies.
    """
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    return {
        "limits": _limits(),
        "cookies": CookieJar(no_cookies),
        "verify": _ssl_context(),
    }


def _ssl_context() -> ssl.SSLContext:
    """Return the process's SSL context; it takes 30 ms to create, most of it reading."""
    return _read_certificates(*(os.environ.get(name) for name in _CERTIFICATES))


@lru_cache(maxsize=4)
def _read_certificates(*_: str | None) -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def prepare() -> None:
    """Do what blocks before the first async request: read files and import modules."""
    global is_prepared  # noqa: PLW0603  # process-wide state
    with suppress(OSError, ValueError):  # reported when the client is made
        _ssl_context()
    for name in _LATE_IMPORTS:
        import_module(name)
    is_prepared = True


class PooledTransport(httpx2.AsyncBaseTransport):
    """Sends each request through the pool with the fewest requests in flight."""

    def __init__(self) -> None:
        self._context = _ssl_context()
        self._pools = [self._new_pool() for _ in range(_POOLS)]
        self._busy = [0] * _POOLS
        self._opened = [0] * _POOLS  # connections; some may have been closed since
        self._idle_since: dict[int, float] = {}  # of pools that may have connections
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._connecting = asyncio.Semaphore(_CONNECTING)

    def _new_pool(self) -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(
            verify=self._context,
            limits=_limits(_POOLS),
            socket_options=_socket_options(),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; it counts as in flight until its response is closed."""
        # Ties go to the first pool, so sequential calls reuse one connection.
        fewest = min(self._busy)
        number = self._busy.index(fewest)
        self._busy[number] += 1
        opening = None
        is_crowded = fewest * _POOLS >= _CONNECTING
        is_new = self._busy[number] > self._opened[number]
        if (is_crowded or is_new) and "trace" not in request.extensions:
            semaphore = self._connecting if is_crowded else None
            opening = _Opening(request.url.scheme, semaphore)
            request.extensions["trace"] = opening

        def release() -> None:
            self._busy[number] -= 1
            if not self._busy[number]:
                self._note_idle(number)

        try:
            response = await self._pools[number].handle_async_request(request)
        except BaseException:
            release()
            raise
        finally:
            if opening is not None:
                opening.end()
                self._opened[number] += opening.is_open
        response.stream = _Released(response.stream, release)
        return response

    def _note_idle(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self._idle_since[number] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(KEEPALIVE, self.close_idle)

    def close_idle(self) -> None:
        """Close the connections of the pools that have not been used for a while."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for number, since in list(self._idle_since.items()):
            if self._busy[number]:
                del self._idle_since[number]  # noted again when it is idle
            elif since + KEEPALIVE <= loop.time():
                del self._idle_since[number]
                pool, self._pools[number] = self._pools[number], self._new_pool()
                self._opened[number] = 0
                task = loop.create_task(pool.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        if self._idle_since:
            due = min(self._idle_since.values()) + KEEPALIVE
            self._timer = loop.call_at(due, self.close_idle)

    async def aclose(self) -> None:
        """Close all pools."""
        if self._timer is not None:
            self._timer.cancel()
        for pool in self._pools:
            await pool.aclose()


class _Opening:
    """Follows a connection while it is opened; httpcore calls it with trace events.

    If there are many others, it waits for its turn. If it is cancelled in the middle of
    the TLS handshake, it closes the socket, which httpcore leaves to garbage collection.
    """

    def __init__(self, scheme: str, semaphore: asyncio.Semaphore | None) -> None:
        self.is_open = False
        self._semaphore = semaphore
        last = "start_tls" if scheme == "https" else "connect_tcp"
        self._complete = f"connection.{last}.complete"
        self._failures = ("connection.connect_tcp.failed", f"connection.{last}.failed")
        self._stream: Any = None
        self._holds = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started" and self._semaphore is not None:
            await self._semaphore.acquire()
            self._holds = True
        elif event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        if event == self._complete:
            self.is_open = True
            self.end()
        elif event in self._failures:
            self.end()
            if self._stream is not None:
                # The socket is closed before the first suspension.
                with suppress(asyncio.CancelledError):
                    await self._stream.aclose()

    def end(self) -> None:
        """Let the next request connect."""
        if self._holds and self._semaphore is not None:
            self._holds = False
            self._semaphore.release()


class _Released(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A response's body, sync or async, that calls `release` once when it is closed."""

    def __init__(self, stream: Any, release: Callable[[], None]) -> None:
        self._stream = stream
        self._release: Callable[[], None] | None = release

    def __iter__(self) -> Iterator[bytes]:
        return self._stream.__iter__()  # type: ignore[no-any-return]  # a sync stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()  # type: ignore[no-any-return]  # an async stream

    def close(self) -> None:
        """Close a sync stream."""
        try:
            self._stream.close()
        finally:
            self._release_once()

    async def aclose(self) -> None:
        """Close an async stream."""
        try:
            await self._stream.aclose()
        finally:
            self._release_once()

    def _release_once(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


def make_client(base_url: str) -> SharedClient:
    """Create a sync client for an address.

    Behind a proxy, it uses httpx2's own transport, which reads the proxy variables. What
    is meant for this machine never goes to a proxy, which would see the token.

    Raises:
        ValueError: A variable of the environment prevents it; the error names it.
    """
    try:
        if _has_proxies() and not is_local(base_url):
            return SharedClient(httpx2.Client(**_arguments()))
        arguments = _arguments()
        transport = httpx2.HTTPTransport(
            verify=arguments["verify"],
            limits=arguments["limits"],
            socket_options=_socket_options(),
        )
        client = httpx2.Client(**arguments, transport=transport, trust_env=False)
        return SharedClient(client)
    except (OSError, ValueError, ImportError) as error:
        proxy = usable_proxy(base_url, error)
        client = httpx2.Client(**_arguments(), trust_env=False, proxy=proxy)
        return SharedClient(client)


def make_async_client(base_url: str = "") -> SharedClient:
    """Create an async client for an address; see `make_client`.

    Raises:
        ValueError: A variable of the environment prevents it; the error names it.
    """
    try:
        if _has_proxies() and not is_local(base_url):
            return SharedClient(httpx2.AsyncClient(**_arguments()))
        pools = PooledTransport()
        client = httpx2.AsyncClient(**_arguments(), transport=pools, trust_env=False)
        return SharedClient(client)
    except (OSError, ValueError, ImportError) as error:
        proxy = usable_proxy(base_url, error)
        client = httpx2.AsyncClient(**_arguments(), trust_env=False, proxy=proxy)
        return SharedClient(client)


def _has_proxies() -> bool:
    return bool({"http", "https", "all"} & getproxies().keys())


def usable_proxy(base_url: str, error: Exception) -> str | None:
    """Return the proxy for an address if only other variables are unusable.

    Raises:
        ValueError: The variable that applies to the address is unusable.
    """
    for name in _CERTIFICATES:
        path = os.environ.get(name)
        if path and isinstance(error, OSError):  # includes ssl.SSLError
            msg = f"{name} is {path!r}, which can't be used: {error}."
            raise ValueError(msg) from None
    url = httpx2.URL(base_url)
    proxies = getproxies()
    kind = url.scheme if url.scheme in proxies else "all"
    proxy = proxies.get(kind)
    if proxy is None or proxy_bypass(url.host) or is_local(base_url):
        return None
    scheme = proxy.partition("://")[0]
    if scheme in ("http", "https"):
        return proxy
    hint = "install the extra `socks`: pip install 'langchain-nscale[socks]'"
    if scheme == "socks" or not isinstance(error, ImportError):
        hint = "use http://, https:// or socks5://"
    msg = f"{kind.upper()}_PROXY has a proxy of the kind {scheme}://: {hint}."
    raise ValueError(msg) from None
