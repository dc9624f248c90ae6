"""Integration tests: real HTTP on loopback, and Nscale itself where there is a token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from pytest_socket import socket_allow_hosts

from langchain_nscale import ChatNscale, aclose_connections, close_connections
from langchain_nscale.testing import NscaleServer

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
VISION_MODEL = "meta-llama/Llama-4-Scout-17B-16E-Instruct"


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("live") is None:
        socket_allow_hosts(["127.0.0.1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def _server() -> Iterator[NscaleServer]:
    with NscaleServer() as server:
        yield server


@pytest.fixture
def server(_server: NscaleServer) -> NscaleServer:
    """The session's server, as new."""
    _server.reset()
    return _server


@pytest.fixture
def make(server: NscaleServer) -> Any:
    """Make a model that talks to the server and gives up at once."""

    def make_model(**settings: Any) -> ChatNscale:
        defaults = {"model": MODEL, "max_retries": 0, "timeout": 20, **server.settings}
        return ChatNscale(**{**defaults, **settings})

    return make_model


@pytest.fixture(params=["shared", "own"])
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    """Settings for the shared clients, and for a user's own."""
    async with httpx2.AsyncClient() as asynchronous:
        with httpx2.Client() as sync:
            own = {"http_client": sync, "http_async_client": asynchronous}
            yield own if request.param == "own" else {}


@pytest.fixture
async def fresh_clients() -> AsyncIterator[None]:
    """Shared clients, which read the environment only once, are closed."""
    close_connections()
    await aclose_connections()
    yield
    close_connections()
    await aclose_connections()


@pytest.fixture
def to_server(server: NscaleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that lead the command line to the server."""
    monkeypatch.setenv("NSCALE_BASE_URL", server.base_url)
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", server.token)
