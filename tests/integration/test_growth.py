"""Concurrent calls cost as much each, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from langchain_nscale.testing import NscaleServer
from tests.growth import growth


@pytest.mark.parametrize("way", ["calls", "streams"])
def test_concurrency(make: Callable[..., Any], server: NscaleServer, way: str) -> None:
    loop = asyncio.new_event_loop()
    model = make(**server.settings)

    async def stream() -> None:
        async for _ in model.astream("Hi"):
            pass

    async def at_once(count: int) -> None:
        one = stream if way == "streams" else lambda: model.ainvoke("Hi")
        await asyncio.gather(*[one() for _ in range(count)])

    def work(size: int) -> Callable[[], Any]:
        # The same connections are used again, so that only the calls are counted.
        loop.run_until_complete(at_once(200))
        return lambda: loop.run_until_complete(at_once(size))

    try:
        assert growth(work, 50) < 1.3
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
