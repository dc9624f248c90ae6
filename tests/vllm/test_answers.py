"""Tools beside a schema, answers that look like calls, and calls cut by stop strings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.tools import tool
from pydantic import BaseModel

from tests.integration.test_chat import WAYS, consume
from tests.vllm.engine import Engine, running

TOOL_OPTIONS = ("--enable-auto-tool-choice", "--tool-call-parser")
ANN = '{"name": "Ann", "age": 3}'
CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
RULES = [
    {"if": "tool_response", "say": "It is sunny.", "array": "[]", "object": ANN},
    {
        "if": "weather in Paris",
        "say": f"<tool_call>\n{CALL}\n</tool_call>",
        "array": '[{"name": "get_weather", "parameters": {"city": "Paris"}}]',
        "object": '{"name": "invented", "age": 0}',
    },
    {"if": "Who is she", "say": ANN, "array": "[]", "object": ANN},
]


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.fixture(scope="module", params=["hermes", "llama3_json"])
def ruled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Engine]]:
    """An engine that calls a tool, and answers by the schema when it is held to it."""
    script: Path = tmp_path_factory.mktemp("rules") / "rules.json"
    script.write_text(json.dumps(RULES), encoding="utf-8")
    with running(*TOOL_OPTIONS, request.param, script=script) as engine:
        yield request.param, engine


def structured(model: Any, tools: list[Any], question: str, way: str) -> Any:
    agent: Any = create_agent(model, tools, response_format=ProviderStrategy(Person))
    state: Any = {"messages": [("user", question)]}
    if way == "invoke":
        return agent.invoke(state)["structured_response"]
    *_, (_, last) = agent.stream(state, stream_mode=["messages", "values"])
    return last["structured_response"]


@pytest.mark.parametrize("way", ["invoke", "messages"])
def test_an_agent_calls_its_tool_and_answers_by_the_schema(
    ruled: tuple[str, Engine], way: str
) -> None:
    parser, engine = ruled
    if parser != "hermes":
        pytest.skip("the rules write calls in the form of hermes")
    seen = []

    @tool
    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        seen.append(city)
        return f"Sunny in {city}"

    model = engine.chat()
    found = structured(model, [get_weather], "The weather in Paris?", way)
    assert (seen, found) == (["Paris"], Person(name="Ann", age=3))


@tool
def look_up(name: str) -> str:
    """Look somebody up."""
    return name


@pytest.mark.parametrize("way", ["invoke", "messages"])
def test_an_agent_whose_answer_is_json_ends_with_it(
    ruled: tuple[str, Engine], way: str
) -> None:
    _, engine = ruled
    found = structured(engine.chat(), [look_up], "Who is she?", way)
    assert found == Person(name="Ann", age=3)


@WAYS
async def test_a_streamed_answer_that_looks_like_a_call_arrives(
    ruled: tuple[str, Engine], way: str
) -> None:
    _, engine = ruled
    model = engine.chat(max_retries=1).bind_tools([look_up])
    message = await consume(model, f"[[say: {ANN}]]", way)
    assert json.loads(message.text) == {"name": "Ann", "age": 3}
    assert message.tool_calls == []


@tool
def delete_files(folder: str, only_matching: str = "*") -> str:
    """Delete files."""
    return folder + only_matching


DELETE = (
    "<tool_call>\n<function=delete_files>\n<parameter=folder>\n/tmp/x\n</parameter>\n"
    "<parameter=only_matching>\n*.log\n\n*.tmp\n</parameter>\n</function>\n</tool_call>"
)


@pytest.mark.parametrize("way", ["invoke", "stream"])
async def test_a_call_cut_by_a_stop_string_runs_nothing(way: str) -> None:
    with running(*TOOL_OPTIONS, "qwen3_coder") as engine:
        model = engine.chat().bind_tools([delete_files])
        whole = await consume(model, f"[[say: {DELETE}]]", way)
        assert [call["name"] for call in whole.tool_calls] == ["delete_files"]
        cut = await consume(model.bind(stop=["\n\n"]), f"[[say: {DELETE}]]", way)
        assert cut.tool_calls == []
