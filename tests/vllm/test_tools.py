"""Tool calls as the engine's own parser makes them of a scripted text."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from tests.integration.test_chat import WAYS, consume
from tests.vllm.engine import Engine

TEXT = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
)
CALL = f"[[say: {TEXT}]]"
BOTH = "The weather in Paris and Rome?"


@tool
def get_weather(city: str = "here") -> str:
    """Tell the weather in a city."""
    return f"Sunny in {city}"


@tool
def get_time(zone: str) -> str:
    """Tell the time in a zone."""
    return f"12:00 {zone}"


TOOLS = [get_weather, get_time]


def calls_of(message: AIMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(call["name"], call["args"]) for call in message.tool_calls]


@WAYS
async def test_calls_that_the_model_chooses(engine: Engine, way: str) -> None:
    message = await consume(engine.chat().bind_tools(TOOLS), BOTH, way)
    expected = [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert calls_of(message) == expected
    assert message.invalid_tool_calls == []
    assert len({call["id"] for call in message.tool_calls}) == 2


@WAYS
@pytest.mark.parametrize("choice", ["any", "get_weather"])
async def test_calls_that_are_forced(engine: Engine, way: str, choice: str) -> None:
    model = engine.chat().bind_tools(TOOLS, tool_choice=choice, strict=True)
    message = await consume(model, "What is the weather in Paris?", way)
    assert calls_of(message)[0] == ("get_weather", {"city": "Paris"})


@WAYS
async def test_no_calls(engine: Engine, way: str) -> None:
    model = engine.chat().bind_tools(TOOLS, tool_choice="none")
    message = await consume(model, "What is the weather in Paris?", way)
    assert message.tool_calls == []
    assert message.text


@WAYS
@pytest.mark.parametrize("limit", range(1, 26))
async def test_a_call_that_is_cut_is_never_executable(
    engine: Engine, way: str, limit: int
) -> None:
    """Cut at every token, from the first to the last."""
    model = engine.chat(max_tokens=limit).bind_tools(TOOLS)
    message = await consume(model, CALL, way)
    usage = message.usage_metadata
    assert usage is not None
    if usage["output_tokens"] < limit:
        assert calls_of(message) == [("get_weather", {"city": "Paris"})]
    else:
        assert message.tool_calls == []


@pytest.mark.parametrize("streamed", [False, True])
def test_an_agent_does_not_run_a_call_that_is_cut(engine: Engine, streamed: bool) -> None:
    ran = []

    @tool
    def get_weather(city: str = "here") -> str:
        """Tell the weather in a city."""
        ran.append(city)
        return "Sunny"

    agent: Any = create_agent(engine.chat(max_tokens=11), [get_weather])
    question = {"messages": [("user", CALL)]}
    config = {"recursion_limit": 6}
    if streamed:
        list(agent.stream(question, config, stream_mode="messages"))
    else:
        agent.invoke(question, config)
    assert ran == []


@pytest.mark.parametrize("streamed", [False, True])
def test_an_agent_of_several_rounds(engine: Engine, streamed: bool) -> None:
    agent: Any = create_agent(engine.chat(), TOOLS)
    question = {"messages": [("user", BOTH)]}
    if streamed:
        *_, state = agent.stream(question, stream_mode="values")
    else:
        state = agent.invoke(question)
    kinds = [message.type for message in state["messages"]]
    assert kinds == ["human", "ai", "tool", "tool", "ai"]
    results = [message.text for message in state["messages"][2:4]]
    assert results == ["Sunny in Paris", "Sunny in Rome"]


def test_a_call_without_arguments_is_a_call(engine: Engine) -> None:
    text = '[[say: <tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>]]'
    model = engine.chat().bind_tools(TOOLS)
    assert calls_of(model.invoke(text)) == [("get_weather", {})]


def test_a_history_with_a_broken_call_is_accepted(engine: Engine) -> None:
    broken: Any = {"name": "get_weather", "args": '{"city": ', "id": "c1", "error": "cut"}
    history = [
        HumanMessage("Weather?"),
        AIMessage("", invalid_tool_calls=[{**broken, "type": "invalid_tool_call"}]),
        HumanMessage("Say hello."),
    ]
    assert engine.chat().bind_tools(TOOLS).invoke(history).text.startswith("Hello!")


def test_a_tool_may_return_anything(engine: Engine) -> None:
    call = {"name": "get_weather", "args": {}, "id": "c1"}
    results: list[Any] = [[{"type": "file", "name": "a"}], ["a", {"b": [1]}]]
    for result in [*results, [{"type": "text"}]]:
        history: list[Any] = [
            HumanMessage("Weather?"),
            AIMessage("", tool_calls=[call]),
            ToolMessage(result, tool_call_id="c1"),
        ]
        assert engine.chat(max_tokens=5).invoke(history).text
