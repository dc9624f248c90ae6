"""A web chat: an agent with two tools, its answers streamed as Markdown.

    python examples/web_chat/app.py --port 8000

Talks to Nscale when NSCALE_SERVICE_TOKEN is set, else to the stand-in server.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nh3
import uvicorn
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from markdown_it import MarkdownIt
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from langchain_nscale import ChatNscale, NscaleError, NscaleUsageCallbackHandler
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply

STATIC = Path(__file__).with_name("static")
MODEL = os.environ.get("NSCALE_MODEL", "meta-llama/Llama-3.1-8B-Instruct")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
    ),
    "X-Accel-Buffering": "no",
}
LOCAL_HOSTS = ["127.0.0.1", "localhost"]
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def get_time(city: str) -> str:
    """Return the time in a city."""
    return f"{datetime.now(timezone.utc):%H:%M} UTC in {city}"


def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


def respond(body: Mapping[str, Any]) -> ServerReply:
    """Answer for the stand-in server, as a model would."""
    last = body["messages"][-1]
    text = str(last["content"])
    if last["role"] == "tool":
        call = body["messages"][-2]["tool_calls"][0]["function"]
        answer = f"The sum is **{text.removesuffix('.0')}**."
        if call["name"] == "get_time":
            answer = f"It is **{text}**."
        return ServerReply(text=f"{answer}\n\nAnything else?")
    found = re.findall(r"-?\d+(?:\.\d+)?", text)
    numbers = [float(number) if "." in number else int(number) for number in found]
    if len(numbers) > 1:
        call = ToolCallReply("add", {"a": numbers[0], "b": numbers[1]})
        return ServerReply(reasoning="Better not in my head.", tool_calls=[call])
    if "time" in text.lower():
        city = re.search(r"\bin ([A-Z]\w+)", text)
        call = ToolCallReply("get_time", {"city": city[1] if city else "Oslo"})
        return ServerReply(reasoning="I need a clock.", tool_calls=[call])
    return ServerReply(
        text="I can do two things:\n\n- tell the **time** in a city,\n- **add** two "
        "numbers.\n\nTry `Add 2 and 3`."
    )


def make_app(model: ChatNscale) -> Starlette:
    """Return the application around a model."""
    agent = create_agent(model, [get_time, add], checkpointer=InMemorySaver())

    async def events(question: str, thread: str) -> AsyncIterator[str]:
        usage = NscaleUsageCallbackHandler()
        config: Any = {"configurable": {"thread_id": thread}, "callbacks": [usage]}
        inputs: Any = {"messages": [("user", question)]}
        answer = Answer()
        try:
            async for mode, part in agent.astream(
                inputs, config, stream_mode=["messages", "updates"]
            ):
                for event in answer.events(mode, part):
                    yield sse(event)
        except NscaleError as error:
            # `partial` is a word for programs; the page shows what has arrived anyway.
            text = error.message.replace("; everything received is in `partial`", "")
            yield sse({"kind": "error", "text": text})
        total = usage.total
        yield sse({"kind": "done", "tokens": total.total_tokens, "calls": total.calls})

    async def chat(request: Request) -> Response:
        if not is_own_page(request):
            error = "Only the page of this server may ask, with a JSON body."
            return JSONResponse({"error": error}, status_code=403)
        try:
            body = await request.json()
            question, thread = str(body["question"]).strip(), str(body["thread"])
        except (ValueError, TypeError, KeyError, RecursionError):
            question = ""
        if not question:
            error = "The body must be JSON with `question` and `thread`."
            return JSONResponse({"error": error}, status_code=400)
        return StreamingResponse(
            events(question, thread), media_type="text/event-stream", headers=HEADERS
        )

    return Starlette(
        routes=[
            Route("/chat", chat, methods=["POST"]),
            Mount("/", Page(directory=STATIC, html=True)),
        ],
        # Pages of other sites, under whatever name they reach this one, get no answers.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_HOSTS)],
    )


def is_own_page(request: Request) -> bool:
    """Return whether a request comes from the page, or from a program.

    A browser sends other sites' forms and simple requests without asking, but it adds
    their origin, and they can't have JSON's content type.
    """
    origin = request.headers.get("origin")
    is_json = request.headers.get("content-type", "").startswith("application/json")
    return is_json and (origin is None or urlsplit(origin).hostname in LOCAL_HOSTS)


class Page(StaticFiles):
    """The files of the page, which may load nothing from elsewhere."""

    async def get_response(self, path: str, scope: Any) -> Response:
        """Return a file with the headers of the page."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


class Answer:
    """Turns what an agent streams into events for the page.

    Text is sent as it arrives. Each complete line renders the message so far, so that the
    page shows Markdown without rendering every token.
    """

    def __init__(self) -> None:
        """Start with nothing received."""
        self._text = ""

    def events(self, mode: str, part: Any) -> Iterator[dict[str, Any]]:
        """Yield the events for a part of the stream."""
        if mode == "messages":
            yield from self._chunk(part[0])
        else:
            for state in part.values():
                for message in state["messages"]:
                    yield from self._message(message)

    def _chunk(self, chunk: object) -> Iterator[dict[str, Any]]:
        if not isinstance(chunk, AIMessageChunk):
            return
        if thought := chunk.additional_kwargs.get("reasoning_content"):
            yield {"kind": "reasoning", "text": thought}
        if chunk.text:
            self._text += chunk.text
            yield {"kind": "text", "text": chunk.text}
            if "\n" in chunk.text:
                yield {"kind": "html", "html": render(self._text)}

    def _message(self, message: object) -> Iterator[dict[str, Any]]:
        if isinstance(message, ToolMessage):
            yield {"kind": "result", "text": message.text}
        if isinstance(message, AIMessage):
            if message.text:
                yield {"kind": "html", "html": render(message.text)}
            for call in message.tool_calls:
                values = [f"{name}={value!r}" for name, value in call["args"].items()]
                yield {"kind": "tool", "text": f"{call['name']}({', '.join(values)})"}
            self._text = ""


def render(text: str) -> str:
    """Return Markdown as HTML that is safe to show: models write whatever they like."""
    return nh3.clean(_MARKDOWN.render(text), url_schemes={"http", "https", "mailto"})


def sse(event: Mapping[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(event)}\n\n"


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    with ExitStack() as stack:
        if os.environ.get("NSCALE_SERVICE_TOKEN"):
            model = ChatNscale(model=MODEL)
        else:
            server = stack.enter_context(NscaleServer(responder=respond))
            model = ChatNscale(model=MODEL, **server.settings)
            print("NSCALE_SERVICE_TOKEN isn't set: the stand-in server answers.")
        print(f"Open http://127.0.0.1:{options.port} in a browser. Ctrl-C stops.")
        uvicorn.run(make_app(model), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
