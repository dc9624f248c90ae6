"""Texts -> batches, and the API's embeddings -> vectors. Pure: no I/O."""

from __future__ import annotations

import sys
from array import array
from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from math import isfinite, sqrt
from typing import Any

import jiter
from langchain_core.messages.ai import UsageMetadata

from langchain_nscale.errors import (
    error_object,
    malformed_response,
    public_response,
    reported_error,
)

_EXCERPT = 500  # bytes of a reply that an error keeps: vectors tell nobody anything
# Models that are told what a query is for, in the form of their authors' examples.
_INSTRUCTED = "qwen3-embedding"
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"


def check_texts(texts: Iterable[str]) -> list[str]:
    """The texts as a list.

    Raises:
        TypeError: One isn't a string, or all are one string.
        ValueError: One is empty: the service has nothing to embed.
    """
    if isinstance(texts, str):
        msg = "`texts` is a string: give a list of strings, or call `embed_query`."
        raise TypeError(msg)
    checked = list(texts)
    for number, text in enumerate(checked):
        if not text or not isinstance(text, str):
            check_text(text, f"texts[{number}]")
    return checked


def check_text(text: str, name: str = "text") -> None:
    """Refuse what can't be embedded; errors as for `check_texts`."""
    if not isinstance(text, str):
        msg = f"`{name}` is of type {type(text).__name__}: it has to be a string."
        raise TypeError(msg)
    if not text:
        msg = f"`{name}` is empty: there is nothing to embed. Leave it out."
        raise ValueError(msg)


def split(texts: Sequence[str], count: int, size: int) -> list[range]:
    """The numbers of the texts of each request.

    Args:
        texts: All texts.
        count: At most so many texts in a request.
        size: At most so many bytes of text in UTF-8; a longer text goes alone.
    """
    batches = []
    start = taken = 0
    for number, text in enumerate(texts):
        length = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if number > start and (number - start == count or taken + length > size):
            batches.append(range(start, number))
            start, taken = number, 0
        taken += length
    if texts:
        batches.append(range(start, len(texts)))
    return batches


def instructed_query(model: str, instruction: str | None, text: str) -> str:
    """A query with what it is for, where the model is made for that.

    Args:
        model: Id of the model.
        instruction: In the form of the Qwen3 models, or with `{query}` in any form; an
            empty one for none; `None` for the model's own default.
        text: The query.
    """
    if instruction is None:
        instruction = WEB_SEARCH if _INSTRUCTED in model.lower() else ""
    if "{query}" in instruction:
        return instruction.replace("{query}", text)
    return f"Instruct: {instruction}\nQuery:{text}" if instruction else text


def read_vectors(
    response: Any, count: int, dimensions: int | None = None, *, shorten: bool = False
) -> tuple[list[list[float]], UsageMetadata | None, str | None]:
    """Vectors in the order of the texts, usage, and the model's id in the reply.

    Args:
        response: The HTTP response, which has been read.
        count: How many texts there were.
        dimensions: The length asked for, if any.
        shorten: Whether vectors that are longer than that may be cut and normalised.

    Raises:
        NscaleError: The body is an error object, or not `count` such vectors.
    """
    body = _body(response)
    try:
        vectors = _vectors(body.get("data"), count)
        if dimensions:
            vectors = [_fitted(v, dimensions, shorten=shorten) for v in vectors]
    except _UnusableError as problem:
        excerpt = response.content[:_EXCERPT]
        raise malformed_response(str(problem), response, excerpt) from None
    return vectors, _usage(body.get("usage")), _string(body.get("model"))


class _UnusableError(Exception):
    """What is wrong with the embeddings of a reply."""


def _vectors(data: Any, count: int) -> list[list[float]]:
    found = data if isinstance(data, list) else []
    if len(found) != count:
        msg = f"it has {len(found)} embeddings for {count} texts"
        raise _UnusableError(msg)
    vectors: list[list[float]] = [[]] * count
    for place, entry in enumerate(found):
        try:
            number = entry.get("index", place)
            vector = _vector(entry["embedding"])
            taken = number < 0 or vectors[number]
            vectors[number] = vector
        except (AttributeError, LookupError, TypeError, ValueError):
            taken = True
        if taken:
            msg = f"`data[{place}]` isn't an embedding of one of the {count} texts"
            raise _UnusableError(msg)
        if not vector or not isfinite(sum(vector)):
            msg = f"the embedding in `data[{place}]` is empty or not finite"
            raise _UnusableError(msg)
    return vectors


def _body(response: Any) -> dict[str, Any]:
    try:
        body = jiter.from_json(response.content, cache_mode="none")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        what = "the body isn't a JSON object"
        raise malformed_response(what, response, response.content)
    if "data" not in body and error_object(body):
        raise reported_error(body, None, public_response(response, response.content))
    return body


def _vector(embedding: Any) -> list[float]:
    """A vector from a list of numbers, or from base64 of little-endian float32."""
    if not isinstance(embedding, str):
        return array("d", embedding).tolist()  # whole numbers become floats
    raw = a2b_base64(embedding)
    # What isn't base64 is passed over by the decoder; its strict mode needs Python 3.11.
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
    """A vector of the length asked for: cut and normalised, if that may be done."""
    if len(vector) == dimensions:
        return vector
    if len(vector) < dimensions or not shorten:
        msg = (
            f"it has vectors of {len(vector)} dimensions where {dimensions} were asked "
            "for: leave `dimensions` out, or choose another model"
        )
        raise _UnusableError(msg)
    cut = vector[:dimensions]
    norm = sqrt(sum(value * value for value in cut)) or 1.0
    return [value / norm for value in cut]


def may_shorten(model: str) -> bool:
    """Whether a model's vectors can be cut: its first dimensions hold the most."""
    return _INSTRUCTED in model.lower()


def _usage(usage: Any) -> UsageMetadata | None:
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    given = usage["prompt_tokens"]
    total = usage.get("total_tokens")
    total = total if isinstance(total, int) else given
    return UsageMetadata(input_tokens=given, output_tokens=0, total_tokens=total)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
