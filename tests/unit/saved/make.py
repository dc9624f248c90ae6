"""Saves what users save, at the commit that is to be kept loadable.

In a worktree of that commit: `PYTHONPATH=. python …/tests/unit/saved/make.py OUT`. Only
public names are used, so that it runs at any commit.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import httpx2
from langchain.agents import create_agent
from langchain_core.load import dumps
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_nscale import (
    ChatNscale,
    NscaleEmbeddings,
    NscaleError,
    NscaleUsageCallbackHandler,
)

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
SCHEMA: dict[str, Any] = {
    "title": "Person",
    "description": "A person.",
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Find a file.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
    },
}
CALL = {"index": 0, "id": "call_1", "type": "function"}
WHOLE = {**CALL, "function": {"name": "find", "arguments": '{"path": "/"}'}}
CUT = {**CALL, "function": {"name": "find", "arguments": '{"path": "/'}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
METHODS: Any = ("json_schema", "function_calling", "json_mode", "prompt")
SETTINGS: dict[str, dict[str, Any]] = {
    "chat": {
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["x"],
        "timeout": (1, 2),
        "default_headers": {"X-A": "1"},
        "extra_body": {"top_k": 1},
        "metadata": {"a": 1},
        "tags": ["t"],
    },
    "chat, merging": {"merge_system_messages": True},
    "chat, apart": {"merge_system_messages": False},
}


def stream(*deltas: dict[str, Any], finish: str | None) -> bytes:
    """Return a streamed reply; without a finish reason it is cut off."""
    choices = [{"index": 0, "delta": delta} for delta in deltas]
    events: list[dict[str, Any]] = [{"id": "c-1", "choices": [c]} for c in choices]
    if finish is not None:
        end = {"index": 0, "delta": {}, "finish_reason": finish}
        events += [{"id": "c-1", "choices": [end]}]
        events += [{"id": "c-1", "choices": [], "usage": USAGE}]
    texts = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*texts, "data: [DONE]\n\n" if finish else ""]).encode()


STREAMS = {
    "text": stream({"reasoning_content": "why"}, {"content": "Hello"}, finish="stop"),
    "call": stream({"tool_calls": [WHOLE]}, finish="tool_calls"),
    "cut call": stream({"tool_calls": [CUT]}, finish="length"),
}
CUT_OFF = stream({"content": "Hel"}, finish=None)
STATUSES = {
    "NscaleInvalidRequestError": (400, {"message": "bad", "param": "n"}),
    "NscaleAuthenticationError": (401, {"message": "no"}),
    "NscalePermissionDeniedError": (403, {"message": "no"}),
    "NscaleModelNotFoundError": (404, {"message": "no model"}),
    "NscaleTimeoutError": (408, {"message": "late"}),
    "NscaleConflictError": (409, {"message": "no"}),
    "NscaleUnprocessableError": (422, {"message": "no"}),
    "NscaleRateLimitError": (429, {"message": "slow down", "code": "TOO_MANY_REQUESTS"}),
    "NscaleInsufficientCreditError": (
        429,
        {"message": "no", "error_type": "INSUFFICIENT_CREDIT"},
    ),
    "NscaleServerError": (500, {"message": "oops"}),
    "NscaleUnavailableError": (503, {"message": "oops"}),
}


def completion(message: dict[str, Any], finish: str) -> dict[str, Any]:
    """Return a reply that is not streamed."""
    choice = {"message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c-1", "model": MODEL, "choices": [choice], "usage": USAGE}


def answer(request: httpx2.Request) -> httpx2.Response:
    """Call a tool first, and answer after its result."""
    if json.loads(request.content)["messages"][-1]["role"] == "user":
        message = {"content": "<think>why</think>Hi", "tool_calls": [WHOLE]}
        return httpx2.Response(200, json=completion(message, "tool_calls"))
    return httpx2.Response(200, json=completion({"content": "done"}, "stop"))


def client(content: bytes, status: int = 200) -> httpx2.Client:
    """Return a client that always gets one response."""
    kind = "text/event-stream" if content.startswith(b"data") else "application/json"
    headers = {"content-type": kind, "x-request-id": "r-1"}
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(status, content=content, headers=headers)
    )
    return httpx2.Client(transport=transport)


def model(**settings: Any) -> ChatNscale:
    """Return a model that makes no retries."""
    required = {"model": MODEL, "service_token": "t", "max_retries": 0}
    return ChatNscale(**{**required, **settings})


def error_of(**settings: Any) -> NscaleError:
    """Return the error of a call."""
    try:
        list(model(**settings).stream("hi"))
    except NscaleError as error:
        return error
    raise AssertionError


def unreachable(request: httpx2.Request) -> httpx2.Response:
    """Fail as a network does."""
    raise httpx2.ConnectError(str(request.url))


def find(path: str) -> str:
    """Find a file."""
    return path


def values() -> dict[str, Any]:
    """Return what to pickle, by name."""
    plain = model(**SETTINGS["chat"])
    made: dict[str, Any] = {name: model(**each) for name, each in SETTINGS.items()}
    made["bound"] = plain.bind_tools([TOOL])
    for method in METHODS:
        chain = plain.with_structured_output(SCHEMA, method=method)
        made[f"structured, {method}"] = chain
    made["embeddings"] = NscaleEmbeddings(
        model="Qwen/Qwen3-Embedding-8B", service_token="t", dimensions=3, chunk_size=7
    )
    for name, content in STREAMS.items():
        for version in ("v0", "v1"):
            asked = model(http_client=client(content), output_version=version)
            chunks: list[Any] = list(asked.stream("hi"))
            made[f"chunks, {name}, {version}"] = chunks
            total = chunks[0]
            for chunk in chunks[1:]:
                total += chunk
            made[f"sum, {name}, {version}"] = total
    for name, (status, body) in STATUSES.items():
        content = json.dumps({"error": body}).encode()
        made[f"error, {name}"] = error_of(http_client=client(content, status))
    made["error, NscaleInterruptedStreamError"] = error_of(http_client=client(CUT_OFF))
    gone = httpx2.Client(transport=httpx2.MockTransport(unreachable))
    made["error, NscaleConnectionError"] = error_of(http_client=gone)
    usage = NscaleUsageCallbackHandler(prices={MODEL: (1, 2)})
    local = httpx2.Client(transport=httpx2.MockTransport(answer))
    made["reply"] = model(http_client=local).invoke("hi", {"callbacks": [usage]})
    made["usage"] = usage
    saver = InMemorySaver()
    agent = create_agent(model(http_client=local), [find], checkpointer=saver)
    inputs: Any = {"messages": [("user", "hi")]}
    agent.invoke(inputs, {"configurable": {"thread_id": "1"}})
    made["checkpoint"] = {
        "storage": {
            thread: {name: dict(each) for name, each in namespaces.items()}
            for thread, namespaces in saver.storage.items()
        },
        "writes": dict(saver.writes),
        "blobs": dict(saver.blobs),
    }
    messages = [value for name, value in made.items() if name.startswith("sum")]
    made["messages"] = JsonPlusSerializer().dumps_typed([made["reply"], *messages])
    return made


def saved() -> dict[str, bytes]:
    """Return pickles by name, and under "json" what `dumps` makes of them."""
    made = values()
    kinds = ("chat", "bound", "sum", "reply", "structured, json_schema")
    texts = {name: dumps(each) for name, each in made.items() if name.startswith(kinds)}
    pickles = {name: pickle.dumps(each, protocol=4) for name, each in made.items()}
    return {**pickles, "json": json.dumps(texts).encode()}


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(pickle.dumps(saved(), protocol=4))
