"""LangGraph: nodes, tools, checkpoints, streams of each mode, interrupts, subgraphs."""

from __future__ import annotations

import operator
import sys
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, RetryPolicy, Send, interrupt
from typing_extensions import TypedDict

from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


CALL = ServerReply(tool_calls=[ToolCallReply("multiply", {"a": 6, "b": 7})])
ANSWER = ServerReply(text="It is forty two.", reasoning="Six times seven.")
QUESTION: Any = {"messages": [("user", "6 * 7?")]}
THREAD: Any = {"configurable": {"thread_id": "1"}}


def tool_graph(model: Any, checkpointer: Any = None) -> Any:
    bound = model.bind_tools([multiply])

    def ask(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [bound.invoke(state["messages"], config)]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_node("tools", ToolNode([multiply]))
    builder.add_edge(START, "ask")
    builder.add_conditional_edges("ask", tools_condition)
    builder.add_edge("tools", "ask")
    return builder.compile(checkpointer=checkpointer)


def test_a_chain_with_parser_retry_and_fallback(make: Any, server: NscaleServer) -> None:
    down = ServerReply.error(503, "down", headers={"retry-after": "0"})
    server.add(down, down, down, ServerReply(text="Hello, Ann"))
    prompt = ChatPromptTemplate.from_template("Greet {name}")
    first = make(model="first").with_retry(
        stop_after_attempt=3, wait_exponential_jitter=False
    )
    chain = prompt | first.with_fallbacks([make(model="second")]) | StrOutputParser()
    assert chain.invoke({"name": "Ann"}) == "Hello, Ann"
    asked = [request.json["model"] for request in server.requests]
    assert asked == ["first", "first", "first", "second"]


def test_tools_and_checkpoints(make: Any, server: NscaleServer) -> None:
    graph = tool_graph(make(), InMemorySaver())
    server.add(CALL, ANSWER, ServerReply(text="Yes."))
    result = graph.invoke(QUESTION, THREAD)
    assert [message.type for message in result["messages"]] == [
        *("human", "ai", "tool", "ai")
    ]
    graph.invoke({"messages": [("user", "Sure?")]}, THREAD)
    sent = server.requests[-1].json["messages"]
    assert [turn["role"] for turn in sent] == [
        *("user", "assistant", "tool", "assistant", "user")
    ]
    # What a checkpoint gives back is what was put in.
    (first, *_) = [
        s for s in graph.get_state_history(THREAD) if len(s.values["messages"]) == 4
    ]
    assert first.values["messages"] == result["messages"]
    assert first.values["messages"][-1].usage_metadata["total_tokens"] > 0


class TestStreams:
    @pytest.fixture
    def graph(self, make: Any, server: NscaleServer) -> Any:
        server.add(CALL, ANSWER)
        return tool_graph(make())

    def test_values(self, graph: Any) -> None:
        counts = [
            len(s["messages"]) for s in graph.stream(QUESTION, stream_mode="values")
        ]
        assert counts == [1, 2, 3, 4]

    def test_updates(self, graph: Any) -> None:
        updates = list(graph.stream(QUESTION, stream_mode="updates"))
        assert [next(iter(update)) for update in updates] == ["ask", "tools", "ask"]

    def test_messages(self, graph: Any) -> None:
        text = thought = ""
        for chunk, where in graph.stream(QUESTION, stream_mode="messages"):
            if isinstance(chunk, AIMessageChunk):
                assert where["langgraph_node"] == "ask"
                assert where["ls_provider"] == "nscale"
                text += chunk.text
                thought += chunk.additional_kwargs.get("reasoning_content", "")
        assert (text, thought) == ("It is forty two.", "Six times seven.")

    def test_several_at_once(self, graph: Any) -> None:
        modes = {
            mode for mode, _ in graph.stream(QUESTION, stream_mode=["values", "messages"])
        }
        assert modes == {"values", "messages"}

    @pytest.mark.filterwarnings("ignore:.*is in beta|.*experimental")
    def test_events(self, graph: Any) -> None:
        stream = graph.stream_events(QUESTION, version="v3")
        text = ""
        for message in stream.messages:
            text += "".join(message.text)
        assert text == "It is forty two."
        assert len(stream.output["messages"]) == 4


def test_custom_events(make: Any) -> None:
    model = make()

    def ask(state: MessagesState) -> dict[str, Any]:
        writer = get_stream_writer()
        reply = None
        for chunk in model.stream(state["messages"]):
            writer({"piece": chunk.text})
            reply = chunk if reply is None else reply + chunk
        return {"messages": [reply]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    graph = builder.compile()
    pieces = [event["piece"] for event in graph.stream(QUESTION, stream_mode="custom")]
    assert "".join(pieces) == "You said: 6 * 7?"
    assert len(pieces) > 3


def test_an_interrupt(make: Any, server: NscaleServer) -> None:
    model = make()

    def draft(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def review(state: MessagesState) -> dict[str, Any]:
        verdict = interrupt({"draft": state["messages"][-1].text})
        return {"messages": [("user", f"Verdict: {verdict}")]}

    builder = StateGraph(MessagesState)
    for node in (draft, review):
        builder.add_node(node)
    builder.add_node("final", draft)
    for before, after in [(START, "draft"), ("draft", "review"), ("review", "final")]:
        builder.add_edge(before, after)
    graph = builder.compile(checkpointer=InMemorySaver())
    paused: Any = graph.invoke(QUESTION, THREAD)
    assert paused["__interrupt__"][0].value == {"draft": "You said: 6 * 7?"}
    resume: Any = Command(resume="good")
    done = graph.invoke(resume, THREAD)
    assert done["messages"][-1].text == "You said: Verdict: good"
    assert len(server.requests) == 2  # the first node wasn't run again


class Parts(TypedDict):
    topics: list[str]
    answers: Annotated[list[str], operator.add]


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="LangGraph's async nodes don't see the callbacks before Python 3.11",
)
async def test_parallel_branches_and_subgraphs(make: Any) -> None:
    model = make()

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    inner = StateGraph(MessagesState)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    inner.add_edge("ask", END)
    subgraph = inner.compile()

    async def work(state: dict[str, str]) -> dict[str, Any]:
        question: Any = {"messages": [("user", state["topic"])]}
        result = await subgraph.ainvoke(question)
        return {"answers": [result["messages"][-1].text]}

    def spread(state: Parts) -> list[Send]:
        return [Send("work", {"topic": topic}) for topic in state["topics"]]

    outer = StateGraph(Parts)
    outer.add_node("work", work)
    outer.add_conditional_edges(START, spread, ["work"])
    graph: Any = outer.compile()
    inputs: Any = {"topics": [f"topic {n}" for n in range(20)], "answers": []}
    result = await graph.ainvoke(inputs)
    assert result["answers"] == [f"You said: topic {n}" for n in range(20)]

    text: dict[str, str] = {}
    async for path, (chunk, _) in graph.astream(
        inputs, stream_mode="messages", subgraphs=True
    ):
        if isinstance(chunk, AIMessage):
            text[str(path)] = text.get(str(path), "") + chunk.text
    assert sorted(text.values()) == sorted(result["answers"])  # none mixed with another


@pytest.mark.parametrize(
    "fault",
    [
        ServerReply(text="a b c", stall_after=2),
        ServerReply(text="a b c", cut_after=150),
        ServerReply.error(503, "down", headers={"retry-after-ms": "0"}),
        ServerReply.error(429, "busy", headers={"retry-after-ms": "0"}),
        ServerReply(status=408, body={}),
        ServerReply(body=b"<html>"),
    ],
    ids=["stalled", "cut", "down", "busy", "timeout", "a page"],
)
def test_langgraphs_default_policy_repeats_what_may_pass(
    make: Any, server: NscaleServer, fault: ServerReply
) -> None:
    """It gives up on every OSError, and so on every TimeoutError."""
    server.add(fault, "Hello")
    model = make(stream_chunk_timeout=0.2, streaming=True)
    builder = StateGraph(MessagesState)
    at_once = RetryPolicy(initial_interval=0.0, jitter=False)
    builder.add_node(
        "ask",
        lambda state: {"messages": [model.invoke(state["messages"])]},
        retry_policy=at_once,
    )
    builder.add_edge(START, "ask")
    state = builder.compile().invoke(QUESTION)
    assert state["messages"][-1].text == "Hello"
    assert len(server.requests) == 2
