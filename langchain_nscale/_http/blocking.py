"""The HTTP client behind sync calls: sockets that block, used by many threads."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import httpx2

from langchain_nscale._http.kept import Pool, Received
from langchain_nscale._http.sockets import has_input, socket_options
from langchain_nscale._http.watchdog import call_later
from langchain_nscale._http.wire import FAULTS, Origin, Parser, RequestBytes, encoded

if TYPE_CHECKING:
    from langchain_nscale._http.client import Request, Timeouts
    from langchain_nscale._response import Response

_READ_SIZE = 65536


class _Connection:
    def __init__(
        self, origin: Origin, context: Callable[[], ssl.SSLContext], limit: float | None
    ) -> None:
        self.origin = origin
        self.parser = Parser()
        self.is_new = True
        self.idle_since = 0.0
        tls = context() if origin.is_tls else None
        try:
            self.socket = socket.create_connection(origin[1:], limit)
            try:
                for option in socket_options():
                    self.socket.setsockopt(*option)
                if tls is not None:
                    self.socket = tls.wrap_socket(
                        self.socket, server_hostname=origin.host
                    )
            except BaseException:
                self.socket.close()
                raise
        except TimeoutError as fault:
            raise httpx2.ConnectTimeout(str(fault)) from fault
        except OSError as fault:
            raise httpx2.ConnectError(str(fault)) from fault

    def send(self, message: RequestBytes, timeouts: Timeouts) -> httpx2.WriteError | None:
        """Send a request; return the fault if that failed."""
        # The server may have answered all the same, before it closed the connection.
        self.parser.begin()
        try:
            self._limit(timeouts["write"])
            self.socket.sendall(message)
        except TimeoutError as fault:
            raise httpx2.WriteTimeout(str(fault)) from fault
        except OSError as fault:
            failure = httpx2.WriteError(str(fault))
            failure.__cause__ = fault
            # The server can't have seen the whole of it. A new connection that fails is
            # another matter: it will not be better at once.
            vars(failure)["is_unseen"] = not self.is_new
            return failure
        return None

    def receive(self, timeouts: Timeouts) -> bytes:
        """Wait for the next bytes; return the part of the body among them."""
        self.parser.check()
        try:
            self._limit(timeouts["read"])
            data = self.socket.recv(_READ_SIZE)
        except TimeoutError as fault:
            raise httpx2.ReadTimeout(str(fault)) from fault
        except OSError as fault:
            raise httpx2.ReadError(str(fault)) from fault
        if data:
            return self.parser.feed(data)
        self.parser.end()
        return b""

    def _limit(self, seconds: float | None) -> None:
        if self.socket.gettimeout() != seconds:  # setting it is a system call
            self.socket.settimeout(seconds)

    @property
    def is_usable(self) -> bool:
        return not has_input(self.socket)

    @property
    def is_reusable(self) -> bool:
        return self.parser.is_reusable

    def end_reads(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.socket.close()


class _Response(Received):
    def iter_bytes(self) -> Iterator[bytes]:
        pieces = self._raw()
        decoder = self._decoder(pieces)
        return decoder.iter_bytes() if decoder else pieces

    def _raw(self) -> Iterator[bytes]:
        if self._body:
            yield self._body
        while (connection := self._reading()) is not None:
            if piece := connection.receive(self._request.timeouts):
                yield piece

    def close(self) -> None:
        """Let the next request use the connection, or close it."""
        self._close()


class DirectClient(Pool[_Connection]):
    """Sends sync requests, each on a connection that no other uses meanwhile."""

    def __init__(
        self, headers: Mapping[str, str], context: Callable[[], ssl.SSLContext]
    ) -> None:
        super().__init__(headers, context, call_later)
        self._turns = threading.Semaphore(self.limit)

    def send(self, request: Request) -> Response:
        origin, message = encoded(request)
        timeouts = request.timeouts
        if not self._turns.acquire(timeout=timeouts["pool"]):
            msg = f"over {timeouts['pool']} s"
            raise httpx2.PoolTimeout(msg)
        connection = None
        try:
            connection = self.take(origin)
            if connection is None:
                opened = _Connection(origin, self._context, timeouts["connect"])
                connection = self.add(opened)
            body = self._exchange(connection, message, timeouts)
        except BaseException:
            self.release(connection)
            raise
        return cast("Response", _Response(self.release, connection, request, body))

    @staticmethod
    def _exchange(
        connection: _Connection, message: RequestBytes, timeouts: Timeouts
    ) -> bytes:
        """Send a request; read the head of its response, and perhaps some of its body."""
        fault = connection.send(message, timeouts)
        body = b""
        try:
            while not connection.parser.status:
                body = connection.receive(timeouts)
        except FAULTS:
            if fault is None:
                raise
            raise fault from fault.__cause__
        return body

    def close(self) -> None:
        self.close_all()
