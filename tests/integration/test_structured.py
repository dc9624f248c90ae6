"""Structured output over real HTTP: every kind of schema, by every method."""

from __future__ import annotations

import functools
import json
import operator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.integration.test_chat import WAYS, consume

DISTILL = "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"


class Joke(BaseModel):
    """A joke."""

    setup: str
    rating: int | None = None


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    rating: int | None


@dataclass
class JokeData:
    """A joke."""

    setup: str
    rating: int | None = None


class Node(BaseModel):
    """A node."""

    name: str
    children: list[Node] = Field(default_factory=list)


class Holder(BaseModel):
    """Has a node."""

    node: Node


JSON_SCHEMA = {
    "type": "object",
    "properties": {"setup": {"type": "string"}, "rating": {"type": "integer"}},
}
DATA = {"setup": "Why?", "rating": 7}
SCHEMAS = [
    (Joke, Joke(setup="Why?", rating=7)),
    (JokeDict, DATA),
    (JokeData, JokeData("Why?", 7)),
    (JSON_SCHEMA, DATA),
    ({"title": "Joke", **JSON_SCHEMA}, DATA),
]


@pytest.mark.parametrize(("schema", "wanted"), SCHEMAS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "prompt"])
@pytest.mark.parametrize("include_raw", [False, True])
async def test_every_schema_by_every_method(
    make: Any,
    server: NscaleServer,
    schema: Any,
    wanted: Any,
    method: Any,
    include_raw: bool,
) -> None:
    name = (
        schema.get("title", "response") if isinstance(schema, dict) else schema.__name__
    )
    reply = ServerReply(text=json.dumps(DATA))
    if method == "function_calling":
        reply = ServerReply(tool_calls=[ToolCallReply(name, DATA)])
    server.add(*[reply] * 4)
    chain = make().with_structured_output(schema, method=method, include_raw=include_raw)
    found = [
        chain.invoke("Tell"),
        await chain.ainvoke("Tell"),
        list(chain.stream("Tell"))[-1],
        [part async for part in chain.astream("Tell")][-1],
    ]
    if include_raw:
        assert found[0]["raw"].response_metadata["finish_reason"]
        found = found[:2]
        assert [part["parsing_error"] for part in found] == [None, None]
        found = [part["parsed"] for part in found]
    assert found == [wanted] * len(found)
    body = server.requests[0].json
    assert ("tools" in body) == (method == "function_calling")
    assert ("response_format" in body) == (method == "json_schema")


@pytest.mark.parametrize("schema", [Node, Holder])
@pytest.mark.parametrize("method", ["json_schema", "prompt"])
def test_recursive_schemas_are_sent_whole(
    make: Any, server: NscaleServer, schema: Any, method: Any
) -> None:
    data: Any = {"name": "a", "children": [{"name": "b", "children": []}]}
    if schema is Holder:
        data = {"node": data}
    server.add(ServerReply(text=json.dumps(data)))
    found = make().with_structured_output(schema, method=method).invoke("Tell")
    assert found == schema(**data)
    assert "$ref" in server.requests[0].body.decode()


def test_the_default_follows_the_profile(make: Any, server: NscaleServer) -> None:
    server.add(*[ServerReply(text=json.dumps(DATA))] * 3)
    make().with_structured_output(Joke).invoke("Tell")
    make(model="nobody/knows-it").with_structured_output(Joke).invoke("Tell")
    make(model=DISTILL).with_structured_output(Joke).invoke("Tell")
    asked = ["response_format" in request.json for request in server.requests]
    assert asked == [True, True, False]
    system, human = server.requests[2].json["messages"]
    assert "JSON Schema" in system["content"]
    assert '"rating"' in system["content"]
    assert human == {"role": "user", "content": "Tell"}


@pytest.mark.parametrize(
    "given",
    [
        [SystemMessage("Be kind."), HumanMessage("Tell")],
        [SystemMessage([{"type": "text", "text": "Be kind."}]), HumanMessage("Tell")],
        [("system", "Be kind."), ("human", "Tell")],
        ChatPromptTemplate([("system", "Be kind."), ("human", "Tell")]).invoke({}),
    ],
)
def test_the_prompt_method_adds_to_the_system_message(
    make: Any, server: NscaleServer, given: Any
) -> None:
    server.add(ServerReply(text="```json\n" + json.dumps(DATA) + "\n```"))
    chain = make().with_structured_output(Joke, method="prompt")
    assert chain.invoke(given) == Joke(setup="Why?", rating=7)
    system, human = server.requests[0].json["messages"]
    text = json.dumps(system["content"])
    assert text.index("Be kind.") < text.index("JSON Schema")
    assert human["content"] == "Tell"


