"""Reads the vectors of an embeddings response."""

from __future__ import annotations

import sys
from array import array
from binascii import a2b_base64
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import jiter

from langchain_nscale._error_bodies import error_object
from langchain_nscale._failures import malformed_response, reported_error
from langchain_nscale._replies.usage import usage_metadata

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

    from langchain_nscale._response import Response

_EXCERPT = 500  # bytes of a response that an error keeps; the rest would only be vectors


class Vectors(NamedTuple):
    """What an embeddings response contains.

    Attributes:
        vectors: One vector for each text, in the order of the texts.
        usage: Tokens used, if reported.
        model: ID of the model according to the response, if it names one.
    """

    vectors: list[list[float]]
    usage: UsageMetadata | None
    model: str | None


def read_vectors(
    response: Response,
    count: int,
    dimensions: int | None = None,
    *,
    shorten: bool = False,
) -> Vectors:
    """Read the vectors of `count` texts.

    Args:
        response: The HTTP response, whose body has been read.
        count: Number of texts in the request.
        dimensions: The requested length, if any.
        shorten: Whether longer vectors may be truncated to it and normalized.

    Raises:
        NscaleError: The body is an error object, or does not have `count` such vectors.
    """
    body = _read_body(response)
    try:
        vectors = _in_order(body.get("data"), count)
        if dimensions:
            vectors = [_fitted(v, dimensions, shorten=shorten) for v in vectors]
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
    if "data" not in body and error_object(body):
        raise reported_error(body, response)
    return body


def _in_order(data: Any, count: int) -> list[list[float]]:
    entries = data if isinstance(data, list) else []
    if len(entries) != count:
        msg = f"it has {len(entries)} embeddings for {count} texts"
        raise _UnusableError(msg)
    vectors: list[list[float]] = [[]] * count
    for position, entry in enumerate(entries):
        vector: list[float] = []
        try:
            index = entry.get("index", position)
            vector = _vector(entry["embedding"])
            is_taken = index < 0 or vectors[index]
            vectors[index] = vector
        except (AttributeError, LookupError, TypeError, ValueError):
            is_taken = True
        if is_taken:
            msg = f"`data[{position}]` is not an embedding of one of the {count} texts"
            raise _UnusableError(msg)
        if not vector or not isfinite(sum(vector)):
            msg = f"the embedding in `data[{position}]` is empty or not finite"
            raise _UnusableError(msg)
    return vectors


def _vector(embedding: Any) -> list[float]:
    """Convert a list of numbers, or base64 of little-endian float32, to floats."""
    if not isinstance(embedding, str):
        return array("d", embedding).tolist()  # turns integers into floats
    raw = a2b_base64(embedding)
    # The decoder skips invalid characters; its strict mode needs Python 3.11.
    if len(raw) != len(embedding) // 4 * 3 - embedding[-2:].count("="):
        raise ValueError
    if sys.byteorder == "big":  # pragma: no cover  # no such machine here
        packed = array("f", raw)
        packed.byteswap()
        return packed.tolist()
    floats: Any = memoryview(raw).cast("f")
    vector: list[float] = floats.tolist()
    return vector


def _fitted(vector: list[float], dimensions: int, *, shorten: bool) -> list[float]:
    """Return a vector of the requested length, truncated and normalized if allowed."""
    if len(vector) == dimensions:
        return vector
    if len(vector) < dimensions or not shorten:
        msg = (
            f"it has vectors of {len(vector)} dimensions where {dimensions} were "
            "requested: omit `dimensions`, or choose another model"
        )
        raise _UnusableError(msg)
    cut = vector[:dimensions]
    norm = sqrt(sum(value * value for value in cut)) or 1.0
    return [value / norm for value in cut]
