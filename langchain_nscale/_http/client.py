"""HTTP clients: what a call needs of one, and the adapters for httpx2 and httpx."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import httpx2

from langchain_nscale._response import Response

T_co = TypeVar("T_co", covariant=True)
Timeouts = dict[str, float | None]


@dataclass(eq=False, repr=False)  # the headers contain the token
class Request:
    """A request, as every client sends it."""

    method: str
    url: str  # without the query
    query: Mapping[str, Any] | None
    headers: Mapping[str, str]  # except for those that follow from address and body
    content: bytes | None
    # Seconds to "connect", "read", "write" and wait for a "pool". A client looks them up
    # before each operation: "read" changes once a stream has begun.
    timeouts: Timeouts
    is_stream: bool = False  # whether the reply is requested as a stream


class Client(Protocol[T_co]):
    """An HTTP client. A call uses nothing else of it."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """The exceptions for network faults, while sending and while reading a body.

        Those for timeouts have "Timeout" in their names. If an exception has a true
        attribute `is_unseen`, the service cannot have read the whole request.
        """
        ...

    def send(self, request: Request) -> T_co:
        """Send a request once; return the response, as soon as its head has arrived.

        An async client returns it awaitable. Redirects are not followed. A RuntimeError
        says that the client is closed, or belongs to another event loop.
        """
        ...


class SharedClient(Client[Response], Protocol):
    """A sync client of the package's own."""

    @property
    def is_closed(self) -> bool: ...

    def close(self) -> None: ...


class AsyncSharedClient(Client[Awaitable[Response]], Protocol):
    """An async client of the package's own."""

    @property
    def is_closed(self) -> bool: ...

    async def aclose(self) -> None: ...


class UsersClient:
    """A user's client of httpx2 or httpx, sync or async.

    It may add its own headers, parameters and cookies to a request.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._library = library(client)
        # httpx decompresses without limit; see `unlimited_body`.
        is_old = self._library.__name__ == "httpx"
        self.headers = {"Accept-Encoding": "identity"} if is_old else {}
        self.faults = (self._library.HTTPError, self._library.StreamError)

    def send(self, request: Request) -> Any:
        return _send(self._client, self._client.build_request, self._library, request)


class Httpx2Client:
    """A client of httpx2 of the package's own, sync or async.

    Its headers never change, so requests are built without it: to merge them again for
    each request takes 40 µs.
    """

    faults = (httpx2.HTTPError, httpx2.StreamError)

    def __init__(self, client: httpx2.Client | httpx2.AsyncClient) -> None:
        self.client: Any = client
        raw = client.headers.raw
        self.headers = {name.decode(): value.decode() for name, value in raw}

    @property
    def is_closed(self) -> bool:
        return bool(self.client.is_closed)

    def send(self, request: Request) -> Any:
        return _send(self.client, httpx2.Request, httpx2, request)

    def close(self) -> None:
        self.client.close()

    async def aclose(self) -> None:
        await self.client.aclose()


def _send(client: Any, build: Any, library_: Any, request: Request) -> Any:
    built = build(
        request.method,
        _parsed(library_, request.url),
        params=request.query,
        headers=request.headers,
        content=request.content,
        extensions={"timeout": request.timeouts},
    )
    return client.send(built, stream=True, follow_redirects=False)


def library(client: object) -> Any:
    """Return the HTTP library of a client: httpx2, or httpx for older code."""
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in ("httpx2", "httpx"):
            return sys.modules[name]
    msg = (
        "`http_client` and `http_async_client` take a client of httpx2 or httpx, not "
        f"{type(client).__name__}."
    )
    raise TypeError(msg)


@lru_cache(maxsize=64)
def _parsed(module: Any, url: str) -> Any:
    """Parse an address once, not with each request."""
    return module.URL(url)
