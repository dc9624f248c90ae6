"""The web chat of examples/: its events, and its page in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn

from examples.web_chat.app import make_app, render, respond
from langchain_nscale import ChatNscale
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

STREAMS = pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="LangGraph's async nodes don't see the callbacks before Python 3.11",
)


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


JSON = {"content-type": "application/json"}
OTHER_SITES: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1.evil.example"},
    {"content-type": "text/plain"},
    {"content-type": "text/plain", "origin": "https://evil.example"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"host": "evil.example"},
    {"host": "evil.example", "origin": "http://evil.example"},
]


@pytest.mark.parametrize("headers", OTHER_SITES)
def test_other_sites_get_no_answer(
    address: str, stand_in: NscaleServer, headers: dict[str, str]
) -> None:
    before = len(stand_in.requests)
    body = json.dumps({"question": "Add 2 and 3", "thread": "other"})
    headers = {**JSON, **headers}
    response = httpx2.post(f"{address}/chat", content=body, headers=headers)
    assert response.status_code in (400, 403)
    assert len(stand_in.requests) == before


def test_deep_json_is_rejected(address: str) -> None:
    response = httpx2.post(f"{address}/chat", content=b"[" * 200_000, headers=JSON)
    assert response.status_code == 400


@STREAMS
def test_events(address: str) -> None:
    found = events(address, "What time is it in Lima?")
    kinds = [event["kind"] for event in found]
    assert kinds[0] == "reasoning"
    assert [kind for kind in kinds if kind in ("tool", "result")] == ["tool", "result"]
    text = "".join(event["text"] for event in found if event["kind"] == "text")
    assert text.startswith("It is **")
    assert "in Lima**" in text
    assert kinds.count("text") > 2  # streamed
    assert found[-1]["calls"] == 2
    assert found[-2]["html"].startswith("<p>It is <strong>")


def test_it_adds_as_its_page_promises(address: str) -> None:
    found = events(address, "Add 2 and 3")
    asides = [event["text"] for event in found if event["kind"] in ("tool", "result")]
    assert asides == ["add(a=2, b=3)", "5.0"]
    html = [event["html"] for event in found if event["kind"] == "html"]
    assert "The sum is <strong>5</strong>" in html[-1]


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "[a](javascript:alert(1))",
        "[a](data:text/html,x)",
        "![a](data:image/svg+xml,x)",
        "<a href='javascript:alert(1)'>a</a>",
        "```\n</code></pre><script>alert(1)</script>\n```",
    ],
)
def test_a_model_cannot_add_code_to_the_page(text: str) -> None:
    html = render(text)
    assert not re.search(r"<(?!/?(p|pre|code|a|img|ul|li|strong)\b)", html)
    assert not re.search(r"(href|src)=\"(?!https?:)", html)
    assert not re.search(r"<[^>]*\son\w+=", html)


def test_the_conversation_is_remembered(address: str, stand_in: NscaleServer) -> None:
    stand_in.add("First.", "Second.")
    events(address, "one", "remembered")
    events(address, "two", "remembered")
    turns = [turn["content"] for turn in stand_in.requests[-1].json["messages"]]
    assert turns == ["one", "First.", "two"]


def test_errors_are_told(address: str, stand_in: NscaleServer) -> None:
    stand_in.add(ServerReply.insufficient_credit())
    found = events(address, "Hi", "failing")
    assert found[0]["kind"] == "error"
    assert "insufficient credit" in found[0]["text"]
    for body in (b"{}", b"nope", b"[5]", b'{"question": " ", "thread": "1"}'):
        response = httpx2.post(f"{address}/chat", content=body, headers=JSON)
        assert response.status_code == 400


@STREAMS
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(
    address: str, stand_in: NscaleServer, width: int, scheme: Any
) -> None:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # slow

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        failures: list[Any] = []
        page.on("pageerror", lambda error: failures.append(error))  # noqa: PLW0108  # a builtin can't be marked
        page.goto(address)
        stand_in.add(ServerReply(text="Hello <b>there</b>! " + "long" * 100))
        for question in ("Hello <i>you</i>", "Add 2 and 3"):
            page.fill("#question", question)
            page.click("#send")
            page.wait_for_selector(".turn.model:last-child .done")
        # What people and models write is never markup of the page, except for Markdown.
        assert page.inner_text(".turn.user >> nth=0") == "Hello <i>you</i>"
        assert "Hello <b>there</b>!" in page.inner_text(".turn.model >> nth=0 >> .text")
        last = page.locator(".turn.model").last
        assert last.locator(".tool").inner_text() == "add(a=2, b=3)"
        assert last.locator(".result").inner_text() == "5.0"
        assert last.locator("strong").inner_text() == "5"
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # An answer that is taking too long can be stopped, and the chat goes on.
        stand_in.add(ServerReply(text="word " * 500, pause=0.3))
        page.fill("#question", "Slowly")
        page.click("#send")
        page.locator(".turn.model").last.locator(".pending").wait_for()
        if scheme == "dark":
            page.keyboard.press("Escape")
        else:
            page.click("#stop")
        page.wait_for_selector(".turn.model:last-child .stopped")
        page.wait_for_selector("#send", state="visible")
        shown = page.inner_text("#log")
        page.reload()
        assert page.inner_text("#log") == shown
        assert failures == []
        if picture := os.environ.get("WEB_CHAT_PICTURE"):
            page.screenshot(path=f"{picture}-{width}-{scheme}.png")
        browser.close()
