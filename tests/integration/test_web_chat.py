"""The web chat of examples/: its events, and its page in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn

from examples.web_chat.app import make_app, respond
from langchain_nscale import ChatNscale
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def stand_in() -> Iterator[NscaleServer]:
    with NscaleServer(responder=respond) as server:
        yield server


@pytest.fixture(scope="module")
def address(stand_in: NscaleServer) -> Iterator[str]:
    model = ChatNscale(model=MODEL, max_retries=0, **stand_in.settings)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(make_app(model), log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


def events(address: str, question: str, thread: str = "1") -> list[dict[str, Any]]:
    body = {"question": question, "thread": thread}
    text = httpx2.post(f"{address}/chat", json=body, timeout=30).text
    return [json.loads(part[6:]) for part in text.split("\n\n") if part]


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="LangGraph's async nodes don't see the callbacks before Python 3.11",
)
def test_events(address: str) -> None:
    found = events(address, "What time is it?")
    kinds = [event["kind"] for event in found]
    assert kinds[0] == "reasoning"
    assert [kind for kind in kinds if kind in ("tool", "result")] == ["tool", "result"]
    text = "".join(event["text"] for event in found if event["kind"] == "text")
    assert text.startswith("It is **")
    assert kinds.count("text") > 2  # streamed
    assert found[-1]["calls"] == 2


def test_the_conversation_is_remembered(address: str, stand_in: NscaleServer) -> None:
    events(address, "one", "remembered")
    events(address, "two", "remembered")
    turns = [turn["content"] for turn in stand_in.requests[-1].json["messages"]]
    assert turns == ["one", "You said: one", "two"]


def test_errors_are_told(address: str, stand_in: NscaleServer) -> None:
    stand_in.add(ServerReply.insufficient_credit())
    found = events(address, "Hi", "failing")
    assert found[0]["kind"] == "error"
    assert "insufficient credit" in found[0]["text"]
    assert httpx2.post(f"{address}/chat", json={}).status_code == 400


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_a_browser(address: str) -> None:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # slow

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"]
        )
        page = browser.new_page()
        failures: list[Any] = []
        page.on("pageerror", lambda error: failures.append(error))  # noqa: PLW0108  # a builtin can't be marked
        page.goto(address)
        for question in ("What time is it?", "And hello <b>there</b>"):
            page.fill("#question", question)
            page.click("#send")
            page.wait_for_selector(".turn.model:last-child .done")
        assert page.inner_text(".turn.model:nth-of-type(2) .tool") == "calls get_time"
        first = page.inner_text(".turn.model:nth-of-type(2) .text")
        assert first.startswith("It is **")
        # What is said is text to the page, never markup.
        last = page.inner_text(".turn.model:last-child .text")
        assert last == "You said: And hello <b>there</b>"
        assert page.is_enabled("#send")
        assert failures == []
        if picture := os.environ.get("WEB_CHAT_PICTURE"):
            page.screenshot(path=picture)
        browser.close()
