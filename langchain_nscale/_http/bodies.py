"""Readers of bodies that are not streams: complete replies, and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from langchain_nscale._failures import compressed_response, status_error
from langchain_nscale._response import ReadResponse, Sent

if TYPE_CHECKING:
    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

R = TypeVar("R")
_MAX_ERROR_BYTES = 1_000_000  # far more than any message needs


def unlimited_body(response: Response) -> NscaleError | None:
    """Return the error for a body that can't be read up to a limit, if it can't."""
    # httpx decompresses each piece as a whole, so that 405 bytes of Brotli become a
    # gigabyte; httpx2 and the package's own clients do that in steps. So clients of httpx
    # ask for bodies that are not compressed, and what is compressed all the same is not
    # read.
    if type(response).__module__.partition(".")[0] != "httpx":
        return None
    if response.headers.get("content-encoding", "identity") == "identity":
        return None
    if not response.is_success:
        return status_error(response, b"")
    return compressed_response(response)


class _Body:
    """Collects a body."""

    is_ending = False

    def __init__(self) -> None:
        self.done = False
        self.progress = 0
        self._pieces: list[bytes] = []

    def partial(self) -> None:
        """Return nothing: a part of a body has no meaning."""

    def feed(self, data: bytes) -> tuple[()]:
        self.progress += len(data)
        self._pieces.append(data)
        return ()

    @property
    def content(self) -> bytes:
        return b"".join(self._pieces)


class WholeReader(_Body, Generic[R]):
    """Reads a complete reply: a stream of one item."""

    def __init__(self, read: Callable[[Sent], R], sent: Sent) -> None:
        """Begin a reply; `read` converts the response, once read, to the item."""
        super().__init__()
        self._read = read
        self._sent = sent

    def flush(self, cause: NscaleError | None = None) -> Iterator[R]:
        if cause is not None:
            raise cause
        response: Any = ReadResponse(self._sent.response, self.content)
        yield self._read(self._sent._replace(response=response))


class ErrorReader(_Body):
    """Reads the response of a request that failed; ignores most of a very long body."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self._response = response

    def feed(self, data: bytes) -> tuple[()]:
        """Take the next bytes, until there are enough for a message."""
        self.done = self.progress > _MAX_ERROR_BYTES
        return super().feed(data)

    def flush(self, _: NscaleError | None = None) -> Iterator[Any]:
        """Raise the error, even if its body was cut."""
        raise status_error(self._response, self.content)
        yield  # makes this an iterator, as in every reader
