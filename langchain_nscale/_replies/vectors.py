"""Reads the vectors of an embeddings response."""

from __future__ import annotations

import sys
from array import array
from binascii import a2b_base64
from collections.abc import Callable
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jiter

from langchain_nscale._error_bodies import error_object
from langchain_nscale._failures import malformed_response, reported_error
from langchain_nscale._replies.usage import usage_metadata

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.messages.ai import UsageMetadata
    from numpy.typing import NDArray

    from langchain_nscale._response import Response

T = TypeVar("T")

_EXCERPT = 500  # bytes of a response that an error keeps; the rest would only be vectors


class Vectors(NamedTuple):
    """The contents of an embeddings response."""

    vectors: Any  # in the order of the texts: lists of floats, or the rows of an array
    usage: UsageMetadata | None
    model: str | None  # according to the response


def read_vectors(
    response: Response,
    count: int,
    dimensions: int | None = None,
    *,
    shorten: bool = False,
) -> Vectors:
    """Read the vectors of `count` texts as lists, shortened to `dimensions` if allowed.

    An error object, or anything but `count` such vectors, raises a `NscaleError`.
    """

    def convert(data: Any) -> list[list[float]]:
        vectors = _in_order(data, count, _vector)
        if not dimensions:
            return vectors
        return [_fitted(v, dimensions, shorten=shorten) for v in vectors]

    return _read(response, convert)


def read_array(
    response: Response,
    count: int,
    dimensions: int | None = None,
    *,
    shorten: bool = False,
) -> Vectors:
    """Read the vectors of `count` texts as rows of float32; see `read_vectors`."""
    import numpy as np  # noqa: PLC0415  # optional

    def convert(data: Any) -> NDArray[np.float32]:
        packed = _in_order(data, count, _packed)
        if len(set(map(len, packed))) > 1:
            msg = "its embeddings differ in length"
            raise _UnusableError(msg)
        rows = np.frombuffer(b"".join(packed), "<f4").reshape(count, -1)
        if not np.isfinite(rows).all():
            msg = "one of its embeddings is not finite"
            raise _UnusableError(msg)
        if not dimensions or not _is_longer(rows.shape[1], dimensions, shorten=shorten):
            return rows.astype(np.float32, copy=False)  # big-endian machines convert
        cut = rows[:, :dimensions].astype(np.float64)
        norms = np.sqrt((cut * cut).sum(axis=1, keepdims=True))
        norms[norms == 0] = 1
        shortened: NDArray[np.float32] = (cut / norms).astype(np.float32)
        return shortened

    return _read(response, convert)


def _read(response: Response, convert: Callable[[Any], Any]) -> Vectors:
    body = _read_body(response)
    try:
        vectors = convert(body.get("data"))
    except _UnusableError as problem:
        excerpt = response.content[:_EXCERPT]
        raise malformed_response(str(problem), response, excerpt) from None
    model = body.get("model")
    return Vectors(
        vectors,
        usage_metadata(body.get("usage"), has_output=False),
        model if isinstance(model, str) and model else None,
    )


class _UnusableError(Exception):
    """The embeddings of a response can't be used; the message says why."""


def _read_body(response: Response) -> dict[str, Any]:
    try:
        body = jiter.from_json(response.content, cache_mode="none")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        problem = "the body is not a JSON object"
        raise malformed_response(problem, response, response.content)
    if not body.get("data") and error_object(body):
        raise reported_error(body, response)
    return body


def _in_order(data: Any, count: int, convert: Callable[[Any], T]) -> list[T]:
    """Convert the embedding of each entry; return them in the order of the texts."""
    entries = data if isinstance(data, list) else []
    if len(entries) != count:
        msg = f"it has {len(entries)} embeddings for {count} texts"
        raise _UnusableError(msg)
    converted: dict[int, T] = {}
    for position, entry in enumerate(entries):
        value: Any = None
        try:
            index = entry.get("index", position)
            is_taken = index in converted or not 0 <= index < count
            value = convert(entry["embedding"])
            converted[index] = value
        except (AttributeError, LookupError, TypeError, ValueError):
            is_taken = True
        if is_taken:
            msg = f"`data[{position}]` is not an embedding of one of the {count} texts"
            raise _UnusableError(msg)
        if not value or (isinstance(value, list) and not isfinite(sum(value))):
            msg = f"the embedding in `data[{position}]` is empty or not finite"
            raise _UnusableError(msg)
    return [converted[number] for number in range(count)]


def _packed(embedding: Any) -> bytes:
    """Convert a list of numbers, or base64, to bytes of little-endian float32."""
    if isinstance(embedding, str):
        raw = a2b_base64(embedding)
        # The decoder skips invalid characters; its strict mode needs Python 3.11.
        if len(raw) % 4 or len(raw) != len(embedding) // 4 * 3 - embedding[-2:].count(
            "="
        ):
            raise ValueError
        return raw
    return _little_endian(array("f", embedding)).tobytes()


def _vector(embedding: Any) -> list[float]:
    """Convert a list of numbers, or base64 of little-endian float32, to floats."""
    if not isinstance(embedding, str):
        return array("d", embedding).tolist()  # turns integers into floats
    return _little_endian(array("f", _packed(embedding))).tolist()


def _little_endian(packed: array[float]) -> array[float]:
    if sys.byteorder == "big":  # pragma: no cover  # no such machine here
        packed.byteswap()
    return packed


def _fitted(vector: list[float], dimensions: int, *, shorten: bool) -> list[float]:
    """Return a vector of the requested length, truncated and normalized if allowed."""
    if not _is_longer(len(vector), dimensions, shorten=shorten):
        return vector
    cut = vector[:dimensions]
    norm = sqrt(sum(value * value for value in cut)) or 1.0
    return [value / norm for value in cut]


def _is_longer(length: int, dimensions: int, *, shorten: bool) -> bool:
    """Return whether vectors must be shortened; raise if that is not possible."""
    if length == dimensions:
        return False
    if length < dimensions or not shorten:
        msg = (
            f"it has vectors of {length} dimensions where {dimensions} were "
            "requested: omit `dimensions`, or choose another model"
        )
        raise _UnusableError(msg)
    return True
