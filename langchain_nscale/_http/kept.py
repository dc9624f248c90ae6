"""Pools of reusable connections, and the responses received on them."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import httpx2

from langchain_nscale._http.sockets import KEEPALIVE, max_connections
from langchain_nscale._http.wire import FAULTS, Origin, Parser, decoded

if TYPE_CHECKING:
    import ssl

    from langchain_nscale._http.client import Request


logger = logging.getLogger(__name__)


class Connection(Protocol):
    """A connection that carries one request at a time."""

    origin: Origin
    parser: Parser
    is_new: bool
    idle_since: float

    @property
    def is_usable(self) -> bool: ...

    @property
    def is_reusable(self) -> bool: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)


class Pool(Generic[C]):
    """The connections of a client, which is a subclass. Thread-safe."""

    faults = FAULTS
    _turns: Any  # a semaphore, which lets as many requests through as there may be

    def __init__(
        self,
        headers: Mapping[str, str],  # to send with every request
        context: Callable[[], ssl.SSLContext],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.headers = headers
        self.is_closed = False
        self.limit = max_connections()
        self._context = context
        self._call_later = call_later
        self._has_timer = False
        self._lock = threading.Lock()
        self._open: set[C] = set()
        self._idle: dict[Origin, list[C]] = defaultdict(list)

    def take(self, origin: Origin) -> C | None:
        """Return the connection that was used last, if one can be used."""
        if self.is_closed:
            msg = "The client has been closed."
            raise RuntimeError(msg)
        while True:
            with self._lock:
                if not self._idle[origin]:
                    break
                connection = self._idle[origin].pop()
            if connection.is_usable:
                connection.is_new = False
                return connection
            self._drop(connection)
        if len(self._open) >= self.limit:  # make room for another
            self.close_idle(0.0)
        return None

    def add(self, connection: C) -> C:
        with self._lock:
            self._open.add(connection)
        return connection

    def release(self, connection: C | None) -> None:
        """Let the next request have its turn, on this connection if there is one."""
        if connection is not None:
            self._give_back(connection)
        self._turns.release()

    def _give_back(self, connection: C) -> None:
        if self.is_closed or not connection.is_reusable:
            self._drop(connection)
            return
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle[connection.origin].append(connection)
            must_schedule, self._has_timer = not self._has_timer, True
        if must_schedule:
            self._call_later(KEEPALIVE, self._on_time)

    def _drop(self, connection: C) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def close_idle(self, seconds: float) -> float | None:
        """Close long-idle connections; return when the oldest of the others was used."""
        before = time.monotonic() - seconds
        with self._lock:
            idle = [c for kept in self._idle.values() for c in kept]
            self._idle.clear()
            others = [c for c in idle if c.idle_since > before]
            for connection in others:
                self._idle[connection.origin].append(connection)
        for connection in idle:
            if connection.idle_since <= before:
                self._drop(connection)
        return min((c.idle_since for c in others), default=None)

    def _on_time(self) -> None:
        oldest = self.close_idle(KEEPALIVE)
        self._has_timer = oldest is not None
        if oldest is not None:
            self._call_later(oldest + KEEPALIVE - time.monotonic(), self._on_time)

    def close_all(self) -> None:
        """Close all connections, those in use as well."""
        self.is_closed = True
        for connection in list(self._open):
            self._drop(connection)


class Received:
    """A response whose body is still to be read; see `_response.Response`."""

    def __init__(
        self,
        release: Callable[[Any], None],
        connection: Any,
        request: Request,
        body: bytes,
    ) -> None:
        """Take the head from a connection; `release` takes the connection back."""
        self.status_code = connection.parser.status
        self._headers = connection.parser.headers
        logger.debug("%s %s: %d", request.method, request.url, self.status_code)
        self._release = release
        self._connection = connection
        self._request = request
        self._body = body

    @property
    def is_success(self) -> bool:
        return bool(self.status_code // 100 == 2)  # noqa: PLR2004  # 2xx

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers, by name in lower case."""
        return decoded(self._headers)

    @cached_property
    def request(self) -> httpx2.Request:
        sent = self._request
        return httpx2.Request(
            sent.method, sent.url, params=sent.query, headers=sent.headers
        )

    @property
    def is_done(self) -> bool:
        """Whether the end of the body has arrived."""
        return self._connection is None or bool(self._connection.parser.is_done)

    def end_reads(self) -> None:
        """End all reads, as if the server had closed the connection."""
        if self._connection is not None:
            self._connection.end_reads()

    def _decoder(self, pieces: Any) -> Any:
        """Return a response of httpx2 that decodes a body, if it is encoded."""
        if not any(name.lower() == b"content-encoding" for name, _ in self._headers):
            return None
        stream = _Pieces(pieces)
        return httpx2.Response(self.status_code, headers=self._headers, stream=stream)

    def _reading(self) -> Any:
        """Return the connection; `None` once the body has ended."""
        if self._connection is None:  # another request may use it by now
            raise httpx2.StreamClosed
        return None if self._connection.parser.is_done else self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection)


class _Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The pieces of a body, sync or async, in the form of httpx2."""

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def __aiter__(self) -> Any:
        return self._pieces
