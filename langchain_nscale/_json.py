"""Encodes request bodies as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
