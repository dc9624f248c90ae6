"""The pytest fixture `nscale_server`; imports the server only when it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from langchain_nscale.testing import NscaleServer


@pytest.fixture
def nscale_server() -> Iterator[NscaleServer]:
    """Run a stand-in server for one test: `ChatNscale(..., **nscale_server.settings)`.

    It rejects unknown models. The test fails at its end if scripted replies have not been
    requested and, with `nscale_server.strict = True`, if requests were not scripted.
    """
    from langchain_nscale.testing import NscaleServer  # noqa: PLC0415  # imported on demand

    with NscaleServer(any_model=False) as server:
        yield server
        server.check()
