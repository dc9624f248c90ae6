"""When a call ends: every time limit of a call, and what enforces it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from langchain_nscale._failures import overdue_call, oversized_response, stalled_stream
from langchain_nscale._http.watchdog import end_reads_after
from langchain_nscale.errors import NscaleTimeoutError

if TYPE_CHECKING:
    from langchain_nscale._http.client import Timeouts
    from langchain_nscale._http.streams import Reader
    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

T = TypeVar("T")
Clock = Callable[[], float]

# Raised when the time for an exchange is up; three classes in Python 3.10, one later.
OVERDUE = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)


class Limits(NamedTuple):
    """Every time limit of a call, in seconds; `None` means no limit.

    | limit | setting | what must happen in time | counted from | what happens then |
    | --- | --- | --- | --- | --- |
    | `pool` | `timeout` | a connection is free | the attempt | `NscaleTimeoutError` |
    | `connect` | `timeout` | a connection is open | its start | `NscaleTimeoutError` |
    | `write` | `timeout` | the next piece is sent | the last one | `NscaleTimeoutError` |
    | `read` | `timeout` | the next bytes arrive | the last ones | `NscaleTimeoutError` |
    | `stall` | `stream_chunk_timeout` | the next event of a stream arrives; its first \
bytes have `read` | the last event | `NscaleStalledStreamError` |
    | `grace` | fixed | usage and `[DONE]` arrive | the finish reason | the reply ends |
    | `ending` | fixed | the body ends | `[DONE]` | the connection is not kept |
    | `total` | `total_timeout` | the call ends, retries and waits included | the call \