def test_reasoning_in_the_text_is_not_parsed(make: Any, server: NscaleServer) -> None:
    text = 'Is {"it": so}?</think>\n' + json.dumps(DATA)
    server.add(*[ServerReply(text=text, pieces=[3])] * 2)
    model = make(model="Qwen/Qwen3-4B-Thinking-2507")
    chain = model.with_structured_output(Joke)
    assert chain.invoke("Tell") == Joke(setup="Why?", rating=7)
    assert list(chain.stream("Tell"))[-1] == Joke(setup="Why?", rating=7)


def test_an_answer_that_fits_no_dataclass(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text='{"rating": "high"}'))
    chain = make().with_structured_output(JokeData)
    with pytest.raises(OutputParserException, match="is not a valid JokeData"):
        chain.invoke("Tell")


def test_nothing_enforces_a_prompt(make: Any) -> None:
    with pytest.raises(ValueError, match="`strict` can't be used with method='prompt'"):
        make().with_structured_output(Joke, method="prompt", strict=True)


# --- tools next to a schema -------------------------------------------------------------


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return city


CALL = ServerReply(tool_calls=[ToolCallReply("get_weather", {"city": "Oslo"})])


@WAYS
@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_a_call_of_another_tool_is_no_answer_and_no_error(
    make: Any, server: NscaleServer, way: str, include_raw: bool, method: Any
) -> None:
    server.add(CALL)
    chain = make().with_structured_output(
        Joke, tools=[get_weather], method=method, include_raw=include_raw
    )
    output = await consume_last(chain, way)
    if not include_raw:
        assert output is None
        return
    assert output["parsed"] is None
    assert output["parsing_error"] is None
    assert output["raw"].tool_calls[0]["name"] == "get_weather"


@WAYS
@pytest.mark.parametrize("text", ["not JSON", '{"setup": "a"', "[1]", ""])
async def test_include_raw_never_raises(
    make: Any, server: NscaleServer, way: str, text: str
) -> None:
    server.add(ServerReply(text=text))
    chain = make().with_structured_output(Joke, include_raw=True)
    output = await consume_last(chain, way)
    assert output["parsed"] is None
    assert isinstance(output["parsing_error"], OutputParserException)
    assert output["raw"].text == text


@WAYS
@pytest.mark.parametrize("bound", [False, True])
async def test_a_class_as_response_format_is_parsed(
    make: Any, server: NscaleServer, way: str, bound: bool
) -> None:
    prose = [ServerReply(text="Here is one.")] if bound else []  # to the tools alone
    right = ServerReply(text='{"setup": "Why?", "rating": 7}')
    server.add(*prose, right, CALL, *prose, ServerReply(text='{"setup": 1}'))
    model = make()
    model = (
        model.bind_tools([get_weather], response_format=Joke)
        if bound
        else model.bind(response_format=Joke)
    )
    message = await consume(model, "Hi", way)
    assert message.additional_kwargs["parsed"] == Joke(setup="Why?", rating=7)
    schema = server.requests[-1].json["response_format"]["json_schema"]["schema"]
    assert schema["title"] == "Joke"
    assert "parsed" not in (await consume(model, "Hi", way)).additional_kwargs
    with pytest.raises(OutputParserException):
        await consume(model, "Hi", way)


async def consume_last(chain: Any, way: str) -> Any:
    """The output of a chain; of a stream, all chunks together."""
    if way == "invoke":
        return chain.invoke("Hi")
    if way == "ainvoke":
        return await chain.ainvoke("Hi")
    if way == "stream":
        outputs = list(chain.stream("Hi"))
    else:
        outputs = [output async for output in chain.astream("Hi")]
    if not outputs or not isinstance(outputs[0], dict):
        return outputs[-1] if outputs else None
    return functools.reduce(operator.add, outputs, AddableDict())
