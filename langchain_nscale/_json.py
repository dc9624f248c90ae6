"""JSON as it is sent and received.

What is sent is always valid: no NaN, no Infinity, no lone surrogates. What is received
is read leniently: half of an emoji, deep nesting and invalid UTF-8 don't lose a reply.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jiter
from pydantic_core import PydanticSerializationError, to_json


def encode(body: Mapping[str, Any]) -> bytes:
    """Encode a request body as JSON.

    Raises:
        ValueError: A value has no JSON form, or a text has a lone surrogate.
    """
    try:
        return to_json(body)
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        msg = f"The request can't be encoded as JSON: {error}"
        raise ValueError(msg) from None


def decode(data: bytes) -> Any:
    """Decode JSON.

    Strings can contain lone surrogates, which `join_surrogates` repairs.

    Raises:
        ValueError: The data is not JSON, or nested too deeply for any parser.
    """
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


def join_surrogates(text: str) -> str:
    """Combine surrogate pairs, and replace lone surrogates by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def has_surrogates(text: str) -> bool:
    """Whether a text contains surrogates, which can't be encoded as UTF-8."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def without_surrogates(value: Any) -> Any:
    """Return a decoded value with all strings repaired by `join_surrogates`."""
    if isinstance(value, str):
        return join_surrogates(value) if has_surrogates(value) else value
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            without_surrogates(key): without_surrogates(item)
            for key, item in value.items()
        }
    return value
