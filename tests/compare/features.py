"""What a user wants of a chat integration, as checks that any of them can be put to.

A check gets a server and a function that makes the model with that server's address. It
returns if the feature is there; whatever it raises says that it isn't.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any, Protocol

import pytest
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelNotFoundError,
)
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel, Field

from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply


class Make(Protocol):
    """Makes a model of one client, for the server."""

    name: str
    fields: Mapping[str, object]  # the settings that the client has

    def __call__(self, **settings: Any) -> Any:
        """Make one."""


Check = Callable[[NscaleServer, Make], None]
FEATURES: dict[str, Check] = {}
# Rows that ChatNscale doesn't have, because Nscale's service doesn't.
ELSEWHERE: set[str] = set()
TOKEN = "sk-compare-secret"  # of the stand-in server


def feature(name: str, *, elsewhere: bool = False) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        FEATURES[name] = check
        if elsewhere:
            ELSEWHERE.add(name)
        return check

    return register


class Joke(BaseModel):
    """A joke."""

    setup: str
    rating: int


class Node(BaseModel):
    """A node."""

    name: str
    children: list[Node] = Field(default_factory=list)


class Holder(BaseModel):
    """Has a node."""

    node: Node


def merged(chunks: Any) -> Any:
    chunks = list(chunks)
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


def events(*objects: Any, end: bytes = b"data: [DONE]\n\n") -> ServerReply:
    """A stream of these objects."""
    sse = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in objects]
    return ServerReply(sse=[*sse, end])


def part(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "created": 1} | {
        "choices": [choice]
    }


def kinds(message: Any) -> list[str]:
    return [block["type"] for block in message.content_blocks]


def need(condition: object) -> None:
    if not condition:
        raise AssertionError


@feature("answers, with usage")
def _answers(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello"))
    message = make().invoke("Hi")
    need(message.text == "Hello")
    need(message.usage_metadata["output_tokens"] > 0)


@feature("calls tools, streamed")
def _tools(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(tool_calls=[ToolCallReply("Joke", {"setup": "a"})]))
    message = merged(make().bind_tools([Joke]).stream("Hi"))
    need(message.tool_calls[0]["args"] == {"setup": "a"})


@feature("usage of streams without asking for it")
def _stream_usage(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello"))
    need(merged(make().stream("Hi")).usage_metadata["output_tokens"] > 0)


@feature("reasoning as content blocks")
def _reasoning(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello", reasoning="Hm"))
    need(kinds(make().invoke("Hi")) == ["reasoning", "text"])


@feature("reasoning streamed, in vLLM's newer field too")
def _new_field(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello", reasoning="Hm", reasoning_field="reasoning"))
    need("reasoning" in kinds(merged(make().stream("Hi"))))


@feature("reasoning in think tags")
def _think(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hm</think>Hello", pieces=[3]))
    message = merged(make(model="Qwen/Qwen3-4B-Thinking-2507").stream("Hi"))
    need(message.text == "Hello")


@feature("reasoning sent back in a tool loop")
def _history(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello"))
    calls: Any = [{"name": "f", "args": {}, "id": "1"}]
    extra = {"reasoning_content": "Hm", "reasoning": "Hm"}
    turn = AIMessage("", tool_calls=calls, additional_kwargs=extra)
    settings = {"reasoning_history": "tool_turns"} if make.name == "ChatNscale" else {}
    make(**settings).invoke(
        [HumanMessage("Hi"), turn, ToolMessage("x", tool_call_id="1")]
    )
    sent = server.requests[-1].json["messages"][1]
    need("Hm" in (sent.get("reasoning_content"), sent.get("reasoning")))


@feature("output_version v1: streamed blocks stay apart")
def _v1(server: NscaleServer, make: Make) -> None:
    call = ToolCallReply("Joke", {"setup": "a"}, id="1")
    server.add(ServerReply(text="Hello", tool_calls=[call]))
    message = merged(make(output_version="v1").bind_tools([Joke]).stream("Hi"))
    need(kinds(message) == ["text", "tool_call"])


@feature("tool arguments cut off by the length are never executed")
def _cut_arguments(server: NscaleServer, make: Make) -> None:
    call = {"index": 0, "id": "1", "type": "function"}
    head = {"tool_calls": [{**call, "function": {"name": "rm", "arguments": ""}}]}
    body = {"tool_calls": [{"index": 0, "function": {"arguments": '{"path": "/'}}]}
    server.add(events(part(head), part(body), part({}, "length")))
    message = merged(make().stream("Hi"))
    need(message.tool_calls == [])
    need(message.invalid_tool_calls[0]["args"] == '{"path": "/')


def failure(model: Any) -> Exception:
    """The error that ends a stream after its first text."""
    text = ""
    try:
        for chunk in model.stream("Hi"):
            text += chunk.text
    except Exception as error:
        need(text == "Hel")
        return error
    raise AssertionError


@feature("a stream that is cut is an error")
def _cut(server: NscaleServer, make: Make) -> None:
    server.add(events(part({"content": "Hel"}), end=b""))
    failure(make())


@feature("and has what had been received")
def _partial(server: NscaleServer, make: Make) -> None:
    server.add(events(part({"content": "Hel"}), end=b""))
    error: Any = failure(make())
    need(error.partial.text == "Hel")


@feature("an error inside a stream is an error with its text")
def _error_event(server: NscaleServer, make: Make) -> None:
    error = {"error": {"message": "engine died", "code": 500}}
    server.add(events(part({"content": "Hel"}), error))
    need("engine died" in str(failure(make())))


@feature("a sync stream that stalls ends, in spite of keep-alives")
def _stall(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="a b c d e f", stall_after=2, pause=0.05))
    # What the integration calls its limit differs; a client without one hangs.
    has_limit = "stream_chunk_timeout" in make.fields
    limits = {"stream_chunk_timeout": 0.3} if has_limit else {}
    model = make(timeout=2, **limits)
    ended: list[Exception] = []

    def read() -> None:
        try:
            list(model.stream("Hi"))
        except Exception as error:
            ended.append(error)

    thread = Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    need(ended)


@feature("no credit: one request, not three")
def _credit(server: NscaleServer, make: Make) -> None:
    server.add(*[ServerReply.insufficient_credit()] * 4)
    with pytest.raises(Exception, match="insufficient credit"):
        make(max_retries=2).invoke("Hi")
    need(len(server.requests) == 1)


@feature("unknown model: LangChain's ModelNotFoundError")
def _not_found(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply.error(404, "no such model", code="MODEL_NOT_FOUND"))
    with pytest.raises(ModelNotFoundError):
        make().invoke("Hi")


@feature("too long a prompt: LangChain's ContextOverflowError")
def _overflow(server: NscaleServer, make: Make) -> None:
    said = "This model's maximum context length is 8192 tokens. However, you requested 9"
    server.add(*[ServerReply.error(400, said)] * 3)
    with pytest.raises(ContextOverflowError):
        make().invoke("Hi")


@feature("a structured answer cut by max_tokens says so")
def _length(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text='{"setup": "a', finish_reason="length"))
    chain = make().with_structured_output(Joke, method="json_schema")
    with pytest.raises(Exception, match=r"max_tokens|length"):
        chain.invoke("Hi")


@feature("recursive schemas")
def _recursive(server: NscaleServer, make: Make) -> None:
    data = {"node": {"name": "a", "children": [{"name": "b", "children": []}]}}
    server.add(ServerReply(text=json.dumps(data)))
    found = make().with_structured_output(Holder, method="json_schema").invoke("Hi")
    need(found == Holder(**data))
    need("$ref" in server.requests[-1].body.decode())


@feature("takes over Anthropic's thinking and tool use")
def _anthropic(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello"))
    turn = AIMessage(
        [
            {"type": "thinking", "thinking": "Hm", "signature": "x"},
            {"type": "text", "text": "Look"},
            {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        ],
        tool_calls=[{"name": "f", "args": {}, "id": "1"}],
    )
    make().invoke([HumanMessage("Hi"), turn, ToolMessage("x", tool_call_id="1")])
    sent = server.requests[-1].json["messages"][1]
    need("thinking" not in json.dumps(sent["content"]))
    need("tool_use" not in json.dumps(sent["content"]))


@feature("refuses what can't be sent, before sending")
def _refuses(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello"))
    block = {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"}
    with pytest.raises(ValueError, match="video"):
        make().invoke([HumanMessage([block])])
    need(not server.requests)


@feature("unknown fields of a reply are kept")
def _unknown(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello", extra={"x_new": "kept"}))
    need("kept" in str(make().invoke("Hi").response_metadata))


@feature("the request's id is in the metadata")
def _request_id(server: NscaleServer, make: Make) -> None:
    server.add(ServerReply(text="Hello", headers={"inference-id": "inf-7"}))
    need("inf-7" in str(make().invoke("Hi").response_metadata))


@feature("a model profile for Nscale's models")
def _profile(server: NscaleServer, make: Make) -> None:  # noqa: ARG001  # no request
    profile = make(model="meta-llama/Llama-3.1-8B-Instruct").profile
    need(profile["max_input_tokens"] == 131072)  # from Nscale's list


@feature("counts tokens without network or tiktoken")
def _tokens(server: NscaleServer, make: Make) -> None:  # noqa: ARG001  # no request
    need(make().get_num_tokens_from_messages([HumanMessage("Hello there")]) > 0)


@feature("native streaming events")
def _native(server: NscaleServer, make: Make) -> None:  # noqa: ARG001  # no request
    need(getattr(type(make()), "_stream_chat_model_events", None))


@feature("pickles, without the token")
def _pickle(server: NscaleServer, make: Make) -> None:  # noqa: ARG001  # no request
    data = pickle.dumps(make())
    need(TOKEN.encode() not in data)
    need(pickle.loads(data))  # our own


@feature("one instance on two event loops, one after the other")
def _loops(server: NscaleServer, make: Make) -> None:
    server.add(*[ServerReply(text="Hello")] * 2)
    model = make(max_retries=0)
    for _ in range(2):
        need(asyncio.run(model.ainvoke("Hi")).text == "Hello")


@feature("repr, traceback and error without the token")
def _secret(server: NscaleServer, make: Make) -> None:
    server.add(*[ServerReply.error(401, "no")] * 3)
    model = make()
    try:
        model.invoke("Hi")
    except Exception as error:  # whatever the integration raises
        tb = error.__traceback__
        while tb:
            need(TOKEN not in repr({k: v for k, v in tb.tb_frame.f_locals.items()}))  # noqa: C416  # a copy
            tb = tb.tb_next
        need(TOKEN not in repr(model) + repr(error) + repr(vars(error)))
        return
    raise AssertionError


def sent_parts(server: NscaleServer, make: Make, block: dict[str, Any]) -> set[str]:
    """Return the types of the parts that are sent for a block."""
    text = {"type": "text", "text": "What is this?"}
    with contextlib.suppress(Exception):  # the server may not know the part
        make().invoke([HumanMessage([text, block])])
    need(server.requests)
    return {part["type"] for part in server.requests[-1].json["messages"][-1]["content"]}


@feature("audio as input", elsewhere=True)
def _audio(server: NscaleServer, make: Make) -> None:
    block = {"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"}
    need("input_audio" in sent_parts(server, make, block))


@feature("PDF files as input", elsewhere=True)
def _pdf(server: NscaleServer, make: Make) -> None:
    block = {"type": "file", "base64": "JVBERi0=", "mime_type": "application/pdf"}
    need(sent_parts(server, make, {**block, "filename": "a.pdf"}) - {"text"})


@feature("server-side tools, such as web search", elsewhere=True)
def _server_tools(server: NscaleServer, make: Make) -> None:  # noqa: ARG001  # no request
    bound = make().bind_tools([{"type": "web_search"}])
    need(bound.kwargs["tools"] == [{"type": "web_search"}])


@feature("OpenAI's Responses API", elsewhere=True)
def _responses(server: NscaleServer, make: Make) -> None:  # noqa: ARG001  # no request
    need(make.fields.get("use_responses_api") and make(use_responses_api=True))
