"""Use and spend, exact in every way by which a model can be called."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.graph import END, START, MessagesState, StateGraph
from langsmith import Client

from langchain_nscale import (
    ChatNscale,
    NscaleEmbeddings,
    NscaleError,
    NscaleUsageCallbackHandler,
    get_nscale_usage_callback,
    langsmith_costs,
)
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.integration.conftest import MODEL
from tests.integration.test_chat import WAYS, consume

CALLS = 1000
MODELS = ("model-a", "model-b")
PRICES = {"model-a": ("0.06", "0.12"), "model-b": ("0.01", "0.03")}


def respond(body: Mapping[str, Any]) -> ServerReply:
    """A reply whose usage follows from the number in the first user message."""
    said = next(m["content"] for m in body["messages"] if m["role"] == "user")
    number = int(re.findall(r"\d+", str(said))[0])
    usage = {
        "prompt_tokens": number,
        "completion_tokens": 2 * number + 1,
        "total_tokens": 3 * number + 1,
        "prompt_tokens_details": {"cached_tokens": number % 7},
        "completion_tokens_details": {"reasoning_tokens": number % 5},
    }
    calls = []
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        calls = [ToolCallReply("add", {"a": number, "b": 1})]
    return ServerReply(text=f"Number {number}", tool_calls=calls, usage=usage)


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


def model(server: NscaleServer, name: str) -> ChatNscale:
    return ChatNscale(model=name, **server.settings)


async def by_ainvoke(models: list[ChatNscale], usage: Any) -> int:
    config: Any = {"callbacks": usage}
    await asyncio.gather(*(m.ainvoke(str(n), config) for n, m in enumerate(models)))
    return 1


async def by_astream(models: list[ChatNscale], usage: Any) -> int:
    async def stream(number: int, each: ChatNscale) -> None:
        async for _ in each.astream(str(number), {"callbacks": usage}):
            pass

    await asyncio.gather(*(stream(n, m) for n, m in enumerate(models)))
    return 1


async def by_events(models: list[ChatNscale], usage: Any) -> int:
    async def stream(number: int, each: ChatNscale) -> None:
        events = await each.astream_events(
            str(number), {"callbacks": usage}, version="v3"
        )
        async for _ in events:
            pass
        await events  # its last callback comes after its last event

    await asyncio.gather(*(stream(n, m) for n, m in enumerate(models)))
    return 1


async def by_chain(models: list[ChatNscale], usage: Any) -> int:
    prompt = ChatPromptTemplate.from_template("What is {number}?")
    config: Any = {"callbacks": usage}
    await asyncio.gather(
        *(
            (prompt | m | StrOutputParser()).ainvoke({"number": n}, config)
            for n, m in enumerate(models)
        )
    )
    return 1


async def by_batch(models: list[ChatNscale], usage: Any) -> int:
    config: Any = {"callbacks": usage, "max_concurrency": 32}
    for offset, each in enumerate(MODELS):
        chosen = next(m for m in models if m.model_name == each)
        numbers = range(offset, len(models), len(MODELS))
        await asyncio.to_thread(chosen.batch, [str(n) for n in numbers], config)
    return 1


async def by_agent(models: list[ChatNscale], usage: Any) -> int:
    config: Any = {"callbacks": usage}
    agents = {m.model_name: create_agent(m, [add]) for m in models[: len(MODELS)]}
    inputs: list[Any] = [{"messages": [("user", str(n))]} for n in range(len(models))]
    await asyncio.gather(
        *(agents[m.model_name].ainvoke(inputs[n], config) for n, m in enumerate(models))
    )
    return 2  # calls: one that calls the tool, one that answers


async def by_graph(models: list[ChatNscale], usage: Any) -> int:
    def graph(each: ChatNscale) -> Any:
        async def ask(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
            return {"messages": [await each.ainvoke(state["messages"], config)]}

        builder = StateGraph(MessagesState)
        builder.add_node("ask", ask)
        builder.add_edge(START, "ask")
        builder.add_edge("ask", END)
        return builder.compile()

    graphs = {m.model_name: graph(m) for m in models[: len(MODELS)]}
    config: Any = {"callbacks": usage}
    await asyncio.gather(
        *(
            graphs[m.model_name].ainvoke({"messages": [("user", str(n))]}, config)
            for n, m in enumerate(models)
        )
    )
    return 1


PATHS: list[Callable[[list[ChatNscale], Any], Awaitable[int]]] = [
    by_ainvoke,
    by_astream,
    by_events,
    by_chain,
    by_batch,
    by_agent,
    by_graph,
]


@pytest.mark.filterwarnings("ignore:.*is in beta")
@pytest.mark.parametrize("how", ["callbacks", "block"])
@pytest.mark.parametrize("path", PATHS)
async def test_sums_are_exact(path: Any, how: str) -> None:
    if path is by_agent and sys.version_info < (3, 11):
        pytest.skip("LangGraph's async nodes don't see callbacks before Python 3.11")
    calls = CALLS if how == "callbacks" else CALLS // 10
    if path is by_agent:
        calls //= 2  # of which each makes two
    usage, theirs = NscaleUsageCallbackHandler(PRICES), UsageMetadataCallbackHandler()
    with NscaleServer(responder=respond) as server:
        models = [model(server, MODELS[n % 2]) for n in range(calls)]
        if how == "callbacks":
            factor = await path(models, [usage, theirs])
        else:
            with get_nscale_usage_callback(PRICES) as usage:
                factor = await path(models, [theirs])
    for offset, name in enumerate(MODELS):
        numbers = range(offset, calls, 2)
        total = usage.by_model[name]
        assert total.calls == factor * len(numbers)
        assert total.input_tokens == factor * sum(numbers)
        assert total.output_tokens == factor * sum(2 * n + 1 for n in numbers)
        assert total.cached_tokens == factor * sum(n % 7 for n in numbers)
        assert total.reasoning_tokens == factor * sum(n % 5 for n in numbers)
        given, made = map(Decimal, PRICES[name])
        paid = total.input_tokens * given + total.output_tokens * made
        assert total.cost == paid / 1_000_000
        assert total.total_tokens == theirs.usage_metadata[name]["total_tokens"]
        assert (total.failed, total.cancelled, total.unreported) == (0, 0, 0)
        streamed = path in (by_astream, by_events)
        assert total.streams == (total.calls if streamed else 0)


async def test_sums_of_embeddings_are_exact(server: NscaleServer) -> None:
    texts = ["word " * (n % 9 + 1) for n in range(CALLS)]
    with get_nscale_usage_callback({"e": ("0.04", 0)}) as usage:
        embeddings = NscaleEmbeddings(model="e", chunk_size=1, **server.settings)
        embeddings.embed_documents(texts[:100])
        await embeddings.aembed_documents(texts[:100])
        await asyncio.gather(*(embeddings.aembed_query(text) for text in texts))
    total = usage.by_model["e"]
    assert total.calls == CALLS + 200
    # The stand-in counts words, and blanks at the end as one more.
    words = [n % 9 + 2 for n in range(CALLS)]
    assert total.input_tokens == sum(words) + 2 * sum(words[:100])
    assert total.cost == total.input_tokens * Decimal("0.04") / 1_000_000


@WAYS
async def test_retries_and_errors(server: NscaleServer, way: str) -> None:
    # `retry-after: 0` so that nothing waits.
    again = ServerReply(status=503, body={}, headers={"retry-after": "0"})
    server.add(
        again, again, ServerReply(text="Hello"), again, ServerReply(status=401, body={})
    )
    asked = ChatNscale(model=MODEL, max_retries=2, **server.settings)
    with get_nscale_usage_callback({MODEL: (1, 1)}) as usage:
        await consume(asked, "Hi", way)
        with pytest.raises(NscaleError):
            await consume(asked, "Hi", way)
    assert usage.total.calls == 2
    assert usage.total.retries == 3
    assert usage.total.errors == {"NscaleAuthenticationError": 1}
    assert usage.cost is not None


def test_a_stream_left_early(server: NscaleServer) -> None:
    with get_nscale_usage_callback({MODEL: (1, 1)}) as usage:
        stream = ChatNscale(model=MODEL, **server.settings).stream("one two three")
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # a generator
    assert usage.total.cancelled == 1
    assert usage.total.streams == 1
    assert usage.cost is None


AGAIN = ServerReply(status=503, body={}, headers={"retry-after": "0"})


async def test_a_canceled_call_counts_its_retries(server: NscaleServer) -> None:
    server.add(AGAIN, ServerReply(text="Hello", delay=60))
    with get_nscale_usage_callback() as usage:
        call = asyncio.create_task(
            ChatNscale(model=MODEL, **server.settings).ainvoke("a")
        )
        while len(server.requests) < 2:  # noqa: ASYNC110  # the server has its own loop
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    assert (usage.total.cancelled, usage.total.requests) == (1, 2)


async def read_events(model: ChatNscale) -> None:
    async for _ in await model.astream_events("a", version="v3"):
        pass


async def read_chunks(model: ChatNscale) -> None:
    await consume(model, "a", "astream")


@pytest.mark.parametrize("read", [read_chunks, read_events])
async def test_retries_count_from_the_first_token_on(
    server: NscaleServer, read: Callable[[ChatNscale], Coroutine[Any, Any, None]]
) -> None:
    class Waits(AsyncCallbackHandler):
        reached, ended = asyncio.Event(), asyncio.Event()

        async def on_llm_new_token(self, *_: Any, **__: Any) -> None:
            self.reached.set()
            await asyncio.Event().wait()

        async def on_stream_event(self, *_: Any, **__: Any) -> None:
            self.reached.set()
            await asyncio.Event().wait()

        async def on_llm_error(self, *_: Any, **__: Any) -> None:
            self.ended.set()

    server.add(AGAIN)
    model = ChatNscale(model=MODEL, callbacks=[Waits()], **server.settings)
    with get_nscale_usage_callback() as usage:
        call = asyncio.create_task(read(model))
        await Waits.reached.wait()
        call.cancel()
        await asyncio.wait([call])
        await Waits.ended.wait()  # events are read by another task, which ends later
    assert (usage.total.cancelled, usage.total.requests) == (1, 2)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_that_is_canceled_just_as_it_ends_is_counted_whole(
    server: NscaleServer, *, fails: bool
) -> None:
    call: asyncio.Task[Any]

    class Cancels(InMemoryCache):
        async def aupdate(self, *_: Any) -> None:
            call.cancel()

    class Model(ChatNscale):
        async def _agenerate(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
        ) -> ChatResult:
            try:
                return await super()._agenerate(messages, stop, run_manager, **kwargs)
            except NscaleError:
                call.cancel()
                raise

    server.add(AGAIN, ServerReply.error(400, "no") if fails else ServerReply("Hello"))
    model = Model(model=MODEL, cache=Cancels(), **server.settings)
    with get_nscale_usage_callback() as usage:
        call = asyncio.create_task(model.ainvoke("a"))
        await asyncio.wait([call])
    assert call.cancelled()
    assert (usage.total.calls, usage.total.requests) == (1, 2)
    assert usage.total.failed == fails
    assert bool(usage.total.output_tokens) != fails


def leave_stream(model: ChatNscale) -> None:
    stream = model.stream("one two three")
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator


async def leave_async_stream(model: ChatNscale) -> None:
    stream = model.astream("one two three")
    await stream.__anext__()
    await stream.aclose()  # type: ignore[attr-defined]  # a generator


async def leave_events(model: ChatNscale) -> None:
    stream = await model.astream_events("one two three", version="v3")
    await stream.__aiter__().__anext__()
    await stream.aclose()


@pytest.mark.parametrize("leave", [leave_stream, leave_async_stream, leave_events])
async def test_a_stream_left_early_counts_its_retries(
    server: NscaleServer, leave: Callable[[ChatNscale], Any]
) -> None:
    server.add(AGAIN, ServerReply(text="one two three", stall_after=3))
    with get_nscale_usage_callback() as usage:
        left = leave(ChatNscale(model=MODEL, **server.settings))
        if left is not None:
            await left
    assert (usage.total.cancelled, usage.total.requests) == (1, 2)


def test_a_fallback_counts_both(server: NscaleServer) -> None:
    server.add(ServerReply.error(503, "Down", headers={"retry-after": "0"}))
    first = ChatNscale(model="first", max_retries=0, **server.settings)
    second = ChatNscale(model="second", **server.settings)
    with get_nscale_usage_callback() as usage:
        first.with_fallbacks([second]).invoke("Hi")
    assert usage.by_model["first"].errors == {"NscaleUnavailableError": 1}
    assert usage.by_model["second"].calls == 1


def test_spend_by_the_live_list(server: NscaleServer) -> None:
    server.add(ServerReply(usage={"prompt_tokens": 10**6, "completion_tokens": 10**6}))
    asked = ChatNscale(model=MODEL, **server.settings)
    with get_nscale_usage_callback() as usage:
        asked.invoke("Hi")
        assert usage.cost is None
        asked.list_models()
        assert usage.cost == Decimal("0.12")


class _Recording(Client):
    """A LangSmith client that sends nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            api_url="http://127.0.0.1:9",
            api_key="k",
            auto_batch_tracing=False,
            **settings,
        )
        self.sent: list[dict[str, Any]] = []

    def request_with_retries(self, *_: Any, **kwargs: Any) -> Any:
        self.sent.append(json.loads(kwargs["request_kwargs"]["data"]))


@pytest.mark.parametrize("way", ["invoke", "stream"])
async def test_langsmith(server: NscaleServer, way: str) -> None:
    client = _Recording(hide_metadata=langsmith_costs({MODEL: (2, 4)}))
    tracer = LangChainTracer(client=client)
    asked = ChatNscale(
        model=MODEL, temperature=0.5, max_tokens=9, stop=["END"], **server.settings
    )
    asked = asked.with_config(callbacks=[tracer], run_id=uuid.uuid4())  # type: ignore[assignment]  # a binding
    await consume(asked, "one two", way)
    tracer.wait_for_futures()
    metadata = client.sent[-1]["extra"]["metadata"]
    expected = {
        "ls_provider": "nscale",
        "ls_model_name": MODEL,
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["END"],
    }
    assert {key: metadata[key] for key in expected} == expected
    usage = metadata["usage_metadata"]
    assert usage["input_tokens"] == 2
    assert usage["input_cost"] == pytest.approx(2 * 2 / 1e6)
    assert usage["output_cost"] == pytest.approx(usage["output_tokens"] * 4 / 1e6)
    total = usage["input_cost"] + usage["output_cost"]
    assert usage["total_cost"] == pytest.approx(total)
