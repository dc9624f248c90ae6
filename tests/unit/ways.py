"""Every way of calling a model, and what its message says in each."""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import reduce
from typing import Any

import httpx2
from langchain_core.messages import AIMessage, message_chunk_to_message
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from langchain_nscale import ChatNscale, NscaleError

Way = Callable[[Any, Any], Any]
_numbers = itertools.count()


def added(chunks: Iterable[Any]) -> Any:
    return message_chunk_to_message(reduce(operator.add, chunks))


async def collected(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def run(awaitable: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await awaitable

    return asyncio.run(main())


async def async_v3(model: Any, asked: Any) -> Any:
    return await (await model.astream_events(asked, version="v3")).output


def graph_of(model: Any) -> Any:
    def node(state: Any) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", node)
    graph.add_edge(START, "model")
    return graph.compile()


def graph_state(model: Any, asked: Any) -> Any:
    """The message in the state of a graph whose messages are streamed."""
    modes = ["messages", "values"]
    *_, (_, last) = graph_of(model).stream({"messages": asked}, stream_mode=modes)
    return last["messages"][-1]


def graph_messages(model: Any, asked: Any) -> Any:
    """The sum of the chunks that a graph streams."""
    stream = graph_of(model).stream({"messages": asked}, stream_mode="messages")
    return added(chunk for chunk, _ in stream)


def graph_v3(model: Any, asked: Any) -> Any:
    run = graph_of(model).stream_events({"messages": asked}, version="v3")
    return run.output["messages"][-1]


def chain(model: Any, asked: Any) -> Any:
    (message,) = (model | RunnableLambda(lambda message: message)).stream(asked)
    return message_chunk_to_message(message)


def streaming(model: Any, asked: Any) -> Any:
    return model.bind(stream=True).invoke(asked)


WAYS: dict[str, Way] = {
    "invoke": lambda model, asked: model.invoke(asked),
    "ainvoke": lambda model, asked: run(model.ainvoke(asked)),
    "streaming=True": streaming,
    "stream": lambda model, asked: added(model.stream(asked)),
    "astream": lambda model, asked: added(run(collected(model.astream(asked)))),
    "v3": lambda model, asked: model.stream_events(asked, version="v3").output,
    "async v3": lambda model, asked: run(async_v3(model, asked)),
    "chain": chain,
    "graph, messages": graph_messages,
    "graph, state": graph_state,
    "graph, v3": graph_v3,
}


def model_for(
    handler: Callable[[httpx2.Request], httpx2.Response], **settings: Any
) -> ChatNscale:
    """A model whose requests a function answers."""
    transport = httpx2.MockTransport(handler)
    given: dict[str, Any] = {
        "model": "m",
        # What is learned of a service is remembered by its address.
        "base_url": f"https://{next(_numbers)}.example.com/v1",
        "service_token": "t",
        "max_retries": 0,
        "http_client": httpx2.Client(transport=transport),
        "http_async_client": httpx2.AsyncClient(transport=transport),
        **settings,
    }
    return ChatNscale(**given)


def outcome(way: Way, model: Any, asked: Any = "Hi") -> dict[str, Any]:
    """What a way of calling returns or raises, without what differs by its nature."""
    try:
        message = way(model, asked)
    except NscaleError as error:
        partial = error.partial
        found = None if partial is None else facts(partial)
        return {"error": type(error), "message": str(error), "partial": found}
    except Exception as error:  # noqa: BLE001  # of a parser
        return {"error": type(error), "message": str(error)}
    return facts(message)


def facts(message: AIMessage) -> dict[str, Any]:
    metadata = dict(message.response_metadata)
    metadata.pop("output_version", None)
    return {
        "type": type(message),
        "text": message.text,
        "kwargs": message.additional_kwargs,
        "calls": message.tool_calls,
        "invalid": [
            (call["name"], call["args"] or "", call["id"], call["error"])
            for call in message.invalid_tool_calls
        ],
        "metadata": metadata,
        "usage": message.usage_metadata,
        "blocks": sorted(block["type"] for block in message.content_blocks),
    }
