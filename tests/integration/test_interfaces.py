"""What every LangChain model can do by its base classes, with ChatNscale inside."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelRateLimitError
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import ConfigurableField

from langchain_nscale import ChatNscale
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL


@pytest.fixture
def _cache() -> Iterator[None]:
    before = get_llm_cache()
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(before)


class Seen(BaseCallbackHandler):
    """Keeps what the callbacks are told."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.starts: list[dict[str, Any]] = []

    def on_chat_model_start(self, *_: Any, **told: Any) -> None:
        self.starts.append(told)

    def on_llm_new_token(self, token: Any, **told: Any) -> None:
        assert told["chunk"].message.text == token
        self.tokens.append(token)


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize(
    ("other", "hits"),
    [
        ({}, 1),
        ({"service_token": "another"}, 1),
        ({"temperature": 0.5}, 0),
        ({"seed": 7}, 0),
        ({"stop": ["x"]}, 0),
        ({"extra_body": {"top_k": 1}}, 0),
        ({"model_kwargs": {"top_k": 1}}, 0),
        ({"model": "another"}, 0),
        ({"base_url": "http://127.0.0.1:9/v1"}, 0),
        ({"reasoning_history": "always"}, 0),
    ],
)
def test_the_cache_tells_apart_what_changes_the_answer(
    make: Any, server: NscaleServer, other: dict[str, Any], hits: int
) -> None:
    server.add(ServerReply(text="first"), ServerReply(text="second"))
    assert make().invoke("Hi").text == "first"
    changed = make(**other)
    if other.get("base_url"):
        # Nobody is there: an answer would be the cache's.
        with pytest.raises(Exception, match=r"connection|Connect"):
            changed.invoke("Hi")
        return
    if "service_token" in other:
        server.token = "another"
    try:
        assert changed.invoke("Hi").text == ("first" if hits else "second")
    finally:
        server.token = "stand-in-token"
    assert len(server.requests) == 2 - hits


def test_configurable_fields(make: Any, server: NscaleServer) -> None:
    server.add(*[ServerReply(text="a")] * 2)
    model = make(temperature=0).configurable_fields(
        temperature=ConfigurableField(id="temperature"),
        model_name=ConfigurableField(id="model"),
    )
    model.invoke("Hi")
    model.invoke("Hi", {"configurable": {"temperature": 0.9, "model": "other"}})
    first, second = (request.json for request in server.requests)
    assert first["temperature"] == 0
    assert (second["temperature"], second["model"]) == (0.9, "other")


def test_alternatives(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="a"))
    model = make().configurable_alternatives(
        ConfigurableField(id="llm"), default_key="one", two=make(model="two")
    )
    model.invoke("Hi", {"configurable": {"llm": "two"}})
    assert server.requests[0].json["model"] == "two"


def test_with_retry_repeats_what_passes(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply.error(429, "slow down"), ServerReply(text="a"))
    model = make().with_retry(
        retry_if_exception_type=(ModelRateLimitError,),
        wait_exponential_jitter=False,
        stop_after_attempt=2,
    )
    assert model.invoke("Hi").text == "a"
    assert len(server.requests) == 2


@pytest.mark.parametrize("streaming", [True, False])
def test_streaming_by_the_constructor(
    make: Any, server: NscaleServer, streaming: bool
) -> None:
    server.add(ServerReply(text="a b c"))
    seen = Seen()
    message = make(streaming=streaming).invoke("Hi", {"callbacks": [seen]})
    assert message.text == "a b c"
    assert message.usage_metadata
    assert bool(server.requests[0].json.get("stream")) == streaming
    assert "".join(seen.tokens) == ("a b c" if streaming else "")


def test_streaming_switched_off(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="a b c"))
    chunks = list(make(disable_streaming=True).stream("Hi"))
    assert [chunk.text for chunk in chunks] == ["a b c"]
    assert "stream" not in server.requests[0].json


def test_config_reaches_the_callbacks(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="a"))
    seen = Seen()
    config: Any = {"callbacks": [seen], "tags": ["mine"], "metadata": {"user": "u"}}
    make(temperature=0.2, max_tokens=9, stop=["x"]).invoke("Hi", config)
    (told,) = seen.starts
    assert told["tags"] == ["mine"]
    wanted = {
        "user": "u",
        "ls_provider": "nscale",
        "ls_temperature": 0.2,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }
    assert wanted.items() <= told["metadata"].items()


@pytest.fixture
def echo() -> Iterator[ChatNscale]:
    """A model that says what it was told."""

    def respond(body: Any) -> ServerReply:
        return ServerReply(text=body["messages"][0]["content"])

    with NscaleServer(responder=respond) as server:
        yield ChatNscale(model=MODEL, max_retries=0, **server.settings)


def test_one_instance_in_many_threads(echo: ChatNscale) -> None:
    count = 64
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: echo.invoke(str(i)).text, range(count)))
    assert found == [str(i) for i in range(count)]


async def test_batches_keep_their_order(echo: ChatNscale) -> None:
    asked = [str(i) for i in range(30)]
    config: Any = {"max_concurrency": 3}
    assert [m.text for m in echo.batch(list(asked), config)] == asked
    assert [m.text for m in await echo.abatch(list(asked), config)] == asked


def test_the_summarisation_middleware(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="They greeted."), ServerReply(text="Fine."))
    model = make()
    middleware = SummarizationMiddleware(
        model, trigger=("tokens", 50), keep=("messages", 1)
    )
    agent = create_agent(model, middleware=[middleware])
    said = [
        HumanMessage("Hello " * 50),
        AIMessage("Hello."),
        HumanMessage("How are you?"),
    ]
    state = agent.invoke(cast("Any", {"messages": said}))
    assert state["messages"][-1].text == "Fine."
    assert "They greeted." in str(server.requests[1].json["messages"])
    assert "Hello Hello" not in str(server.requests[1].json["messages"])
