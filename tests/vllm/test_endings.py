"""Replies that the engine does not finish, and callers who do not wait for the end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Any

import pytest

from langchain_nscale.errors import NscaleError
from tests.vllm.engine import Engine, running

LONG = "[[say: " + "word " * 1900 + "]]"


def wait_until_idle(engine: Engine) -> None:
    deadline = time.monotonic() + 1
    while engine.metric("num_requests_running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # the engine offers nothing to wait for


def test_streams_that_are_left_end_in_the_engine(engine: Engine) -> None:
    chat = engine.chat(max_tokens=1900)
    for chunk in chat.stream(LONG):
        assert chunk.text is not None
        break
    wait_until_idle(engine)

    async def cancel() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(chat.ainvoke(LONG), 1.0)
        stream = chat.astream(LONG)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # a generator

    asyncio.run(cancel())
    wait_until_idle(engine)


@pytest.mark.parametrize("victim", ["engine", "server"])
def test_a_reply_that_is_not_finished_is_never_an_answer(victim: str) -> None:
    with running() as engine:
        chat = engine.chat(max_tokens=1900, stream_chunk_timeout=5, timeout=30)
        received: list[Any] = []
        core = engine.engine_process()
        with pytest.raises(NscaleError) as caught:
            for chunk in chat.stream(LONG):
                received.append(chunk)
                if len(received) == 20:
                    # All 1,900 tokens take it a fifth of a second: it must not finish.
                    os.kill(core, signal.SIGSTOP)
                    if victim == "engine":
                        os.kill(core, signal.SIGKILL)
                    else:
                        engine.process.send_signal(signal.SIGTERM)
        with suppress(ProcessLookupError):
            os.kill(core, signal.SIGKILL)
        assert caught.value.is_retryable
        assert caught.value.partial is not None
        assert len(caught.value.partial.text.split()) >= 10
