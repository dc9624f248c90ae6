"""A web chat: a page, answers by server-sent events, an agent with tools behind it.

    python examples/web_chat/app.py --port 8000

Talks to Nscale when NSCALE_SERVICE_TOKEN is set, else to the stand-in server.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import uvicorn
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from langchain_nscale import ChatNscale, NscaleError, NscaleUsageCallbackHandler
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply

PAGE = Path(__file__).with_name("index.html")
MODEL = os.environ.get("NSCALE_MODEL", "meta-llama/Llama-3.1-8B-Instruct")


def get_time(city: str) -> str:
    """Tell what time it is in a city."""
    return f"{datetime.now(timezone.utc):%H:%M} UTC in {city}"


def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


def respond(body: Mapping[str, Any]) -> ServerReply | None:
    """The stand-in's part: call a tool where a question asks for one."""
    last = body["messages"][-1]
    said = str(last["content"])
    if last["role"] == "user" and "time" in said:
        call = ToolCallReply("get_time", {"city": "Oslo"})
        return ServerReply(reasoning="I need a clock.", tool_calls=[call])
    if last["role"] == "tool":
        return ServerReply(text=f"It is **{said}**.")
    return None


def make_app(model: ChatNscale) -> Starlette:
    """The application around a model."""
    agent = create_agent(model, [get_time, add], checkpointer=InMemorySaver())

    async def events(question: str, thread: str) -> AsyncIterator[str]:
        usage = NscaleUsageCallbackHandler()
        config: Any = {
            "configurable": {"thread_id": thread},
            "callbacks": [usage],
        }
        inputs: Any = {"messages": [("user", question)]}
        try:
            async for message, _ in agent.astream(inputs, config, stream_mode="messages"):
                for event in told(message):
                    yield sse(event)
        except NscaleError as error:
            yield sse({"kind": "error", "text": error.message})
        total = usage.total
        yield sse({"kind": "done", "tokens": total.total_tokens, "calls": total.calls})

    async def chat(request: Request) -> Response:
        body = await request.json()
        question = str(body.get("question", "")).strip()
        if not question:
            return JSONResponse({"error": "`question` is empty"}, status_code=400)
        thread = str(body.get("thread", "default"))
        return StreamingResponse(events(question, thread), media_type="text/event-stream")

    async def page(_: Request) -> Response:
        return FileResponse(PAGE)

    return Starlette(routes=[Route("/", page), Route("/chat", chat, methods=["POST"])])


def told(message: object) -> list[dict[str, Any]]:
    """What the page is told of a message, or of a part of one."""
    if isinstance(message, ToolMessage):
        return [{"kind": "result", "text": message.text}]
    if not isinstance(message, AIMessage):
        return []
    found: list[dict[str, Any]] = []
    if thought := message.additional_kwargs.get("reasoning_content"):
        found.append({"kind": "reasoning", "text": thought})
    if message.text:
        found.append({"kind": "text", "text": message.text})
    found += [{"kind": "tool", "text": call["name"]} for call in message.tool_calls]
    return found


def sse(event: Mapping[str, Any]) -> str:
    """A server-sent event."""
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
        uvicorn.run(make_app(model), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
