"""LangChain's middleware around agents on `ChatNscale`, as users write them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    ToolCallLimitMiddleware,
)
from langchain_core.exceptions import ContextOverflowError
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_nscale import NscaleInsufficientCreditError
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CALL = ServerReply(tool_calls=[ToolCallReply("add", {"a": 1, "b": 2})])
ANSWER = ServerReply(text="It is 3.")
DOWN = ServerReply.error(503, "down", headers={"retry-after": "0"})


def ask(text: str = "1 + 2?") -> Any:
    return {"messages": [("user", text)]}


def said(server: NscaleServer, number: int = -1) -> list[str]:
    return [str(turn["content"]) for turn in server.requests[number].json["messages"]]


def test_model_retry(make: Any, server: NscaleServer) -> None:
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0)
    agent = create_agent(make(), middleware=[retry])
    server.add(DOWN, DOWN, ANSWER)
    assert agent.invoke(ask())["messages"][-1].text == "It is 3."
    assert len(server.requests) == 3


def test_model_retry_leaves_a_missing_credit_alone(
    make: Any, server: NscaleServer
) -> None:
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0, on_failure="error")
    agent = create_agent(make(), middleware=[retry])
    server.add(*[ServerReply.insufficient_credit()] * 3)
    with pytest.raises(NscaleInsufficientCreditError):
        agent.invoke(ask())
    assert len(server.requests) == 1


def test_model_fallback(make: Any, server: NscaleServer) -> None:
    fallback = ModelFallbackMiddleware(make(model="second"))
    agent = create_agent(make(model="first"), [add], middleware=[fallback])
    server.add(CALL, DOWN, ANSWER)
    assert agent.invoke(ask())["messages"][-1].text == "It is 3."
    models = [request.json["model"] for request in server.requests]
    assert models == ["first", "first", "second"]
    assert all(request.json["tools"] for request in server.requests)


@pytest.mark.parametrize(
    "trigger", [("messages", 4), ("tokens", 30), ("fraction", 0.0003)]
)
def test_summarisation(make: Any, server: NscaleServer, trigger: Any) -> None:
    summary = SummarizationMiddleware(make(), trigger=trigger, keep=("messages", 1))
    agent = create_agent(make(), middleware=[summary])
    history = [(role, f"{role} said a thing") for role in ("user", "assistant")] * 3
    server.add(ServerReply(text="They greeted."), ANSWER)
    inputs: Any = {"messages": [*history, ("user", "And now?")]}
    result = agent.invoke(inputs)
    assert result["messages"][-1].text == "It is 3."
    assert "They greeted." in " ".join(said(server))
    assert len(said(server)) < len(history)


def test_summarisation_when_the_context_overflows(
    make: Any, server: NscaleServer
) -> None:
    """The service's own error has langchain-core's class, which middleware looks for."""

    agent = create_agent(make())
    server.add(ServerReply.error(400, "maximum context length is 8 tokens"))
    with pytest.raises(ContextOverflowError):
        agent.invoke(ask())


@pytest.mark.parametrize("decision", ["approve", "edit", "reject"])
def test_human_in_the_loop(make: Any, server: NscaleServer, decision: str) -> None:
    human = HumanInTheLoopMiddleware({"add": True})
    agent = create_agent(make(), [add], middleware=[human], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    server.add(CALL, ANSWER)
    paused = agent.invoke(ask(), config)
    assert paused["__interrupt__"][0].value["action_requests"][0]["name"] == "add"
    answers: dict[str, Any] = {
        "approve": {"type": "approve"},
        "edit": {
            "type": "edit",
            "edited_action": {"name": "add", "args": {"a": 5, "b": 5}},
        },
        "reject": {"type": "reject", "message": "Don't."},
    }
    resume: Any = Command(resume={"decisions": [answers[decision]]})
    done = agent.invoke(resume, config)
    assert done["messages"][-1].text == "It is 3."
    shown = " ".join(said(server))
    assert {"approve": "3", "edit": "10", "reject": "Don't."}[decision] in shown


def test_call_limits(make: Any, server: NscaleServer) -> None:
    server.add(*[CALL] * 9)
    limit = ModelCallLimitMiddleware(run_limit=2, exit_behavior="end")
    result = create_agent(make(), [add], middleware=[limit]).invoke(ask())
    assert "limit" in result["messages"][-1].text
    assert len(server.requests) == 2

    server.reset()
    server.add(CALL, CALL, ANSWER)
    once: Any = ToolCallLimitMiddleware(tool_name="add", run_limit=1)
    result = create_agent(make(), [add], middleware=[once]).invoke(ask())
    assert result["messages"][-1].text == "It is 3."
    assert "limit" in " ".join(said(server)).lower()


@pytest.mark.parametrize("strategy", ["redact", "mask", "hash"])
def test_personal_data_does_not_leave(
    make: Any, server: NscaleServer, strategy: Any
) -> None:
    agent = create_agent(make(), middleware=[PIIMiddleware("email", strategy=strategy)])
    agent.invoke(ask("Write to ann@example.com, please."))
    assert "ann@example.com" not in " ".join(said(server))
    assert "Write to" in said(server)[-1]


def test_all_of_them_together(make: Any, server: NscaleServer) -> None:
    middleware: list[Any] = [
        PIIMiddleware("email"),
        SummarizationMiddleware(make(), trigger=("messages", 50)),
        ModelCallLimitMiddleware(run_limit=5),
        ModelFallbackMiddleware(make(model="second")),
        ModelRetryMiddleware(max_retries=1, initial_delay=0, on_failure="error"),
    ]
    agent = create_agent(make(), [add], middleware=middleware)
    server.add(DOWN, CALL, ANSWER)
    assert agent.invoke(ask())["messages"][-1].text == "It is 3."
