"""Each row of the documentation's table of errors, over HTTP, by all four ways."""

from __future__ import annotations

import pickle
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI

from langchain_nscale import NscaleError
from langchain_nscale.testing import NscaleServer, ServerReply
from scripts.errors_page import PAGE, page
from tests.conditions import ROWS, Condition
from tests.integration.test_chat import WAYS, consume


def test_the_page_is_as_the_code_says() -> None:
    shown = PAGE.read_text(encoding="utf-8")
    assert shown == page(), "run `python -m scripts.errors_page`"


@pytest.mark.parametrize(("row", "way"), ROWS.values(), ids=ROWS)
async def test_a_row(make: Any, server: NscaleServer, row: Condition, way: str) -> None:
    if row.reply:
        server.add(row.reply)
    with pytest.raises(NscaleError) as caught:
        await consume(make(**row.settings), "Hi", way)
    error = caught.value
    assert type(error) is row.kind
    if row.what[:3].isdigit():
        assert error.status_code == int(row.what[:3])
    assert type(pickle.loads(pickle.dumps(error))) is row.kind
    assert server.token not in str(error) + repr(vars(error))


@WAYS
async def test_credit_is_asked_for_once_where_the_sdk_asks_three_times(
    make: Any, server: NscaleServer, way: str
) -> None:
    server.add(*[ServerReply.insufficient_credit()] * 4)
    with pytest.raises(NscaleError):
        await consume(make(max_retries=2), "Hi", way)
    assert len(server.requests) == 1

    server.reset()
    server.add(*[ServerReply.insufficient_credit()] * 4)
    # Its shared clients are of another loop, or left to the garbage collector. The SDK's
    # own are of httpx or of httpx2, by its version.
    async with openai.DefaultAsyncHttpxClient() as client:
        with openai.DefaultHttpxClient() as sync_client:
            other = ChatOpenAI(
                model="m",
                base_url=server.base_url,
                api_key=server.token,
                max_retries=2,
                http_client=sync_client,
                http_async_client=client,
            )
            with pytest.raises(openai.RateLimitError):
                await consume(other, "Hi", way)
    assert len(server.requests) == 3
