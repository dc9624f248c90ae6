"""The pytest fixture `nscale_server`; imports the server only when it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from langchain_nscale.testing import NscaleServer


@pytest.fixture
def nscale_server() -> Iterator[NscaleServer]:
    """Run a stand-in server for one test: `ChatNscale(..., **nscale_server.settings)`."""
    from langchain_nscale.testing import NscaleServer  # noqa: PLC0415  # imported on demand

    with NscaleServer() as server:
        yield server
