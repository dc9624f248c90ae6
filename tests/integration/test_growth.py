"""Concurrent calls cost as much each, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from langchain_nscale.__main__ import main as run
from langchain_nscale.testing import NscaleServer
from tests.growth import growth
from tests.integration.conftest import MODEL


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


def test_lines_of_a_batch(server: NscaleServer, tmp_path: Path) -> None:
    settings = ["--base-url", server.base_url, "-t", server.token, "--progress", "none"]

    def work(size: int) -> Callable[[], Any]:
        source, target = tmp_path / "in.jsonl", tmp_path / f"out-{uuid4()}.jsonl"
        source.write_text('{"prompt": "Hi"}\n' * size)
        command = ["batch", str(source), str(target), "-m", MODEL, *settings]
        return lambda: run(command)

    assert growth(work, 50) < 1.3
