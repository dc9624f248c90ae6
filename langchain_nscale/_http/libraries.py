"""The HTTP libraries whose clients are accepted: httpx2 and httpx."""

from __future__ import annotations

import sys
from typing import Any


def library(client: object) -> Any:
    """Return the HTTP library of a client: httpx2, or httpx for older code.

    Raises:
        TypeError: The client belongs to neither.
    """
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in ("httpx2", "httpx"):
            return sys.modules[name]
    msg = (
        "`http_client` and `http_async_client` take a client of httpx2 or httpx, not "
        f"{type(client).__name__}."
    )
    raise TypeError(msg)


def http_errors(client_or_response: object) -> tuple[type[Exception], ...]:
    """Return the exceptions that an HTTP library raises for network faults."""
    origin = library(client_or_response)
    return (origin.HTTPError, origin.StreamError)
