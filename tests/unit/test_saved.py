"""Pickles, dumps and checkpoints of earlier versions still load and still work.

`saved/*.pickle` were made by `saved/make.py` at the commit in their names.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langchain.agents import create_agent
from langchain_core.load import load
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    ToolMessage,
)
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBinding
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_nscale import ChatNscale, NscaleEmbeddings, NscaleError, errors
from langchain_nscale.templates import TemplateRules
from tests.unit.saved import make

FILES = sorted((Path(__file__).parent / "saved").glob("*.pickle"))
SAVED: dict[str, dict[str, bytes]] = {
    path.stem: pickle.loads(path.read_bytes()) for path in FILES
}
pytestmark = pytest.mark.filterwarnings("ignore:The function `load` is in beta")
EVERY = pytest.mark.parametrize("saved", SAVED.values(), ids=SAVED)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "t")


def names(kind: str) -> list[str]:
    return sorted({name for saved in SAVED.values() for name in saved if kind in name})


def models_in(runnable: Any) -> Iterator[ChatNscale]:
    """The models somewhere in a chain."""
    if isinstance(runnable, ChatNscale):
        yield runnable
    parts = [getattr(runnable, "bound", None), *getattr(runnable, "steps", [])]
    for part in parts:
        if isinstance(part, Runnable):
            yield from models_in(part)


def ask(
    runnable: Any, reply: dict[str, Any], messages: Any = "Who?"
) -> tuple[Any, dict[str, Any]]:
    """What a chain answers, and the request that it sends."""
    requests = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(json.loads(request.content))
        return httpx2.Response(200, json=make.completion(reply, "stop"))

    for model in models_in(runnable):
        model.http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return runnable.invoke(messages), requests[-1]


def check_model(model: Any, name: str) -> None:
    assert type(model) is ChatNscale
    answer, body = ask(model, {"content": "Hi"})
    assert answer.text == "Hi"
    assert body["model"] == make.MODEL
    assert set(vars(model)) >= set(ChatNscale.model_fields)
    if name == "chat":
        assert body["temperature"] == 0.5
        assert body["max_tokens"] == 9
        assert body["stop"] == ["x"]
        assert body["top_k"] == 1
        assert model.request_timeout in ((1, 2), [1, 2])
    if name == "chat, merging":
        assert isinstance(model.template_rules, TemplateRules)
        assert model.template_rules.system == "first"
    if name == "chat, apart":
        assert model.template_rules == "as_is"


@EVERY
@pytest.mark.parametrize("name", [n for n in names("chat") if "chunks" not in n])
def test_models(saved: dict[str, bytes], name: str) -> None:
    check_model(pickle.loads(saved[name]), name)
    check_model(loaded(saved, name), name)


def loaded(saved: dict[str, bytes], name: str) -> Any:
    """A value from the text that `dumps` made."""
    return load(
        json.loads(json.loads(saved["json"])[name]),
        valid_namespaces=["langchain_nscale"],
        allowed_objects=[ChatNscale, RunnableBinding, AIMessage, AIMessageChunk],
        secrets_from_env=True,
    )


@EVERY
def test_bound_tools(saved: dict[str, bytes]) -> None:
    for bound in (pickle.loads(saved["bound"]), loaded(saved, "bound")):
        answer, body = ask(bound, {"content": None, "tool_calls": [make.WHOLE]})
        assert [call["name"] for call in answer.tool_calls] == ["find"]
        assert [tool["function"]["name"] for tool in body["tools"]] == ["find"]


@EVERY
@pytest.mark.parametrize("method", make.METHODS)
def test_structured_output(saved: dict[str, bytes], method: str) -> None:
    chain = pickle.loads(saved[f"structured, {method}"])
    call = {**make.CALL, "function": {"name": "Person", "arguments": '{"name": "Ann"}'}}
    reply = (
        {"content": None, "tool_calls": [call]}
        if method == "function_calling"
        else {"content": '{"name": "Ann"}'}
    )
    assert ask(chain, reply)[0] == {"name": "Ann"}


@EVERY
def test_embeddings(saved: dict[str, bytes]) -> None:
    embeddings = pickle.loads(saved["embeddings"])
    assert type(embeddings) is NscaleEmbeddings
    assert (embeddings.dimensions, embeddings.chunk_size) == (3, 7)
    vector = {"data": [{"index": 0, "embedding": [1.0, 0.5, 0.0]}]}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=vector))
    embeddings.http_client = httpx2.Client(transport=transport)
    assert embeddings.embed_query("hi") == [1.0, 0.5, 0.0]


@EVERY
@pytest.mark.parametrize("name", names("sum, "))
def test_streamed_messages(saved: dict[str, bytes], name: str) -> None:
    chunks = pickle.loads(saved[name.replace("sum", "chunks")])
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.chunk_position == "last"
    messages = [total, pickle.loads(saved[name])]
    if "cut" not in name:  # langchain-core reads stored fragments again, leniently
        messages.append(loaded(saved, name))
    for message in messages:
        assert isinstance(message, AIMessageChunk)
        check_message(message, name)


def check_message(message: Any, name: str) -> None:
    if "text" in name:
        assert message.text == "Hello"
        kinds = [block["type"] for block in message.content_blocks]
        assert kinds == ["reasoning", "text"]
        return
    assert len(message.tool_calls) == ("cut" not in name)
    assert len(message.invalid_tool_calls) == ("cut" in name)
    # It goes back to the service as the model wrote it.
    result = ToolMessage("a.txt", tool_call_id="call_1")
    text = json.dumps(
        ask(
            make.model(),
            {"content": "Hi"},
            [HumanMessage("hi"), message, result, HumanMessage("?")],
        )[1]
    )
    assert "find" in text
    assert "not executable" not in text


@EVERY
@pytest.mark.parametrize("name", names("error, "))
def test_errors(saved: dict[str, bytes], name: str) -> None:
    error = pickle.loads(saved[name])
    assert type(error) is getattr(errors, name.removeprefix("error, "))
    assert isinstance(error, NscaleError)
    assert error.message
    assert error.message in str(error)
    assert isinstance(error.is_retryable, bool)
    status = make.STATUSES.get(name.removeprefix("error, "), (error.status_code,))[0]
    assert error.status_code == status
    if "Interrupted" in name:
        assert error.partial is not None
        assert error.partial.text == "Hel"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)


@EVERY
def test_usage(saved: dict[str, bytes]) -> None:
    usage = pickle.loads(saved["usage"])
    assert usage.total.calls == 1
    assert usage.total.input_tokens == 3
    assert usage.cost is not None
    transport = httpx2.MockTransport(make.answer)
    model = make.model(http_client=httpx2.Client(transport=transport))
    model.invoke("hi", {"callbacks": [usage]})
    assert usage.total.calls == 2
    assert usage.total.input_tokens == 6


@EVERY
def test_checkpoints(saved: dict[str, bytes]) -> None:
    """A conversation goes on where an earlier version left it."""
    checkpoint = pickle.loads(saved["checkpoint"])
    saver = InMemorySaver()
    for thread, namespaces in checkpoint["storage"].items():
        for name, each in namespaces.items():
            saver.storage[thread][name].update(each)
    saver.writes.update(checkpoint["writes"])
    saver.blobs.update(checkpoint["blobs"])
    transport = httpx2.MockTransport(make.answer)
    model = make.model(http_client=httpx2.Client(transport=transport))
    agent = create_agent(model, [make.find], checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    before = agent.get_state(config).values["messages"]
    assert [message.type for message in before] == ["human", "ai", "tool", "ai"]
    inputs: Any = {"messages": [("user", "and?")]}
    after = agent.invoke(inputs, config)["messages"]
    assert len(after) > len(before)
    assert after[-1].text == "done"


@EVERY
def test_serialized_messages(saved: dict[str, bytes]) -> None:
    serializer = JsonPlusSerializer()
    reply, *messages = serializer.loads_typed(pickle.loads(saved["messages"]))
    assert [call["name"] for call in reply.tool_calls] == ["find"]
    order = [f"{name}, {v}" for name in make.STREAMS for v in ("v0", "v1")]
    for name, message in zip(order, messages, strict=True):
        if "cut" not in name:  # see above
            check_message(message, name)


def test_there_is_something_to_load() -> None:
    assert SAVED
