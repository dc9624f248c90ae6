"""HTTP headers: checked when they are set, merged when they are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

_HEADER_VALUE = r"([!-~]([\t -~]*[!-~])?)?"


def check_headers(headers: Mapping[Any, Any], setting: str) -> None:
    """Reject headers that can't be sent, or that the request itself determines.

    Raises:
        ValueError: A name or value is invalid, or the header is `Authorization`,
            `Content-Length` or `Transfer-Encoding`. The error does not show values.
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
