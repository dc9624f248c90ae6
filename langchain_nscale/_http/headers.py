"""HTTP headers: checked when set, merged when sent, and hidden like queries elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Arguments of a call whose values can be secret, such as the key of a gateway.
_HIDDEN = ("extra_headers", "extra_query")
_MASK = "**********"  # as pydantic shows a SecretStr

_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

_HEADER_VALUE = r"([!-~]([\t -~]*[!-~])?)?"


def check_headers(headers: Mapping[Any, Any], setting: str) -> None:
    """Reject headers that can't be sent, or that the request itself determines.

    The error does not show values.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(_HEADER_NAME, name):
            msg = f"`{setting}` has {name!r}, which is not the name of a header."
            raise ValueError(msg)
        if name.lower() == "authorization":
            msg = f"`{setting}` has {name!r}: pass the token as `service_token` instead."
            raise ValueError(msg)
        if name.lower() in ("content-length", "transfer-encoding"):
            msg = f"`{setting}` has {name!r}, which the request determines: omit it."
            raise ValueError(msg)
        if not isinstance(value, str) or not re.fullmatch(_HEADER_VALUE, value):
            msg = (
                f"`{setting}` has an invalid value for {name!r}: use ASCII text on one "
                "line, without spaces around it."
            )
            raise ValueError(msg)


def merge_headers(*sources: Mapping[str, str] | None) -> dict[str, str]:
    """Merge headers; later ones replace earlier ones, whatever their letter case."""
    merged: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, value in (source or {}).items():
            merged[name.lower()] = (name, value)
    return dict(merged.values())


class HiddenValues(Mapping[str, object]):
    """Headers or a query, of which `repr` and `dumps` show the names only.

    langchain-core writes a `dict` into dumps as it is, and of other objects the `repr`.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self._values, _MASK))


def hide_in_dumps(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that are bound to a model, for dumps without secret values."""
    return {
        name: HiddenValues(value)
        if name in _HIDDEN and isinstance(value, Mapping)
        else value
        for name, value in call.items()
    }


def hide_in_traces(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with a mask in place of secret values."""
    hidden: dict[str, Any] = {}
    for name, value in call.items():
        hidden[name] = value
        if name in _HIDDEN and value is not None:
            is_valid = isinstance(value, Mapping)
            hidden[name] = dict.fromkeys(map(str, value), _MASK) if is_valid else _MASK
    return hidden


def digest(*sources: Any) -> str:
    """Return a SHA-256 of headers and queries, names and values; empty without any."""
    if not any(sources):
        return ""
    items = [sorted(dict(source or {}).items(), key=str) for source in sources]
    return hashlib.sha256(json.dumps(items, default=repr).encode()).hexdigest()
