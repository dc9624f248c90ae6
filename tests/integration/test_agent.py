"""LangChain's agent on the stand-in: a real loop, streamed and not."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def double(a: int) -> int:
    """Double a number."""
    return 2 * a


LOOP = [
    ServerReply(tool_calls=[ToolCallReply("add", {"a": 1, "b": 2})], pieces=[3]),
    ServerReply(text="Next.", tool_calls=[ToolCallReply("double", {"a": 3})]),
    ServerReply(text="It is 6."),
]
QUESTION: Any = {"messages": [("user", "(1 + 2) * 2?")]}


def test_two_tools_in_a_loop(make: Any, server: NscaleServer) -> None:
    server.add(*LOOP)
    result = create_agent(make(), [add, double]).invoke(QUESTION)
    assert [message.text for message in result["messages"]] == [
        "(1 + 2) * 2?",
        "",
        "3",
        "Next.",
        "6",
        "It is 6.",
    ]
    assert [message["role"] for message in server.requests[-1].json["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",  # Llama's template leaves out the text beside a call
        "assistant",
        "tool",
    ]


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="LangGraph's async nodes don't see the callbacks before Python 3.11",
)
async def test_the_same_loop_streamed_by_tokens(make: Any, server: NscaleServer) -> None:
    server.add(*LOOP)
    agent = create_agent(make(), [add, double])
    text = ""
    async for message, _ in agent.astream(QUESTION, stream_mode="messages"):
        if isinstance(message, AIMessage):
            text += message.text
    assert text == "Next.It is 6."
    assert all(request.json["stream"] for request in server.requests)


def test_a_cut_off_call_is_never_executed_when_streamed(
    make: Any, server: NscaleServer
) -> None:
    executed = []

    def delete(path: str) -> str:
        """Delete a file."""
        executed.append(path)
        return "deleted"

    cut = ToolCallReply("delete", '{"path": "/')
    server.add(ServerReply(tool_calls=[cut], finish_reason="length"))
    agent = create_agent(make(), [delete])
    list(agent.stream(QUESTION, stream_mode="messages"))
    assert executed == []


@pytest.mark.parametrize("strategy", ["auto", "tool", "provider"])
def test_structured_answers(make: Any, strategy: str) -> None:
    from langchain.agents.structured_output import (  # noqa: PLC0415  # slow to import
        ProviderStrategy,
        ToolStrategy,
    )

    class Answer(BaseModel):
        """The answer."""

        number: int

    forms: dict[str, Any] = {
        "auto": Answer,
        "tool": ToolStrategy(Answer),
        "provider": ProviderStrategy(Answer),
    }
    agent = create_agent(make(), [add], response_format=forms[strategy])
    assert agent.invoke(QUESTION)["structured_response"] == Answer(number=1)


@pytest.mark.parametrize(
    ("model", "native"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", True),
        ("nobody/knows-it", False),
    ],
)
def test_the_strategy_follows_the_profile(
    make: Any, server: NscaleServer, model: str, native: bool
) -> None:
    class Answer(BaseModel):
        """The answer."""

        number: int

    agent = create_agent(make(model=model), response_format=Answer)
    assert agent.invoke(QUESTION)["structured_response"].number is not None
    body = server.requests[0].json
    assert ("response_format" in body) == native
    assert ("tools" in body) != native


def test_a_model_that_never_sees_tools_can_be_a_fallback(
    make: Any, server: NscaleServer
) -> None:
    blind = make(model="deepseek-ai/DeepSeek-R1-Distill-Qwen-14B")
    with pytest.raises(ValueError, match="can't call tools"):
        create_agent(blind, [add]).invoke(QUESTION)
    assert not server.requests
    chain = blind.bind_tools([add]).with_fallbacks([make().bind_tools([add])])
    assert chain.invoke("Hi").text == "You said: Hi"
    first = make().bind_tools([add])
    server.add(ServerReply.error(503, "Down", headers={"retry-after": "0"}))
    assert first.with_fallbacks([blind]).invoke("Hi").text
    told = make(model=blind.model, profile={"tool_calling": True})
    assert told.bind_tools([add]).invoke("Please add").tool_calls
