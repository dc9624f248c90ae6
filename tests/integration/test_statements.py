"""What the pages say about langchain, langgraph and langchain-core, executed.

A failure means that a release changed: correct the page, and the version that it names.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
)
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy
from pydantic import BaseModel

from langchain_nscale import (
    ChatNscale,
    NscaleAuthenticationError,
    NscaleContextOverflowError,
    NscaleInsufficientCreditError,
    NscaleMissingToolCallError,
    get_nscale_usage_callback,
    should_retry,
)
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.pages.runner import ROOT, blocks_of

AGENTS = ROOT / "docs" / "agents.md"
QUICK: Any = {"initial_delay": 0.0, "jitter": False}


def ask(agent: Any, *messages: Any) -> str:
    answer = agent.invoke({"messages": list(messages) or [("user", "q")]})
    return str(answer["messages"][-1].text)


def block(page: Path, part: str) -> dict[str, Any]:
    """Execute the block of a page that contains `part`; return its names."""
    (code,) = [b.code for b in blocks_of(page.read_text("utf-8")) if part in b.code]
    names: dict[str, Any] = {}
    exec(code.replace("100_000", "1_000"), names)  # noqa: S102  # our own page
    return names


# --- retries and fallbacks --------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["continue", "error"])
def test_a_fallback_behind_retries(
    make: Any, server: NscaleServer, on_failure: Any
) -> None:
    server.add(*[ServerReply.error(503, "down")] * 3, ServerReply(text="from the second"))
    middleware: Any = [
        ModelFallbackMiddleware(make(model="second")),
        ModelRetryMiddleware(max_retries=2, on_failure=on_failure, **QUICK),
    ]
    text = ask(create_agent(make(model="first"), [], middleware=middleware))
    if on_failure == "error":  # as on the page
        assert text == "from the second"
    else:
        assert text.startswith("Model call failed")
    assert 'on_failure="error"' in AGENTS.read_text("utf-8")


def test_what_langchains_retries_repeat(make: Any, server: NscaleServer) -> None:
    retry = ModelRetryMiddleware(max_retries=2, **QUICK)
    agent = create_agent(make(), [], middleware=[retry])
    server.add(*[ServerReply.error(503, "down")] * 3)
    assert ask(agent).startswith("Model call failed")
    assert len(server.requests) == 3
    server.add(ServerReply.insufficient_credit())
    with pytest.raises(NscaleInsufficientCreditError):
        ask(agent)
    assert len(server.requests) == 4


def node_with(policy: RetryPolicy, node: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("node", node, retry_policy=policy)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()


@pytest.mark.parametrize("condition", [{}, {"retry_on": should_retry}])
@pytest.mark.parametrize(
    ("reply", "requests"),
    [
        (ServerReply.error(401, "no"), 1),
        (ServerReply.insufficient_credit(), 1),
        (ServerReply.error(503, "down"), 3),
    ],
)
def test_what_langgraphs_policy_repeats(
    make: Any, server: NscaleServer, condition: Any, reply: ServerReply, requests: int
) -> None:
    server.add(*[reply] * 3)
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=3, **condition)
    model = make()
    graph = node_with(policy, lambda state: {"messages": model.invoke(state["messages"])})
    with pytest.raises(Exception, match="Nscale answered"):
        ask(graph)
    assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("condition", "calls"), [({}, 2), ({"retry_on": should_retry}, 1)]
)
def test_the_policys_other_exceptions(condition: Any, calls: int) -> None:
    made = []

    class OwnError(Exception):
        pass

    def node(_: Any) -> None:
        made.append(1)
        raise OwnError

    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=2, **condition)
    with pytest.raises(OwnError):
        ask(node_with(policy, node))
    assert len(made) == calls


@pytest.mark.parametrize("told", [False, True])
def test_with_retry(make: Any, server: NscaleServer, told: bool) -> None:
    server.add(*[ServerReply.error(401, "expired")] * 2)
    which: Any = {"retry_if_exception_type": should_retry} if told else {}
    patient = make().with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False, **which
    )
    with pytest.raises(NscaleAuthenticationError):
        patient.invoke("q")
    assert len(server.requests) == (1 if told else 2)


# --- long conversations -----------------------------------------------------------------


def refuse_long_prompts(body: Mapping[str, Any]) -> ServerReply:
    if len(str(body["messages"])) > 120_000:
        return ServerReply.error(
            400, "This model's maximum context length is 5000 tokens"
        )
    return ServerReply(text="an answer")


def long_history() -> list[Any]:
    turns: list[Any] = [("user", "x " * 1500), ("ai", "ok")]
    return [*turns * 50, ("user", "And now?")]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="deepagents needs Python 3.11")
def test_who_handles_a_context_overflow() -> None:
    from deepagents import create_deep_agent  # noqa: PLC0415  # not on Python 3.10

    with NscaleServer(responder=refuse_long_prompts) as server:
        model = ChatNscale(
            model="m", profile={"max_input_tokens": 100_000}, **server.settings
        )
        summaries: Any = SummarizationMiddleware(
            model, trigger=("fraction", 0.8), keep=("messages", 2)
        )
        with pytest.raises(NscaleContextOverflowError):
            ask(create_agent(model, [], middleware=[summaries]), *long_history())
        assert ask(create_deep_agent(model=model), *long_history()) == "an answer"
        page = block(AGENTS, "def shorten_if_rejected")
        page["model"] = model
        agent = create_agent(model, [], middleware=[page["shorten_if_rejected"]])
        assert ask(agent, *long_history()) == "an answer"


@pytest.mark.parametrize("limit", [{}, {"trim_tokens_to_summarize": None}])
def test_a_summary_after_long_tool_results(
    make: Any, server: NscaleServer, limit: dict[str, Any]
) -> None:
    call = {"name": "search", "args": {}, "id": "1"}
    history: list[Any] = [HumanMessage("THE QUESTION")]
    for _ in range(6):
        history += [
            AIMessage("", tool_calls=[call]),
            ToolMessage("result " * 3_000, tool_call_id="1"),
        ]
    summaries: Any = SummarizationMiddleware(
        make(), trigger=("tokens", 20_000), keep=("messages", 2), **limit
    )
    ask(create_agent(make(), [], middleware=[summaries]), *history)
    asked = [str(request.json["messages"]) for request in server.requests]
    assert any("THE QUESTION" in messages for messages in asked) == bool(limit)


def test_the_count_of_summaries() -> None:
    chinese = [HumanMessage("\u4eba" * 4_000)]
    model = ChatNscale(model="m", service_token="t")
    assert count_tokens_approximately(chinese) < 1_100
    assert model.get_num_tokens_from_messages(chinese) >= 4_000


# --- schemas and limits -----------------------------------------------------------------


class Clothes(BaseModel):
    """What to wear."""

    items: list[str]


def test_an_agent_with_a_schema(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="A coat."))
    with pytest.raises(NscaleMissingToolCallError) as caught:
        ask(create_agent(make(model="a/model"), response_format=Clothes))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "A coat."
    assert len(server.requests) == 1
    server.add(ServerReply(text='{"items": ["coat"]}'))
    agent: Any = create_agent(
        make(model="a/model"), response_format=ProviderStrategy(Clothes)
    )
    answer = agent.invoke({"messages": [("user", "q")]})
    assert answer["structured_response"] == Clothes(items=["coat"])


def look() -> str:
    """Look again."""
    return "nothing"


def test_a_limit_of_calls(make: Any) -> None:
    limit: Any = ModelCallLimitMiddleware(run_limit=2)
    again = ServerReply(tool_calls=[ToolCallReply("look")])
    with NscaleServer(responder=lambda _: again) as server:
        model = make(**server.settings)
        ask(create_agent(model, [look], middleware=[limit]))
        assert len(server.requests) == 2


# --- stopping ---------------------------------------------------------------------------


async def test_cancelling_an_agent(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="late", delay=30))
    with get_nscale_usage_callback({"m": (1, 1)}) as usage:
        agent: Any = create_agent(make(timeout=60), [])
        task = asyncio.create_task(agent.ainvoke({"messages": [("user", "q")]}))
        while not server.requests:  # noqa: ASYNC110  # another thread's list
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (usage.total.cancelled, usage.cost) == (1, None)


def test_leaving_a_sync_graph_waits_for_the_answer(
    make: Any, server: NscaleServer
) -> None:
    words = " ".join(str(number) for number in range(40))
    server.add(ServerReply(text=words, pause=0.01))
    agent: Any = create_agent(make(), [])
    with get_nscale_usage_callback() as usage:
        for _ in agent.stream({"messages": [("user", "q")]}, stream_mode="messages"):
            break
    assert (usage.total.cancelled, usage.total.unreported) == (0, 0)
    assert usage.total.output_tokens == 40


# --- usage ------------------------------------------------------------------------------


def test_threads_of_a_plain_pool(make: Any) -> None:
    model = make()
    with get_nscale_usage_callback() as usage, ThreadPoolExecutor() as pool:
        list(pool.map(model.invoke, ["a", "b"]))
        assert usage.total.calls == 0
        list(pool.map(model.with_config(callbacks=[usage]).invoke, ["a", "b"]))
        assert usage.total.calls == 2
        model.batch(["a", "b"])
        assert usage.total.calls == 4


async def test_to_thread(make: Any) -> None:
    with get_nscale_usage_callback() as usage:
        await asyncio.to_thread(make().invoke, "a")
        thread = threading.Thread(target=make().invoke, args=("b",))
        thread.start()
        thread.join()
    assert usage.total.calls == 1
