"""The parts of an HTTP response used here, common to httpx2 and httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple, Protocol


class Response(Protocol):
    """A response of httpx2, httpx or the package's own clients: what is used of it.

    The names of headers have any letter case, `content` is the body once it has been
    read, the iterators decompress it, and `close` releases the connection.
    """

    @property
    def status_code(self) -> int: ...

    @property
    def is_success(self) -> bool: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content(self) -> bytes: ...

    @property
    def request(self) -> Any: ...  # its type depends on the library

    def iter_bytes(self) -> Iterator[bytes]: ...

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class ReadResponse:
    """A response whose body has been read; everything else is the response's."""

    def __init__(self, response: Response, content: bytes) -> None:
        self.content = content
        self._response = response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)


class AskAgainError(Exception):
    """Raised by a reader if the call needs another request; not counted as a retry."""


class Sent(NamedTuple):
    """A request's successful response, and how it was obtained."""

    response: Response  # whose body has been read, unless a stream was requested
    retries: int
