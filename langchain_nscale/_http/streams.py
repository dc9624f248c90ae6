"""Drives a reader with the bytes of a streamed response, and always closes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from langchain_nscale._failures import network_error
from langchain_nscale._http.inner import Inner
from langchain_nscale._http.libraries import http_errors
from langchain_nscale._http.watchdog import end_reads_after

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_nscale._http.retries import Retries
    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Reader(Protocol[T_co]):
    """Turns bytes into items as they arrive."""

    @property
    def stall_after(self) -> float | None:
        """Seconds of silence after which the stream has stalled; `None` for no limit."""
        ...

    @property
    def done(self) -> bool:
        """Whether the reply has ended, so that there is nothing more to read."""
        ...

    @property
    def is_ending(self) -> bool:
        """Whether the model has finished, so that at most usage is still to come."""
        ...

    @property
    def grace(self) -> float:
        """Seconds to wait for usage after the model has finished."""
        ...

    def partial(self) -> AIMessage | None:
        """Return the message received so far, or `None` before the first token."""
        ...

    def feed(self, data: bytes) -> Iterator[T_co]:
        """Take the next bytes; yield the items that they complete."""
        ...

    def flush(self, cause: NscaleError | None = None) -> Iterator[T_co]:
        """Finish, after the end of the bytes or after the fault `cause`."""
        ...


def read_stream(
    response: Response, reader: Reader[T], retries: Retries
) -> Generator[T, None, None]:
    """Yield what a reader makes of a streamed response.

    Args:
        response: The response, whose body has not been read.
        reader: Turns its bytes into items.
        retries: The attempts of the call, which may have a deadline.

    Raises:
        NscaleError: The stream failed; all items before that have been yielded.
    """
    _limit_reads(response, reader)
    cause = None
    limits = _Limits(response, reader, retries)
    try:
        try:
            for data in response.iter_bytes():
                yield from reader.feed(data)
                if reader.done:
                    return
                if reader.is_ending or limits.deadline is not None:
                    limits.check()
        except GeneratorExit:  # perhaps at exit, when no module can be relied on
            raise
        except http_errors(response) as fault:
            cause = network_error(fault, response.request)
        limits.check()
        yield from reader.flush(cause)
    finally:
        limits.cancel()
        response.close()


async def aread_stream(
    response: Response, reader: Reader[T], retries: Retries
) -> AsyncGenerator[T, None]:
    """Async version of `read_stream`, for a response of an async client."""
    _limit_reads(response, reader)
    cause = None
    limits = _Limits(response, reader, retries)
    pieces = Inner(response.aiter_bytes(), nested=True)
    try:
        try:
            async for data in pieces:
                for item in reader.feed(data):
                    yield item
                if reader.done:
                    return
                if reader.is_ending or limits.deadline is not None:
                    limits.check()
        except GeneratorExit:  # perhaps at exit, when no module can be relied on
            raise
        except http_errors(response) as fault:
            cause = network_error(fault, response.request)
        limits.check()
        for item in reader.flush(cause):
            yield item
    finally:
        limits.cancel()
        await response.aclose()
        await pieces.aclose()


class _Limits:
    """Ends the reads of a stream: soon after the model has finished, and in time."""

    def __init__(
        self, response: Response, reader: Reader[object], retries: Retries
    ) -> None:
        self.deadline = retries.deadline
        self._response = response
        self._reader = reader
        self._retries = retries
        self._is_ending = False
        self._cancel: list[Callable[[], None]] = []
        if retries.remaining is not None:
            self._cancel.append(end_reads_after(response, retries.remaining))

    def check(self) -> None:
        """Raise if time is up; once the model has finished, wait for usage only."""
        if self._retries.is_over and not self._reader.is_ending:
            raise self._retries.overdue(self._response.request, self._reader.partial())
        if self._reader.is_ending and not self._is_ending:
            self._is_ending = True
            self._cancel.append(end_reads_after(self._response, self._reader.grace))

    def cancel(self) -> None:
        """Do not end reads any more."""
        for cancel in self._cancel:
            cancel()


def _limit_reads(response: Response, reader: Reader[object]) -> None:
    # The extension is httpx's documented place for a request's timeouts. The first
    # bytes may take long; once they have arrived, silence means a stalled stream.
    timeouts = response.request.extensions.get("timeout")
    if timeouts is not None and reader.stall_after:
        read = timeouts.get("read")
        limit = reader.stall_after
        timeouts["read"] = limit if read is None else min(read, limit)
