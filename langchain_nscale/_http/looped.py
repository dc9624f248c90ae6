"""The HTTP client behind async calls: connections of one event loop of asyncio."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import httpx2

from langchain_nscale._http.kept import Pool, Received
from langchain_nscale._http.sockets import has_input, open_socket, result_of
from langchain_nscale._http.wire import Origin, Parser, RequestBytes, encoded

if TYPE_CHECKING:
    from langchain_nscale._http.client import Request, Timeouts
    from langchain_nscale._response import Response

# A server that sends faster than the caller reads has to wait at this many bytes.
_MAX_UNREAD = 256 * 1024
# At most this many connections are opened at once, and others wait: while a process is
# busy opening thousands, the time limit for connecting would run out.
_CONNECTING = 64


class _Tls:
    """TLS between two buffers.

    asyncio's own keeps a buffer of 256 KiB for each connection.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.has_ended = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shake_hands(self, data: bytes = b"") -> bool:
        """Take the next bytes of the handshake; return whether it is complete."""
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypted(self, data: bytes = b"") -> bytes:
        """Take the next bytes; return their meaning."""
        self._incoming.write(data)
        pieces = []
        with suppress(ssl.SSLWantReadError):
            while piece := self._tls.read(65536):
                pieces.append(piece)
            self.has_ended = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def encrypt(self, data: bytes) -> None:
        """Encrypt a message; it is `pending` then."""
        self._tls.write(data)

    def pending(self) -> bytes:
        """Return what is to be sent."""
        return self._outgoing.read()


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time.

    There is one timer for each connection, not one for each read. When it is up, it looks
    whether the time for what is waited for is.
    """

    def __init__(self, origin: Origin, sock: socket.socket, tls: _Tls | None) -> None:
        self.origin = origin
        self.socket = sock
        self.parser = Parser()
        self.is_new = True
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        # Done once the handshake is.
        self.is_open: asyncio.Future[None] = self._loop.create_future()
        self._tls = tls
        self._transport: Any = None
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._is_paused = False
        self._unsent = 0
        self._has_ended = False
        self._is_cut = False  # whether no more of this response is to be waited for
        self._fault: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timeouts: Timeouts = {}
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- called by the event loop -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        # So that it calls `pause_writing` if any byte is left to be sent.
        self._transport.set_write_buffer_limits(high=0)
        if self._tls is None:
            self.is_open.set_result(None)
        else:
            self._shake_hands(self._tls, b"")

    def _shake_hands(self, tls: _Tls, data: bytes) -> None:
        try:
            is_complete = tls.shake_hands(data)
        except ssl.SSLError as fault:
            self._transport.write(tls.pending())  # says why
            self._end(fault)
            return
        self._transport.write(tls.pending())
        if is_complete and not self.is_open.done():
            self.is_open.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Keep bytes until they are read."""
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
        if not data:
            return
        self._unread.append(data)
        self._unread_size += len(data)
        if self._unread_size > _MAX_UNREAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def _decrypted(self, tls: _Tls, data: bytes) -> bytes:
        if not self.is_open.done():
            self._shake_hands(tls, data)
            data = b""
        if self._has_ended or not self.is_open.done():
            return b""
        try:
            data = tls.decrypted(data)
        except ssl.SSLError as fault:
            self._end(fault)
            return b""
        if pending := tls.pending():
            self._transport.write(pending)
        if tls.has_ended:
            self._end(None)
        return data

    def eof_received(self) -> None:
        """Note the end; the transport closes itself."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def pause_writing(self) -> None:
        """Note that not all of the request has been sent."""
        self._unsent = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Note that all of it has; from now on the time for the response counts."""
        self._unsent = 0
        if self._waiter is not None:
            self._wait_until(self._timeouts["read"])

    def _end(self, fault: Exception | None) -> None:
        if not self._has_ended:
            self._has_ended, self._fault = True, fault
        if not self.is_open.done():
            closed = ConnectionError("The server has closed it in the handshake.")
            self.is_open.set_exception(fault or closed)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_time(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done() or self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_time)
            return
        left = self._transport.get_write_buffer_size() if self._unsent else 0
        if 0 < left < self._unsent:
            self._unsent = left
            self._wait_until(self._timeouts["write"])
        elif left:
            waiter.set_exception(httpx2.WriteTimeout("The server takes no more of it."))
        else:
            waiter.set_exception(httpx2.ReadTimeout("The server says nothing."))

    def _wait_until(self, seconds: float | None) -> None:
        """Let the timer look after some seconds."""
        self._deadline = None if seconds is None else self._loop.time() + seconds
        if self._deadline is None:
            return
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check_time)

    # --- called by the client -----------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        return not self._has_ended and not self._unread and not has_input(self.socket)

    def send(self, message: RequestBytes, timeouts: Timeouts) -> None:
        self.parser.begin()
        self._is_cut = False
        self._timeouts = timeouts
        if self._tls is None:
            self._transport.write(message)
        else:
            try:
                self._tls.encrypt(message)
            except ssl.SSLError as fault:
                self._unsent = len(message)
                self._end(fault)
            self._transport.write(self._tls.pending())
        if self._transport.is_closing():
            self._unsent = len(message)  # it failed at once

    async def receive(self) -> bytes:
        """Wait for the next bytes; return the part of the body among them."""
        self.parser.check()
        if not (self._unread or self._has_ended or self._is_cut):
            self._wait_until(self._timeouts["write" if self._unsent else "read"])
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._unread:
            data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
            self._unread.clear()
            self._unread_size = 0
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
            return self.parser.feed(data)
        if self._unsent and not self.parser.status:
            failure = httpx2.WriteError(str(self._fault or "The server has closed it."))
            # The server can't have seen the whole of it. A new connection that fails is
            # another matter: it will not be better at once.
            vars(failure)["is_unseen"] = not self.is_new
            raise failure from self._fault
        if self._fault is not None:
            raise httpx2.ReadError(str(self._fault)) from self._fault
        self.parser.end()
        return b""

    @property
    def is_reusable(self) -> bool:
        is_idle = not (self._unread or self._unsent or self._has_ended)
        return self.parser.is_reusable and is_idle

    def close(self) -> None:
        self.is_open.cancel()  # else an error in it would be reported as unread
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is None:
            self.socket.close()
        else:
            self._transport.abort()

    def end_reads(self) -> None:
        """End all reads, as if the server had closed the connection."""
        # What has arrived is read first. If it is the rest, the connection can be kept.
        self._is_cut = True
        self._wake()


