"""Drives a reader with the bytes of a response, and always closes the response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from langchain_nscale._failures import network_error
from langchain_nscale._http.inner import Inner, keep_until_done

if TYPE_CHECKING:
    from langchain_nscale._http.limits import ReadLimits
    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Faults = tuple[type[Exception], ...]


class Reader(Protocol[T_co]):
    """Turns bytes into items as they arrive. Knows nothing of time."""

    @property
    def progress(self) -> int:
        """A number that changes with each event; keep-alives are none."""
        ...

    @property
    def done(self) -> bool: ...

    @property
    def is_ending(self) -> bool:
        """Whether the model has finished, so that at most usage is still to come."""
        ...

    def partial(self) -> Any:
        """Return the message received so far, or `None` before the first token."""
        ...

    def feed(self, data: bytes) -> Iterable[T_co]:
        """Take the next bytes; yield the items that they complete."""
        ...

    def flush(self, cause: NscaleError | None = None) -> Iterable[T_co]:
        """Finish, after the end of the bytes or after the fault `cause`."""
        ...


def read_stream(
    response: Response, reader: Reader[T], limits: ReadLimits, faults: Faults
) -> Generator[T, None, None]:
    """Yield what a reader makes of a response whose body has not been read.

    If the stream fails, all items before that have been yielded.
    """
    cause = None
    try:
        try:
            for data in response.iter_bytes():
                limits.count(data)
                yield from reader.feed(data)
                if not limits.allow_more():
                    break
            else:
                limits.note_end()
        except faults as fault:
            cause = network_error(fault, response.request)
        limits.check_end(cause)
        yield from reader.flush(cause)
    finally:
        limits.cancel()
        response.close()


async def aread_stream(
    response: Response, reader: Reader[T], limits: ReadLimits, faults: Faults
) -> AsyncGenerator[T, None]:
    """Async version of `read_stream`, for a response of an async client."""
    cause = None
    pieces = response.aiter_bytes()
    if isinstance(pieces, AsyncGenerator):  # httpx's
        pieces = Inner(pieces, nested=True)
    try:
        try:
            async for data in pieces:
                limits.count(data)
                for item in reader.feed(data):
                    yield item
                if not limits.allow_more():
                    break
            else:
                limits.note_end()
        except faults as fault:
            cause = network_error(fault, response.request)
        limits.check_end(cause)
        for item in reader.flush(cause):
            yield item
    finally:
        limits.cancel()
        await _close(response, pieces)


async def _close(response: Response, pieces: AsyncIterator[bytes]) -> None:
    """Close a response, even if the task is canceled meanwhile."""
    # A client of httpx may wait while it closes a connection. If that is interrupted, the
    # request stays in its pool, with the token and the prompt.
    try:
        # Responses of the package's own clients have no such attribute, and never wait.
        if getattr(response, "is_closed", True):
            await response.aclose()
        else:
            task = asyncio.ensure_future(response.aclose())
            keep_until_done(task)
            await asyncio.shield(task)
    finally:
        if isinstance(pieces, Inner):
            await pieces.aclose()
