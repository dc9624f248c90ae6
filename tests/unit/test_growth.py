"""Nothing is quadratic: each further unit of work costs as much as the one before."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import httpx2
import pytest
from langchain.agents import create_agent
from langchain_core.messages import convert_to_messages
from langchain_core.tools import StructuredTool
from langchain_core.version import VERSION
from pydantic import BaseModel, create_model

from langchain_nscale import ChatNscale, NscaleEmbeddings, NscaleUsageCallbackHandler
from tests.growth import growth
from tests.unit.answers import DONE, FINISH, chunk, event

LINEAR = 1.1
SIZE = 50


def model(reply: Callable[[Any], Any], **settings: Any) -> ChatNscale:
    """Return a model whose server is a function from the request's body to a reply."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        content = reply(json.loads(request.content))
        if isinstance(content, dict):
            return httpx2.Response(200, json=content)
        head = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=head, content=iter(content))

    client = httpx2.Client(transport=httpx2.MockTransport(handle))
    settings = {"model": "m", "service_token": "t", "http_client": client, **settings}
    return ChatNscale(**settings)


def streamed(events: Callable[[int], list[bytes]], size: int) -> Callable[[], Any]:
    wire = [*events(size), FINISH, DONE]
    streaming = model(lambda _: wire)
    return lambda: [None for _ in streaming.stream("Hi")]


def fragments(count: int) -> list[bytes]:
    def part(arguments: str, **call: Any) -> bytes:
        function = {"arguments": arguments, **call.pop("function", {})}
        return chunk({"tool_calls": [{"index": 0, "function": function, **call}]})

    start = part('{"a": "', id="c", type="function", function={"name": "f"})
    return [start, *[part("word ")] * count, part('"}')]


def one_event_in_pieces(count: int) -> list[bytes]:
    data = chunk({"content": "word " * count})
    return [data[at : at + 5] for at in range(0, len(data), 5)]


STREAMS: dict[str, Callable[[int], list[bytes]]] = {
    "text": lambda count: [chunk({"content": "word "})] * count,
    "reasoning": lambda count: [chunk({"reasoning": "word "})] * count,
    "text in one piece": lambda count: [chunk({"content": "word "}) * count],
    "fragments of arguments": fragments,
    "pieces of an event": one_event_in_pieces,
    "calls": lambda count: [
        event({"choices": [{"index": 0, "delta": {"tool_calls": [call(n)]}}]})
        for n in range(count)
    ],
    "blanks before it": lambda count: [b" " * 1_000] * count,
    "comments": lambda count: [b": keep-alive\n\n"] * count,
}


def call(number: int) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    return {"index": number, "id": f"c{number}", "type": "function", "function": function}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream(kind: str) -> None:
    # langchain-core merges the calls of a stream by comparing each with each.
    within = "langchain_nscale" if kind == "calls" else ""
    assert growth(lambda size: streamed(STREAMS[kind], size), SIZE, within) < LINEAR


@pytest.mark.parametrize("kind", ["text", "fragments of arguments", "calls"])
def test_a_stream_of_events(kind: str) -> None:
    def work(size: int) -> Callable[[], Any]:
        wire = [*STREAMS[kind](size), FINISH, DONE]
        streaming = model(lambda _: wire)
        return lambda: list(streaming.stream_events("Hi", version="v3"))

    assert growth(work, SIZE) < LINEAR


def answer_class(count: int, **defaults: Any) -> type[BaseModel]:
    kind = (str, defaults.get("default", ...))
    fields: Any = {f"field_{number}": kind for number in range(count)}
    return create_model("Wide", **fields)


