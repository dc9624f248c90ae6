"""The model list over HTTP, and what it adds to the error for an unknown model."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from langchain_nscale import (
    ChatNscale,
    NscaleAuthenticationError,
    NscaleModel,
    NscaleModelNotFoundError,
    alist_models,
    list_models,
)
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL
from tests.integration.test_chat import WAYS, consume

List = Callable[..., Awaitable[list[NscaleModel]]]


async def _by_function(server: NscaleServer, **more: Any) -> list[NscaleModel]:
    return list_models(**server.settings, **more)


async def _by_async_function(server: NscaleServer, **more: Any) -> list[NscaleModel]:
    return await alist_models(**server.settings, **more)


async def _by_model(server: NscaleServer, **more: Any) -> list[NscaleModel]:
    return ChatNscale(model=MODEL, **server.settings).list_models(**more)


async def _by_model_async(server: NscaleServer, **more: Any) -> list[NscaleModel]:
    return await ChatNscale(model=MODEL, **server.settings).alist_models(**more)


BOTH_WAYS = pytest.mark.parametrize(
    "listed", [_by_function, _by_async_function, _by_model, _by_model_async]
)


@BOTH_WAYS
async def test_the_list(server: NscaleServer, listed: List) -> None:
    found = {model.id: model for model in await listed(server)}
    assert found[MODEL].input_price == Decimal("0.06")
    assert found["Qwen/Qwen3-4B-Instruct-2507"].output_price == Decimal("0.03")
    assert found["Qwen/Qwen3-Embedding-8B"].kind == "embedding"
    request = server.requests[0]
    assert (request.method, request.path, request.body) == ("GET", "/v1/models", b"")
    assert "content-type" not in request.headers


@BOTH_WAYS
async def test_it_is_cached(
    server: NscaleServer, listed: List, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await listed(server)
    first.clear()  # the caller's own copy
    assert await listed(server)
    assert len(server.requests) == 1
    await listed(server, refresh=True)
    assert len(server.requests) == 2
    clock = time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: clock() + 301)
    await listed(server)
    assert len(server.requests) == 3


async def test_another_token_has_another_list(server: NscaleServer) -> None:
    assert list_models(**server.settings)
    with pytest.raises(NscaleAuthenticationError):
        list_models(**{**server.settings, "service_token": "other"})


def test_the_cache_is_bounded(server: NscaleServer) -> None:
    def is_cached(number: int) -> bool:
        before = len(server.requests)
        list_models(**server.settings, default_query={"n": number})
        return len(server.requests) == before

    assert not any(map(is_cached, range(20)))
    assert is_cached(19)
    assert not is_cached(0)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="NSCALE_SERVICE_TOKEN"):
        list_models()
    with pytest.raises(ValueError, match="no setting `bse_url`"):
        list_models(service_token="t", bse_url="x")


@WAYS
async def test_an_unknown_model_suggests_others(
    make: Any, server: NscaleServer, way: str
) -> None:
    server.add(ServerReply.error(404, "The model does not exist", code="NOT_FOUND"))
    with pytest.raises(NscaleModelNotFoundError) as caught:
        await consume(make(model="meta-llama/llama-3.1-8b"), "Hi", way)
    assert caught.value.suggestions[0] == MODEL
    assert f"Similar models: {MODEL}" in str(caught.value)
    assert str(caught.value) == caught.value.message


async def test_a_listed_model_that_is_unavailable(
    make: Any, server: NscaleServer
) -> None:
    server.add(ServerReply.error(404, "The model is not available"))
    with pytest.raises(NscaleModelNotFoundError, match="The service lists it"):
        make().invoke("Hi")


@WAYS
@pytest.mark.parametrize("base_path", ["", "/v2"])
async def test_no_list_no_suggestion(
    make: Any, server: NscaleServer, way: str, base_path: str
) -> None:
    # A wrong address: its model list is a 404 too.
    address = server.base_url.removesuffix("/v1") + base_path
    with pytest.raises(NscaleModelNotFoundError, match="base_url") as caught:
        await consume(make(base_url=address), "Hi", way)
    assert caught.value.suggestions == ()
    assert "Similar" not in str(caught.value)


def test_nothing_alike_no_suggestion(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply.error(404, "The model does not exist"))
    with pytest.raises(NscaleModelNotFoundError) as caught:
        make(model="gpt-4o").invoke("Hi")
    assert "Similar" not in str(caught.value)
