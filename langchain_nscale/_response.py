"""The parts of an HTTP response used here, common to httpx2 and httpx."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, cast


class Response(Protocol):
    """A response of httpx2 or httpx."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in any letter case."""
        ...

    @property
    def content(self) -> bytes:
        """The body, once it has been read."""
        ...

    @property
    def request(self) -> Any:
        """The request; `Any` because its type depends on the library."""
        ...

    def iter_bytes(self) -> Iterator[bytes]:
        """Iterate over the decompressed body as it arrives."""
        ...

    def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the decompressed body of an async response."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...

    async def aclose(self) -> None:
        """Release the connection of an async response."""
        ...


class ReadResponse:
    """A response whose body has been read."""

    def __init__(self, response: Response, content: bytes) -> None:
        """Combine a response with the body that was read from it."""
        self.status_code = response.status_code
        self.content = content
        self._response = response

    @classmethod
    def of(cls, response: Response, content: bytes) -> Response:
        """Return a read response typed as a `Response`; it is never read again."""
        return cast("Response", cls(response, content))

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in any letter case."""
        return self._response.headers

    @property
    def request(self) -> Any:
        """The request; `Any` because its type depends on the library."""
        return self._response.request

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status_code // 100 == 2  # noqa: PLR2004  # 2xx


class AskAgainError(Exception):
    """Raised by a reader if the call needs another request; not counted as a retry."""


class Sent(NamedTuple):
    """A request's successful response, and how it was obtained."""

    response: Response  # whose body has been read, unless a stream was requested
    retries: int
