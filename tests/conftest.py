"""Shared by all tests: an environment in which nothing of the developer's shows."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from langchain_nscale import _model_list

settings.register_profile(
    "nscale",
    deadline=None,  # machines are shared; a slow example is no failure
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nscale")

_PREFIXES = ("OPENAI_", "NSCALE_", "LANGSMITH_", "LANGCHAIN_", "LC_")
LIVE_TOKEN = os.environ.get("NSCALE_SERVICE_TOKEN")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(_PREFIXES):
            monkeypatch.delenv(name)
    # A proxy of the developer's machine isn't loopback.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(autouse=True)
def _forget_model_lists() -> None:
    _model_list.cache.clear()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries wait as long as the service says: at random, they would wait longer."""
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)


@pytest.fixture(autouse=True)
def _own_folders(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line's own files are not the user's."""
    folder = str(tmp_path_factory.getbasetemp() / "home")
    monkeypatch.setenv("XDG_STATE_HOME", folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", folder)