| `NscaleTimeoutError` |

    A caller who takes long between two chunks uses up `total`, but never `stall`.
    """

    connect: float | None = 10.0
    read: float | None = 600.0  # a long answer takes minutes
    write: float | None = 600.0
    pool: float | None = 600.0
    total: float | None = None
    stall: float | None = None
    grace: float = 2.0
    ending: float = 0.05

    @classmethod
    def of(
        cls, timeout: Any, total: float | None = None, stall: float | None = None
    ) -> Limits:
        """Return the limits for the values of the settings.

        `timeout` is in seconds, a pair (connect, read), an object with the attributes of
        httpx's Timeout, or `None` for the defaults. A `stall` of 0 is no limit.
        """
        stall = stall or None
        if timeout is None:
            return cls(total=total, stall=stall)
        if hasattr(timeout, "connect"):
            phases = (timeout.connect, timeout.read, timeout.write, timeout.pool)
            return cls(*phases, total, stall)
        try:
            is_pair = isinstance(timeout, (list, tuple))
            connect, read = map(float, timeout if is_pair else (timeout, timeout))
        except (TypeError, ValueError):
            connect = read = 0.0
        if not (connect > 0 and read > 0):
            msg = (
                f"`timeout` is {timeout!r}: use a number of seconds above 0, a pair "
                "(connect, read), an httpx Timeout, or None."
            )
            raise ValueError(msg)
        return cls(connect, read, read, read, total, stall)


DEFAULT_LIMITS = Limits()
_MAX_LEFTOVER = 16  # pieces of a body after its reply has ended
_MAX_WAITS = 2  # for the ends of bodies that don't come, at each address
_REST = 60.0  # seconds until an end is awaited once more
_MAX_ADDRESSES = 256

# How often the ends of bodies have not come, by address, since one did, and when one did
# not. Nscale's own engine sends the end at once; others keep the response open after
# `[DONE]`.
_missing_ends: dict[str, tuple[int, float]] = {}


class CallTime:
    """The time of one call, from its beginning."""

    def __init__(self, limits: Limits, clock: Clock = monotonic) -> None:
        self.limits = limits
        self.clock = clock
        self.deadline = None if limits.total is None else clock() + limits.total

    @property
    def remaining(self) -> float | None:
        """Seconds until the call has to end; `None` for no limit."""
        return None if self.deadline is None else max(self.deadline - self.clock(), 0.001)

    def is_over(self, seconds: float = 0.0) -> bool:
        """Return whether the call has to end within some seconds."""
        return self.deadline is not None and self.clock() + seconds >= self.deadline

    def timeouts(self) -> Timeouts:
        """Return the time limits of the phases of an attempt that begins now."""
        connect, read, write, pool, *_ = self.limits
        if self.deadline is not None:
            remaining = self.remaining or 0.0
            connect, read, write, pool = (
                remaining if limit is None else min(limit, remaining)
                for limit in (connect, read, write, pool)
            )
        return {"connect": connect, "read": read, "write": write, "pool": pool}

    def limit_silence(self, timeouts: Timeouts) -> float | None:
        """Limit the time for each read of a stream that has begun; return the limit."""
        read, stall = timeouts["read"], self.limits.stall
        if stall is not None:
            timeouts["read"] = stall if read is None else min(read, stall)
        return timeouts["read"]

    def overdue(self, request: Any, partial: Any = None) -> NscaleError:
        """Return the error for a call that has not ended in time."""
        return overdue_call(self.limits.total, request, partial)


class ReadLimits:
    """Ends the reading of one response: in time, and before it is too large."""

    def __init__(
        self,
        time: CallTime,
        response: Response,
        reader: Reader[object],
        *,
        max_bytes: int | None = None,
        silence: float | None = None,  # for a piece of a stream; `None` for other bodies
        address: str = "",
    ) -> None:
        self._time = time
        self._response = response
        self._reader = reader
        self._max_bytes = max_bytes
        self._silence = silence
        self._address = address
        self._leftover = 0
        self._size = self._progress = 0
        self._idle = 0.0  # seconds without an event, less the time that the caller took
        self._is_ending = False
        self._cancel: list[Callable[[], None]] = []
        if (remaining := time.remaining) is not None:
            self._cancel.append(end_reads_after(response, remaining))
        self._since = time.clock()

    def count(self, data: bytes) -> None:
        """Count a piece of the body before it is read; raise if the body is too large."""
        self._size += len(data)
        most = self._max_bytes
        if most is not None and self._size > most and not self._reader.done:
            partial = self._reader.partial()
            raise oversized_response(self._response, most, partial)

    def allow_more(self) -> bool:
        """Return whether to wait for another piece; raise if a limit is exceeded."""
        reader, limits, now = self._reader, self._time.limits, self._time.clock()
        if reader.done:
            return self._silence is not None and self._await_end()
        if reader.progress == self._progress:
            self._idle += now - self._since
        else:
            self._progress, self._idle = reader.progress, 0.0
        self._since = now
        if reader.is_ending:
            self._await_usage()
            return self._idle <= limits.grace
        self._check_total()
        if self._silence and limits.stall and self._idle > limits.stall:
            raise stalled_stream(self._response, limits.stall, reader.partial())
        return True

    def _await_usage(self) -> None:
        """Once the model has finished, at most usage is still to come."""
        if not self._is_ending:
            self._is_ending = True
            grace = self._time.limits.grace
            self._cancel.append(end_reads_after(self._response, grace))

    def _await_end(self) -> bool:
        """Return whether to read on after the reply, to the end of the body."""
        # Only then can the connection be used again. Otherwise each streamed call would
        # cost a connection and, with TLS, three round trips before the first token.
        # The package's own clients know whether the end has come.
        if getattr(self._response, "is_done", False):
            self.note_end()
            return False
        if not self._leftover:
            missing, since = _missing_ends.get(self._address, (0, 0.0))
            if missing >= _MAX_WAITS and self._time.clock() - since < _REST:
                return False
            self.cancel()
            ending = self._time.limits.ending
            self._cancel.append(end_reads_after(self._response, ending))
        self._leftover += 1
        return self._leftover <= _MAX_LEFTOVER

    def note_end(self) -> None:
        """Note that the whole body has been read."""
        self._leftover = 0
        _missing_ends.pop(self._address, None)

    def _note_missing_end(self) -> None:
        """Note that the end of the body was awaited in vain."""
        if len(_missing_ends) >= _MAX_ADDRESSES:
            _missing_ends.clear()
        missing, _ = _missing_ends.get(self._address, (0, 0.0))
        _missing_ends[self._address] = (missing + 1, self._time.clock())

    def check_end(self, fault: NscaleError | None) -> None:
        """Raise the error for a body that has ended because its time was up."""
        reader = self._reader
        if self._leftover:
            self._note_missing_end()
        if reader.done or reader.is_ending:
            return
        self._check_total()
        if isinstance(fault, NscaleTimeoutError) and self._silence:
            partial = reader.partial()
            raise stalled_stream(self._response, self._silence, partial, fault)

    def _check_total(self) -> None:
        if self._time.is_over():
            raise self._time.overdue(self._response.request, self._reader.partial())

    def cancel(self) -> None:
        """Stop the timers: the connection may be used again."""
        for cancel in self._cancel:
            cancel()


def within(seconds: float | None, exchange: Awaitable[T]) -> Awaitable[T]:
    """Return what to await for an exchange that may take some seconds."""
    return exchange if seconds is None else asyncio.wait_for(exchange, seconds)


def call_within(seconds: float | None, function: Callable[[], T]) -> T:
    """Call a function that blocks, for at most some seconds."""
    # If its time is limited, the function runs in a separate thread, because sockets only
    # limit the time of each read. The thread is abandoned when time is up, and ends at
    # the next byte that arrives or when the time for it is up.
    if seconds is None:
        return function()
    future: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            result = context.run(function)
        except BaseException as fault:  # noqa: BLE001  # raised in the caller's thread
            future.set_exception(fault)
            return
        future.set_result(result)

    thread = threading.Thread(target=run, name="nscale-call", daemon=True)
    thread.start()
    try:
        return future.result(seconds)
    except BaseException:
        future.add_done_callback(_close_result)
        _end_thread(thread)
        raise


class _AbandonedError(SystemExit):
    """Ends a thread that no caller waits for; a SystemExit ends it silently."""


def _end_thread(thread: threading.Thread) -> None:
    """Raise an exception in a thread, once it runs Python code again."""
    # A server that sends a byte of its header now and then would keep it for ever.
    if sys.implementation.name == "cpython" and thread.ident is not None:
        import ctypes  # noqa: PLC0415  # rarely needed, and slow

        raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
        raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(_AbandonedError))


def _close_result(future: Future[Any]) -> None:
    """Close the result of a function whose caller has stopped waiting."""
    if future.exception() is None:
        getattr(future.result(), "close", lambda: None)()
