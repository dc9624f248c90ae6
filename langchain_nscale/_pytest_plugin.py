"""The pytest fixtures; they import the server only when they are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from langchain_nscale.testing import NscaleServer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that keeps all tests of a project from the real service."""
    text = "Fail tests that would send a request to Nscale itself."
    parser.addini("nscale_offline", text, type="bool", default=False)


@pytest.fixture(autouse=True)
def _nscale_guard(request: pytest.FixtureRequest) -> None:
    if request.config.getini("nscale_offline"):
        request.getfixturevalue("nscale_offline")


@pytest.fixture
def nscale_offline() -> Iterator[None]:
    """Fail the test if it would send a request to another machine.

    `nscale_offline = true` in pytest's configuration does so for all tests.
    """
    from langchain_nscale._http.address import RequestGuard  # noqa: PLC0415

    RequestGuard.is_active = True
    RequestGuard.rejected.clear()
    yield
    RequestGuard.is_active = False
    if RequestGuard.rejected:  # even if the program has caught the error
        pytest.fail(f"Not sent: requests to {', '.join(RequestGuard.rejected)}")


@pytest.fixture
def nscale_environment(
    nscale_server: NscaleServer, monkeypatch: pytest.MonkeyPatch
) -> NscaleServer:
    """Run a stand-in server to which models lead that the tested code creates itself.

    `NSCALE_BASE_URL` and `NSCALE_SERVICE_TOKEN` are set for the test.
    """
    monkeypatch.setenv("NSCALE_BASE_URL", nscale_server.base_url)
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", nscale_server.token)
    return nscale_server


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
