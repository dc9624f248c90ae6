"""The fixture `nscale_server`. Registered as a pytest plugin; imports nothing unused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from langchain_nscale.testing import NscaleServer


@pytest.fixture
def nscale_server() -> Iterator[NscaleServer]:
    """A stand-in server for one test: `ChatNscale(..., **nscale_server.settings)`."""
    from langchain_nscale.testing import NscaleServer  # noqa: PLC0415  # on use only

    with NscaleServer() as server:
        yield server
