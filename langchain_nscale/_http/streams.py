"""Drives a reader with the bytes of a streamed response, and always closes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from langchain_nscale._failures import http_errors, network_error
from langchain_nscale._http.watchdog import end_reads_after

if TYPE_CHECKING:
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

    def feed(self, data: bytes) -> Iterator[T_co]:
        """Take the next bytes; yield the items that they complete."""
        ...

    def flush(self, cause: NscaleError | None = None) -> Iterator[T_co]:
        """Finish, after the end of the bytes or after the fault `cause`."""
        ...


def read_stream(response: Response, reader: Reader[T]) -> Generator[T, None, None]:
    """Yield what a reader makes of a streamed response.

    Raises:
        NscaleError: The stream failed; all items before that have been yielded.
    """
    _limit_reads(response, reader)
    cause = None
    cancel = None
    try:
        try:
            for data in response.iter_bytes():
                yield from reader.feed(data)
                if reader.done:
                    return
                if cancel is None and reader.is_ending:
                    cancel = end_reads_after(response, reader.grace)
        except http_errors(response) as fault:
            cause = network_error(fault, response.request)
        yield from reader.flush(cause)
    finally:
        if cancel is not None:
            cancel()
        response.close()


async def aread_stream(response: Response, reader: Reader[T]) -> AsyncGenerator[T, None]:
    """Async version of `read_stream`, for a response of an async client."""
    _limit_reads(response, reader)
    cause = None
    cancel = None
    try:
        try:
            async for data in response.aiter_bytes():
                for item in reader.feed(data):
                    yield item
                if reader.done:
                    return
                if cancel is None and reader.is_ending:
                    cancel = end_reads_after(response, reader.grace)
        except http_errors(response) as fault:
            cause = network_error(fault, response.request)
        for item in reader.flush(cause):
            yield item
    finally:
        if cancel is not None:
            cancel()
        await response.aclose()


def _limit_reads(response: Response, reader: Reader[object]) -> None:
    # The extension is httpx's documented place for a request's timeouts. The first
    # bytes may take long; once they have arrived, silence means a stalled stream.
    timeouts = response.request.extensions.get("timeout")
    if timeouts is not None and reader.stall_after:
        read = timeouts.get("read")
        limit = reader.stall_after
        timeouts["read"] = limit if read is None else min(read, limit)
