"""Encodes requests as valid JSON, and decodes responses leniently.

Requests contain no NaN, Infinity or lone surrogates. In responses, half of an emoji, deep
nesting and invalid UTF-8 don't lose a reply.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from math import isfinite
from typing import Any

import jiter
from pydantic_core import to_json


def encode(body: Mapping[str, Any]) -> bytes:
    """Encode a request body as JSON; a ValueError says what has no JSON form."""
    with suppress(ValueError, TypeError, RecursionError):
        return to_json(body, inf_nan_mode="null")
    try:
        return json.dumps(_plain(body, "", strict=True), ensure_ascii=False).encode()
    except RecursionError:
        msg = "The request can't be encoded as JSON: it is nested too deeply."
        raise ValueError(msg) from None


_compact = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False
).encode


def to_json_text(value: Any) -> str:
    """Return any value as JSON; objects without a JSON form become text."""
    with suppress(ValueError, TypeError, RecursionError):
        text = _compact(value)
        if not has_surrogates(text):
            return text
    try:
        return _compact(_plain(value, "", strict=False))
    except RecursionError:
        return _compact("(nested too deeply)")


def _plain(value: Any, path: str, *, strict: bool) -> Any:  # noqa: PLR0911  # a case each
    """Return a value as JSON has it: no NaN, infinity, surrogates, bytes or objects."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, str):
        text = str.__str__(value)  # of an enum, its value
        return join_surrogates(text) if has_surrogates(text) else text
    if isinstance(value, Mapping):
        return {
            _plain(str(key), path, strict=strict): _plain(
                item, f"{path}.{key}".lstrip("."), strict=strict
            )
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [
            _plain(item, f"{path}[{number}]", strict=strict)
            for number, item in enumerate(value)
        ]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Decimal):
        return _number(value)
    try:
        return _plain(_known_form(value), path, strict=strict)
    except ValueError:
        if not strict:
            return str(value)
        msg = (
            f"The request can't be encoded as JSON: {path} is of type "
            f"{type(value).__name__}."
        )
        raise ValueError(msg) from None


def _number(value: Decimal) -> float | str | None:
    """Return a decimal as a number, or as text if it has too many digits for one."""
    if not value.is_finite():
        return None
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _known_form(value: Any) -> Any:
    """Return what an object of a library is in JSON; raise a ValueError if nothing."""
    # numpy's and other libraries' numbers and arrays.
    with suppress(Exception):
        plain = value.tolist()
        if isinstance(plain, (bool, int, float, str, list)):
            return plain
    return json.loads(to_json(value, inf_nan_mode="null"))


def decode(data: bytes) -> Any:
    """Decode JSON, perhaps with lone surrogates, which `join_surrogates` repairs."""
    try:
        return jiter.from_json(data, cache_mode="keys")
    except ValueError:
        pass
    try:
        # Accepts lone surrogates and deeper nesting.
        return json.loads(data.decode("utf-8", "replace"), strict=False)
    except RecursionError:
        msg = "it is nested too deeply"
        raise ValueError(msg) from None


def fenced_blocks(text: str) -> Iterator[str]:
    """Yield the contents of the Markdown code blocks in a text, in linear time."""
    # A pattern that looks for the end of each fence takes quadratic time for a text with
    # many of them.
    lines = text.split("\n")
    marks = [line.strip(" \t\r") for line in lines]
    ends = {
        fence: [number for number, mark in enumerate(marks) if mark == fence]
        for fence in ("```", "~~~")
    }
    number = 0
    while number < len(lines):
        candidates = ends.get(marks[number][:3], ())
        place = bisect_right(candidates, number)
        if place < len(candidates):
            yield "".join(f"{line}\n" for line in lines[number + 1 : candidates[place]])
            number = candidates[place]
        number += 1


def join_surrogates(text: str) -> str:
    """Combine surrogate pairs, and replace lone surrogates by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def has_surrogates(text: str) -> bool:
    """Return whether a text contains surrogates, which can't be encoded as UTF-8."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


_MIN_INT, _MAX_INT = -(2**63), 2**64  # what MessagePack can hold
# What OpenAI's and vLLM's APIs write for a log probability of minus infinity.
_IMPOSSIBLE = -9999.0


def storable(value: Any) -> Any:
    """Return a decoded value in a form that caches and checkpoints can store.

    Strings are valid Unicode, integers have at most 64 bits or become strings, and
    numbers are finite: JSON has no infinity, and MessagePack no larger integers.
    """
    if isinstance(value, str):
        return join_surrogates(value) if has_surrogates(value) else value
    if isinstance(value, int):
        return value if _MIN_INT <= value < _MAX_INT else str(value)
    if isinstance(value, float):
        impossible = _IMPOSSIBLE if value < 0 else None
        return value if isfinite(value) else impossible
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value