ANSWERS: dict[str, Callable[[int], Any]] = {
    "JSON Schema": lambda _: {"title": "Wide", "type": "object", "properties": {}},
    "class with defaults": lambda _: answer_class(1, default=""),
    "class with required fields": answer_class,
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_stream_of_a_structured_answer(name: str, method: Any) -> None:
    def pieces(count: int) -> list[str]:
        text = json.dumps({f"field_{n}": "word" for n in range(count)})
        return [text[at : at + 6] for at in range(0, len(text), 6)]

    def fragment(arguments: str, **start: Any) -> bytes:
        function = {"arguments": arguments, **start.pop("function", {})}
        return chunk({"tool_calls": [{"index": 0, "function": function, **start}]})

    def events(count: int) -> list[bytes]:
        if method == "json_schema":
            return [chunk({"content": piece}) for piece in pieces(count)]
        start = fragment("", id="c", type="function", function={"name": "Wide"})
        return [start, *map(fragment, pieces(count))]

    def work(count: int) -> Callable[[], Any]:
        wire = [*events(count), FINISH, DONE]
        schema = ANSWERS[name](count)
        chain = model(lambda _: wire).with_structured_output(schema, method=method)
        return lambda: [None for _ in chain.stream("Hi")]

    if method == "function_calling" and VERSION < "1.8":
        pytest.skip("langchain-core 1.7 parses all arguments anew when it adds a chunk")
    assert growth(work, SIZE) <= LINEAR


def reply(message: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


HI = reply({"role": "assistant", "content": "Hi"})


def history(count: int) -> list[Any]:
    turns: list[Any] = [("user", "Hi")]
    for number in range(count):
        tool_call = {"name": "f", "args": {"n": number}, "id": f"c{number}"}
        turns += [
            {"role": "assistant", "content": "", "tool_calls": [tool_call]},
            {"role": "tool", "content": "found", "tool_call_id": f"c{number}"},
        ]
    return turns


def tools(count: int) -> list[dict[str, Any]]:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
    functions = [{"name": f"f{n}", "parameters": parameters} for n in range(count)]
    return [{"type": "function", "function": function} for function in functions]


def bound(count: int) -> Callable[[], Any]:
    return lambda: model(lambda _: HI).bind_tools(tools(count)).invoke("Hi")


def bound_functions(count: int) -> Callable[[], Any]:
    def look(place: str, days: int = 1) -> str:
        """Look up the weather."""
        return f"{place} {days}"

    named = [StructuredTool.from_function(look, name=f"f{n}") for n in range(count)]
    functions = [FunctionType(look.__code__, globals(), f"g{n}") for n in range(count)]
    for function in functions:
        function.__annotations__, function.__doc__ = look.__annotations__, look.__doc__
    binding = model(lambda _: HI)
    return lambda: binding.bind_tools([*named, *functions])


def agent(count: int) -> Callable[[], Any]:
    """Return a round of an agent that has many tools and a long history."""

    def look() -> str:
        """Look around."""
        return "nothing"

    found = [StructuredTool.from_function(look, name=f"f{n}") for n in range(count)]
    compiled: Any = create_agent(model(lambda _: HI), found)
    return lambda: compiled.invoke({"messages": history(count)})


def calling(count: int) -> Callable[[], Any]:
    message = {"content": None, "tool_calls": [call(number) for number in range(count)]}
    return lambda: model(lambda _: reply(message)).invoke("Hi")


def counted(count: int) -> Callable[[], Any]:
    usage = NscaleUsageCallbackHandler({"m": (1, 1)})
    called = model(lambda _: HI)

    def work() -> None:
        for _ in range(count):
            called.invoke("Hi", {"callbacks": [usage]})

    return work


WORK: dict[str, Callable[[int], Callable[[], Any]]] = {
    "a history": lambda count: lambda: model(lambda _: HI).invoke(history(count)),
    "a history that is counted": lambda count: (
        lambda: model(lambda _: HI).get_num_tokens_from_messages(
            convert_to_messages(history(count))
        )
    ),
    "tools": bound,
    "tools that are only bound": bound_functions,
    "tools and history of an agent": agent,
    "calls of a reply": calling,
    "calls that are counted": counted,
}


@pytest.mark.parametrize("kind", WORK)
def test_a_call(kind: str) -> None:
    assert growth(WORK[kind], SIZE) < LINEAR


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_texts(encoding: Any) -> None:
    vector: Any = [0.5, 0.25]
    if encoding == "base64":
        vector = base64.b64encode(struct.pack("<2f", *vector)).decode()

    def handle(request: httpx2.Request) -> httpx2.Response:
        count = len(json.loads(request.content)["input"])
        data = [{"index": n, "embedding": vector} for n in range(count)]
        return httpx2.Response(200, json={"data": data})

    def work(size: int) -> Callable[[], Any]:
        client = httpx2.Client(transport=httpx2.MockTransport(handle))
        embeddings = NscaleEmbeddings(
            model="e",
            service_token="t",
            http_client=client,
            chunk_size=10,
            encoding_format=encoding,
            max_concurrency=1,  # operations are counted in this thread
        )
        return lambda: embeddings.embed_documents([f"text {n}" for n in range(size)])

    assert growth(work, SIZE) < LINEAR


def test_the_measure_sees_what_is_quadratic() -> None:
    def work(size: int) -> Callable[[], Any]:
        def pairs() -> Iterator[int]:
            for left in range(size):
                for right in range(size):
                    yield left * right

        return lambda: sum(pairs())

    assert growth(work, SIZE) > 1.9
