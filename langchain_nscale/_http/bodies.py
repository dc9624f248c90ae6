"""Reads the body of a response up to a limit: nothing incoming is unbounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_nscale._failures import oversized_response

if TYPE_CHECKING:
    from langchain_nscale._response import Response

_MAX_ERROR_BYTES = 1_000_000  # far more than any message needs


class _Collector:
    """Collects the pieces of a body.

    The rest of a longer error body is dropped; any other body must not be longer.
    """

    def __init__(self, response: Response, limit: int | None) -> None:
        self._response = response
        self._limit = limit if response.is_success else _MAX_ERROR_BYTES
        self._pieces: list[bytes] = []
        self._size = 0

    def is_full(self, piece: bytes) -> bool:
        """Take the next piece; return whether the rest is to be dropped."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._limit is None or self._size <= self._limit:
            return False
        if self._response.is_success:
            raise oversized_response(self._response, self._limit)
        return True

    def content(self) -> bytes:
        return b"".join(self._pieces)


def read_body(response: Response, limit: int | None) -> bytes:
    """Return the decompressed body and close the response.

    Args:
        response: A sync response whose body has not been read.
        limit: The largest size of a successful response's body in bytes.

    Raises:
        NscaleMalformedResponseError: The body is larger.
    """
    body = _Collector(response, limit)
    try:
        for piece in response.iter_bytes():
            if body.is_full(piece):
                break
    finally:
        response.close()
    return body.content()


async def aread_body(response: Response, limit: int | None) -> bytes:
    """Async version of `read_body`."""
    body = _Collector(response, limit)
    try:
        async for piece in response.aiter_bytes():
            if body.is_full(piece):
                break
    finally:
        await response.aclose()
    return body.content()
