"""What each setting changes: on the wire, in the client, or in the result.

A field without an entry fails, so no setting can be accepted and ignored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import httpx2
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.rate_limiters import InMemoryRateLimiter

from langchain_nscale import ChatNscale, NscaleError, TemplateRules, catalog
from langchain_nscale.embeddings import NscaleEmbeddings
from tests.unit.service import Service, chat, completion, stream

THOUGHT = "<think>why</think>yes"
STREAM = stream({"content": "yes"})


class Recorder(Service):
    """Answers every request, in the way that it asks for, and records it."""

    def __init__(self) -> None:
        super().__init__(
            lambda body: STREAM if body.get("stream") else completion(THOUGHT)
        )


def ask(
    settings: dict[str, Any], messages: Any = "hi", **call: Any
) -> tuple[ChatNscale, AIMessage, httpx2.Request]:
    recorder = Recorder()
    defaults = {"model": "m", "service_token": "t", "http_client": recorder.client}
    model = ChatNscale(**{**defaults, **settings})
    return model, model.invoke(messages, **call), recorder.requests[-1]


def on_the_wire(name: str, value: Any) -> Callable[[], None]:
    def check() -> None:
        body = json.loads(ask({name: value})[2].content)
        assert body[name] == json.loads(json.dumps(value))
        assert name not in json.loads(ask({})[2].content)

    return check


def body_differs(name: str, value: Any, messages: Any, key: str) -> Callable[[], None]:
    def check() -> None:
        changed = json.loads(ask({name: value}, messages)[2].content)
        assert changed.get(key) != json.loads(ask({}, messages)[2].content).get(key)

    return check


def of_streams(name: str, value: Any, key: str) -> Callable[[], None]:
    def check() -> None:
        bodies = []
        for settings in ({}, {name: value}):
            recorder = Recorder()
            model = ChatNscale(
                model="m",
                service_token="t",
                http_client=recorder.client,
                **settings,
            )
            list(model.stream("hi"))
            bodies.append(json.loads(recorder.requests[-1].content))
        assert bodies[0].get(key) != bodies[1].get(key)

    return check


def request_differs(name: str, value: Any, part: str) -> Callable[[], None]:
    def check() -> None:
        changed, plain = ask({name: value})[2], ask({})[2]
        assert getattr(changed, part) != getattr(plain, part)

    return check


def check_own_clients() -> None:
    sync, looped = Service(), Service()
    own: Any = {"http_client": sync.client, "http_async_client": looped.async_client}
    model = ChatNscale(model="m", service_token="t", **own)
    model.invoke("hi")
    assert (len(sync.requests), len(looped.requests)) == (1, 0)
    asyncio.run(model.ainvoke("hi"))
    assert (len(sync.requests), len(looped.requests)) == (1, 1)


def check_retries() -> None:
    for retries in (0, 3):
        service = Service(httpx2.Response(503, headers={"retry-after-ms": "0"}))
        with pytest.raises(NscaleError):
            chat(service, max_retries=retries).invoke("hi")
        assert len(service.requests) == 1 + retries


def check_response_limit() -> None:
    for size in (9, None):
        problem = pytest.raises(NscaleError, match="max_response_bytes")
        with problem if size else nullcontext():
            chat(max_response_bytes=size).invoke("hi")


def check_insecure() -> None:
    address = "http://example.com/v1"
    with pytest.raises(ValueError, match="allow_insecure_http"):
        ChatNscale(model="m", service_token="t", base_url=address)
    _, _, request = ask({"base_url": address, "allow_insecure_http": True})
    assert request.url.host == "example.com"


def check_model_name() -> None:
    assert json.loads(ask({"model": "other"})[2].content)["model"] == "other"


def check_streaming() -> None:
    assert json.loads(ask({"streaming": True})[2].content)["stream"] is True


def check_think_tags() -> None:
    assert ask({"think_tags": "both"})[1].content == "yes"
    assert ask({})[1].content == "<think>why</think>yes"


def check_tokenizer() -> None:
    class Letters:
        def encode(self, text: str, **_: Any) -> list[int]:
            return [ord(letter) for letter in text]

    model = ChatNscale(model="m", service_token="t", tokenizer=Letters())
    assert model.get_token_ids("ab") == [97, 98]


def check_schema_with_tools() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    both: dict[str, Any] = {"tools": [tool], "response_format": {"type": "json_object"}}
    for way, requests in {"separate": 2, "together": 1}.items():
        service = Service()
        chat(service, schema_with_tools=way).invoke("hi", **both)
        assert len(service.bodies) == requests
        assert ("response_format" in service.bodies[0]) == (way == "together")


def check_response_headers() -> None:
    assert "headers" in ask({"include_response_headers": True})[1].response_metadata
    assert "headers" not in ask({})[1].response_metadata


def check_token() -> None:
    assert ask({"service_token": "s"})[2].headers["authorization"] == "Bearer s"


def check_stall_limit() -> None:
    # Applied to the request's read timeout once the stream has begun.
    model = ChatNscale(model="m", service_token="t", stream_chunk_timeout=3)
    recorder = Recorder()
    model.http_client = recorder.client
    list(model.stream("hi"))
    assert recorder.requests[-1].extensions["timeout"]["read"] == 3


REASONED = [
    HumanMessage("a"),
    AIMessage("b", additional_kwargs={"reasoning_content": "why"}),
    HumanMessage("c"),
]
SYSTEM = [HumanMessage("a"), SystemMessage("s"), HumanMessage("b")]

EFFECTS: dict[str, Callable[[], None]] = {
    **{
        name: on_the_wire(name, value)
        for name, value in {
            "temperature": 0.5,
            "max_tokens": 5,
            "top_p": 0.5,
            "stop": ["x"],
            "seed": 1,
            "n": 1,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "logit_bias": {1: 2},
            "logprobs": True,
            "top_logprobs": 2,
            "reasoning_effort": "low",
        }.items()
    },
    "model_kwargs": body_differs("model_kwargs", {"user": "u"}, "hi", "user"),
    "extra_body": body_differs("extra_body", {"top_k": 1}, "hi", "top_k"),
    "reasoning_history": body_differs(
        "reasoning_history", "always", REASONED, "messages"
    ),
    "template_rules": body_differs(
        "template_rules", TemplateRules(system="first"), SYSTEM, "messages"
    ),
    "stream_usage": of_streams("stream_usage", False, "stream_options"),
    "base_url": request_differs("base_url", "https://x/v1", "url"),
    "request_timeout": request_differs("timeout", 3, "extensions"),
    "max_retries": check_retries,
    "total_timeout": request_differs("total_timeout", 9.0, "extensions"),
    "max_response_bytes": check_response_limit,
    "default_headers": request_differs("default_headers", {"X": "1"}, "headers"),
    "default_query": request_differs("default_query", {"q": 1}, "url"),
    "http_client": check_own_clients,
    "http_async_client": check_own_clients,
    "allow_insecure_http": check_insecure,
    "model_name": check_model_name,
    "streaming": check_streaming,
    "think_tags": check_think_tags,
    "tokenizer": check_tokenizer,
    "schema_with_tools": check_schema_with_tools,
    "include_response_headers": check_response_headers,
    "service_token": check_token,
    "stream_chunk_timeout": check_stall_limit,
}
# What they do is langchain-core's business; a new one has to be looked at here.
INHERITED = {
    "cache",
    "callbacks",
    "custom_get_token_ids",
    "disable_streaming",
    "metadata",
    "name",
    "output_version",
    "profile",
    "rate_limiter",
    "tags",
    "verbose",
}


def test_every_field_is_listed() -> None:
    assert set(BaseChatModel.model_fields) == INHERITED
    assert set(ChatNscale.model_fields) == set(EFFECTS) | INHERITED


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", EFFECTS)
def test_a_field_changes_something(name: str) -> None:
    EFFECTS[name]()


def test_inherited_fields_reach_langchain_core() -> None:
    class Spy(BaseCallbackHandler):
        calls = 0

        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            self.calls += 1

    spy = Spy()
    settings = {
        "cache": InMemoryCache(),
        "callbacks": [spy],
        "rate_limiter": InMemoryRateLimiter(requests_per_second=1000),
        "tags": ["a"],
        "metadata": {"b": 1},
    }
    model, _, _ = ask(settings)
    model.invoke("hi")  # answered by the cache
    assert spy.calls == 2


def test_every_own_field_has_a_default_and_a_docstring() -> None:
    from scripts.settings_page import docstrings  # noqa: PLC0415  # parses the sources

    ours = [c for c in ChatNscale.__mro__ if c.__module__.startswith("langchain_nscale")]
    texts = {name for cls in ours for name in docstrings(cls)}
    assert set(texts) == set(EFFECTS)
    assert all(not f.is_required() for f in ChatNscale.model_fields.values())


@pytest.mark.parametrize("cls", [ChatNscale, NscaleEmbeddings])
def test_the_settings_have_a_json_schema(cls: Any) -> None:
    schema = cls.model_json_schema()
    assert schema["properties"]["max_retries"]["type"] == "integer"
    assert json.dumps(schema)


class House(ChatNscale):
    """A house class, as people write on ChatOpenAI."""

    model_name: str = "openai/gpt-oss-20b"


def test_every_class_that_is_instantiated_is_complete_at_import() -> None:
    # pydantic does not build a class safely if several threads use it first.
    for cls in (ChatNscale, NscaleEmbeddings, catalog._ListSettings, House):
        assert cls.__pydantic_complete__


def test_none_means_the_default_where_it_is_no_value_of_its_own() -> None:
    model = ChatNscale(
        model="m",
        service_token="t",
        base_url=None,
        max_retries=None,
        stream_usage=None,
        streaming=None,
    )
    assert model == ChatNscale(model="m", service_token="t")
    unlimited = ChatNscale(model="m", service_token="t", max_response_bytes=None)
    assert unlimited.max_response_bytes is None
    embeddings = NscaleEmbeddings(model="m", service_token="t", max_retries=None)
    assert embeddings.max_retries == 2


@pytest.mark.parametrize("name", ["total_timeout", "max_response_bytes"])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_positive(name: str, value: int) -> None:
    limits: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"`{name}` is {value}"):
        ChatNscale(model="m", service_token="t", **limits)


def test_a_subclass_may_have_a_default_model() -> None:
    assert House(service_token="t").model_name == "openai/gpt-oss-20b"
    assert House(service_token="t", model="m").model_name == "m"


def test_a_subclass_may_fix_a_parameter() -> None:
    class Cold(ChatNscale):
        temperature: ClassVar[float] = 0.2  # type: ignore[misc]  # as users write it

    model = Cold(model="m", service_token="t")
    assert model.request_body("Hi")["temperature"] == 0.2