class _Response(Received):
    """A response, which iterates over the pieces of its body as they arrive.

    An async generator in its place would be known to the event loop and need closing.
    """

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Iterate over the decompressed body as it arrives."""
        decoder = self._decoder(self)
        return cast("AsyncIterator[bytes]", decoder.aiter_bytes()) if decoder else self

    def __aiter__(self) -> _Response:
        return self

    async def __anext__(self) -> bytes:
        if self._body:
            body, self._body = self._body, b""
            return body
        while (connection := self._reading()) is not None:
            piece: bytes = await connection.receive()
            if piece:
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let the next request use the connection, or close it. This never waits."""
        self._close()


class AsyncDirectClient(Pool[_Connection]):
    """Sends async requests, each on a connection that no other uses meanwhile."""

    def __init__(
        self, headers: Mapping[str, str], context: Callable[[], ssl.SSLContext]
    ) -> None:
        """Create a client of the running event loop."""
        self._loop = asyncio.get_running_loop()
        super().__init__(headers, context, self._loop.call_later)
        self._turns = asyncio.Semaphore(self.limit)
        self._connecting = asyncio.Semaphore(_CONNECTING)

    async def send(self, request: Request) -> Response:
        """Send a request; see `client.Client`."""
        origin, message = encoded(request)
        timeouts = request.timeouts
        if self._turns.locked():
            await self._wait(timeouts["pool"])
        else:
            await self._turns.acquire()  # at once
        connection = None
        try:
            connection = self.take(origin)
            if connection is None:
                connection = await self._opened(origin, timeouts["connect"])
            connection.send(message, timeouts)
            body = b""
            while not connection.parser.status:
                body = await connection.receive()
        except BaseException:
            self.release(connection)
            raise
        return cast("Response", _Response(self.release, connection, request, body))

    async def _wait(self, limit: float | None) -> None:
        """Wait for a turn."""
        task = self._loop.create_task(self._turns.acquire())
        try:
            await result_of(task, limit, lambda _: self._turns.release())
        except TimeoutError as fault:
            raise httpx2.PoolTimeout(str(fault)) from None

    async def _opened(self, origin: Origin, limit: float | None) -> _Connection:
        """Open a connection."""
        async with self._connecting:
            task = self._loop.create_task(self._connection(origin))
            try:
                connection = await result_of(task, limit, _Connection.close)
            except TimeoutError as fault:
                raise httpx2.ConnectTimeout(str(fault)) from fault
            except OSError as fault:
                raise httpx2.ConnectError(str(fault)) from fault
        return self.add(connection)

    async def _connection(self, origin: Origin) -> _Connection:
        tls = _Tls(self._context(), origin.host) if origin.is_tls else None
        sock = await open_socket(origin.host, origin.port)
        connection = _Connection(origin, sock, tls)
        try:
            await self._loop.create_connection(lambda: connection, sock=sock)
            await connection.is_open
        except BaseException:
            connection.close()
            raise
        return connection

    async def aclose(self) -> None:
        """Close all connections, those in use as well."""
        self.close_all()
        await asyncio.sleep(0)  # the transports close their sockets now
