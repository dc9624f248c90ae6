from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import httpx
import httpx2
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import StructuredTool, tool
from pydantic import SecretStr, ValidationError

from langchain_nscale import ChatNscale, __version__
from tests.unit.service import Service

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def make(**settings: Any) -> ChatNscale:
    return ChatNscale(**{"model": MODEL, "service_token": "s3cret", **settings})


def body_of(chat: ChatNscale, **kwargs: Any) -> Any:
    stop = kwargs.pop("stop", None)
    body = json.loads(json.dumps(chat.request_body("hi", stop=stop, **kwargs)))
    assert body.pop("messages") == [{"role": "user", "content": "hi"}]
    return body


# --- bad settings: one clear error, at construction ------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": None}, "`model` is missing"),
        ({"model": ""}, "`model` is missing"),
        ({"service_token": None}, "NSCALE_SERVICE_TOKEN"),
        ({"service_token": ""}, "NSCALE_SERVICE_TOKEN"),
        ({"service_token": " \n"}, "NSCALE_SERVICE_TOKEN"),
        ({"service_token": "a b"}, "`service_token`"),
        ({"base_url": "inference.api.nscale.com/v1"}, "`base_url`.*https://"),
        ({"base_url": "ftp://x/v1"}, "`base_url`"),
        ({"base_url": "https://"}, "`base_url`"),
        ({"base_url": "https://x:port"}, "`base_url`"),
        ({"base_url": "http://example.com/v1"}, "allow_insecure_http"),
        ({"n": 0}, "`n` is 0"),
        ({"max_retries": -1}, "`max_retries`"),
        ({"timeout": 0}, "`timeout`"),
        ({"timeout": "soon"}, "`timeout`"),
        ({"timeout": (1, 2, 3)}, "`timeout`"),
        ({"http_client": 3}, "`http_client`"),
        ({"temprature": 1}, "Did you mean `temperature`.*`extra_body`"),
        ({"top_k": 1}, "no setting `top_k`: pass it in `extra_body`"),
        ({"use_responses_api": True}, "no setting `use_responses_api`.*Chat Completions"),
        ({"openai_api_key": "x"}, "use `service_token`"),
        ({"openai_api_base": "x"}, "use `base_url`"),
        ({"openai_proxy": "http://x"}, "HTTPS_PROXY"),
        ({"organization": "x"}, "`organization`"),
        ({"reasoning": {"effort": "low"}}, "`reasoning_effort`"),
        ({"service_tier": "flex"}, "`extra_body`"),
    ],
)
def test_bad_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises((ValidationError, TypeError), match=says) as caught:
        make(**settings)
    assert "s3cret" not in str(caught.value)
    if isinstance(caught.value, ValidationError):
        assert "s3cret" not in str(caught.value.errors())


def test_the_environments_mistakes_name_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NSCALE_BASE_URL", "nscale.com")
    with pytest.raises(ValidationError, match=r"NSCALE_BASE_URL is 'nscale\.com'"):
        make()
    monkeypatch.delenv("NSCALE_BASE_URL")
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "a b")
    with pytest.raises(ValidationError, match="NSCALE_SERVICE_TOKEN"):
        ChatNscale(model=MODEL)


# --- settings ---------------------------------------------------------------------------


def token_of(model: ChatNscale) -> str:
    assert isinstance(model.service_token, SecretStr)
    return model.service_token.get_secret_value()


def test_token_and_address_from_argument_alias_and_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert token_of(ChatNscale(model=MODEL, service_token="a")) == "a"
    assert token_of(ChatNscale(model=MODEL, api_key="b")) == "b"
    monkeypatch.setenv("NSCALE_API_KEY", "c")
    monkeypatch.setenv("NSCALE_API_BASE", "https://c/v1/")
    model = ChatNscale(model=MODEL)
    assert (token_of(model), model.base_url) == ("c", "https://c/v1")
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "d")
    monkeypatch.setenv("NSCALE_BASE_URL", "https://d/v1")
    model = ChatNscale(model=MODEL)
    assert (token_of(model), model.base_url) == ("d", "https://d/v1")
    assert token_of(make()) == "s3cret"
    assert make(base_url="https://e").base_url == "https://e"


def test_defaults() -> None:
    model = make()
    assert model.base_url == "https://inference.api.nscale.com/v1"
    assert model.stream_usage is True
    assert model.max_retries == 2
    assert model.temperature is None
    assert body_of(model) == {"model": MODEL}


def test_nothing_of_openais_environment_changes_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def request() -> Any:
        service = Service()
        make(**service.settings).invoke("hi")
        (sent,) = service.requests
        return sent.url, sent.headers, sent.content, sent.extensions

    before, sent = make(), request()
    names = "API_KEY API_BASE BASE_URL ORG_ID ORGANIZATION PROJECT_ID PROXY"
    for name in names.split():
        monkeypatch.setenv(f"OPENAI_{name}", "https://evil.example")
    for name in ("LANGSMITH_GATEWAY", "LANGSMITH_GATEWAY_API_KEY", "LANGSMITH_API_KEY"):
        monkeypatch.setenv(name, "lsv2_evil")
    monkeypatch.setenv("LANGCHAIN_OPENAI_STREAM_CHUNK_TIMEOUT_S", "1")
    assert make() == before
    assert request() == sent


def started(asked: ChatNscale, /, **call: Any) -> dict[str, Any]:
    """What a callback handler is told of a call that begins."""
    found: dict[str, Any] = {}

    class Handler(BaseCallbackHandler):
        def on_chat_model_start(self, *_: Any, **fields: Any) -> None:
            found.update(fields)

    own = {**Service().settings, "service_token": asked.service_token}
    asked.model_copy(update=own).invoke("hi", {"callbacks": [Handler()]}, **call)
    return found


def test_it_is_a_chat_model_that_names_itself() -> None:
    model = make()
    assert isinstance(model, BaseChatModel)
    assert started(model)["invocation_params"]["_type"] == "nscale"
    assert model.metadata is not None
    assert model.metadata["lc_versions"]["langchain-nscale"] == __version__


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, (10.0, 600.0, 600.0, 600.0)),
        (3, (3.0, 3.0, 3.0, 3.0)),
        ((1, 2), (1.0, 2.0, 2.0, 2.0)),
        (httpx.Timeout(5, connect=1), (1, 5, 5, 5)),
        (httpx2.Timeout(None), (None, None, None, None)),
    ],
)
def test_timeouts(timeout: Any, seconds: Any) -> None:
    service = Service()
    make(timeout=timeout, **service.settings).invoke("hi")
    limits = service.requests[0].extensions["timeout"]
    phases = ("connect", "read", "write", "pool")
    assert tuple(limits[phase] for phase in phases) == seconds


def test_every_parameter_reaches_the_body() -> None:
    parameters = {
        "temperature": 0.0,
        "max_tokens": 5,
        "seed": 1,
        "n": 2,
        "top_p": 0.5,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {1: 2},
        "reasoning_effort": "low",
        "stop": ["a"],
    }
    expected = {**parameters, "model": MODEL, "logit_bias": {"1": 2}}
    assert body_of(make(**parameters)) == expected


def test_a_calls_fields_win_and_stops_are_merged() -> None:
    model = make(temperature=0.5, stop="a", max_tokens=5, model_kwargs={"user": "u"})
    body = body_of(model, temperature=0, stop=["b"], model="other", top_k=3)
    assert body == {
        "model": "other",
        "temperature": 0,
        "stop": ["a", "b"],
        "max_tokens": 5,
        "user": "u",
        "top_k": 3,
    }


def test_none_in_a_call_unsets_a_setting() -> None:
    assert body_of(make(temperature=0.5, seed=1), temperature=None) == {
        "model": MODEL,
        "seed": 1,
    }


def test_either_name_of_the_token_limit() -> None:
    assert body_of(make(max_completion_tokens=7))["max_tokens"] == 7
    body = body_of(make(max_tokens=5), max_completion_tokens=7)
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 7
    body = body_of(make(max_tokens=5), extra_body={"max_completion_tokens": 7})
    assert (body.get("max_tokens"), body["max_completion_tokens"]) == (None, 7)
    body = body_of(make(), max_completion_tokens=7, extra_body={"max_tokens": 5})
    assert (body["max_tokens"], body.get("max_completion_tokens")) == (5, None)


def test_extra_bodies_are_merged_at_the_top_level() -> None:
    template = {"chat_template_kwargs": {"enable_thinking": False}}
    model = make(extra_body={"top_k": 1, **template})
    body = body_of(model, extra_body={"top_k": 2})
    assert body == {"model": MODEL, "top_k": 2, **template}


def test_stream_options() -> None:
    def options(model: ChatNscale, usage: bool | None = None, **kwargs: Any) -> Any:
        body = model.request_body("hi", stream=True, stream_usage=usage, **kwargs)
        assert body["stream"] is True
        assert "stream_usage" not in body
        return body.get("stream_options")

    assert options(make()) == {"include_usage": True}
    assert options(make(stream_usage=False)) is None
    assert options(make(), usage=False) is None
    assert options(make(), stream_options={"x": 1}) == {"include_usage": True, "x": 1}
    assert options(make(), stream_options={"include_usage": False}) == {
        "include_usage": False
    }


def test_tracing_parameters() -> None:
    def params(asked: ChatNscale, /, **call: Any) -> dict[str, Any]:
        metadata = started(asked, **call)["metadata"]
        return {name: metadata[name] for name in metadata if name.startswith("ls_")}

    found = params(make(temperature=0.1, max_tokens=9, stop=["x"]), stop=["y"])
    found.pop("ls_integration", None)  # langchain-core's
    assert found == {
        "ls_provider": "nscale",
        "ls_model_name": MODEL,
        "ls_model_type": "chat",
        "ls_temperature": 0.1,
        "ls_max_tokens": 9,
        "ls_stop": ["x", "y"],
    }
    override = params(make(), model="m2", temperature=0, max_completion_tokens=3)
    assert override["ls_model_name"] == "m2"
    assert override["ls_temperature"] == 0
    assert override["ls_max_tokens"] == 3


# --- copies, pickles, serialised forms --------------------------------------------------


def test_the_token_is_in_no_form_of_the_model() -> None:
    model = make()
    dumped = dumps(model)
    forms = [
        repr(model),
        str(model),
        dumped,
        str(model.model_dump()),
        model.model_dump_json(exclude={"callbacks", "rate_limiter", "cache"}),
        str(pickle.dumps(model)),
        str(started(model)),
    ]
    assert not [form for form in forms if "s3cret" in form]
    assert "NSCALE_SERVICE_TOKEN" in dumped


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_dumpd_and_load(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(temperature=0.5, base_url="https://x/v1")
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "of-the-environment")
    loaded = load(
        dumpd(model),
        valid_namespaces=["langchain_nscale"],
        allowed_objects=[ChatNscale],
        secrets_from_env=True,
    )
    assert isinstance(loaded, ChatNscale)
    assert token_of(loaded) == "of-the-environment"
    assert loaded.temperature == 0.5
    assert loaded.base_url == "https://x/v1"


def test_pickles_take_their_token_from_where_they_are_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pickled = pickle.dumps(make(temperature=0.5, http_client=httpx2.Client()))
    opened = pickle.loads(pickled)
    assert opened.temperature == 0.5
    with pytest.raises(ValueError, match="unpickled where NSCALE_SERVICE_TOKEN"):
        opened.invoke("hi")
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "there")
    assert token_of(pickle.loads(pickled)) == "there"


def test_copies_keep_token_and_clients() -> None:
    client = httpx2.Client()
    model = make(http_client=client, model_kwargs={"a": [1]})
    for copied in (copy.copy(model), copy.deepcopy(model), model.model_copy()):
        assert copied == model
        assert copied.http_client is client
        assert token_of(copied) == "s3cret"
    assert copy.deepcopy(model).model_kwargs["a"] is not model.model_kwargs["a"]


def test_the_cache_key_has_all_that_changes_the_answer() -> None:
    service = Service()
    cached = {**service.settings, "cache": InMemoryCache()}
    for settings in (
        {},
        {"model": "other"},
        {"temperature": 0.5},
        {"base_url": "https://other/v1"},
        {"extra_body": {"top_k": 1}},
        {"model_kwargs": {"user": "u"}},
        {"stop": ["x"]},
        {"seed": 3},
    ):
        make(**cached, **settings).invoke("hi")
    assert len(service.requests) == 8
    make(**{**cached, "service_token": "another"}).invoke("hi")
    assert len(service.requests) == 8


def test_changed_and_copied_models_have_their_own_key() -> None:
    service = Service()
    model = make(**service.settings, cache=InMemoryCache())
    model.invoke("hi")
    model.temperature = 0.5
    model.invoke("hi")
    model.model_copy(update={"temperature": 0.9}).invoke("hi")
    assert len(service.requests) == 3


# --- tools and tokens -----------------------------------------------------------------


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return city


def test_bind_tools() -> None:
    bound: Any = make().bind_tools(
        [weather], tool_choice="weather", strict=True, parallel_tool_calls=False, a=1
    )
    function = bound.kwargs["tools"][0]["function"]
    assert function["name"] == "weather"
    assert function["strict"] is True
    assert bound.kwargs["tool_choice"]["function"] == {"name": "weather"}
    assert bound.kwargs["parallel_tool_calls"] is False
    assert bound.kwargs["a"] == 1
    plain: Any = make().bind_tools([weather])
    assert plain.kwargs.keys() == {"tools"}
    assert make().bind_tools([]).kwargs == {}  # type: ignore[attr-defined]  # a binding


@pytest.mark.parametrize("parameters", [{"type": "string"}, {"type": ["null"]}, "none"])
def test_parameters_of_a_tool_are_an_object(parameters: Any) -> None:
    function = {"name": "f", "description": "x", "parameters": parameters}
    with pytest.raises(ValueError, match="parameters of the tool 'f'"):
        make().bind_tools([{"type": "function", "function": function}])
    del function["parameters"]
    make().bind_tools([{"type": "function", "function": function}])


@pytest.mark.parametrize("place", ["call", "model_kwargs"])
def test_calls_have_the_names_of_the_users_tools(place: str) -> None:
    tool_ = {"type": "function", "function": {"name": "files.read"}}

    def call_it(request: httpx2.Request) -> httpx2.Response:
        (sent,) = json.loads(request.content)["tools"]
        name = sent["function"]["name"]
        assert name != "files.read"
        call = {"id": "c", "function": {"name": name, "arguments": "{}"}}
        choice = {"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
        return httpx2.Response(200, json={"choices": [choice]})

    client = httpx2.Client(transport=httpx2.MockTransport(call_it))
    kwargs: dict[str, Any] = {"tools": [tool_]}
    in_call = kwargs if place == "call" else {}
    in_model = {} if place == "call" else {"model_kwargs": kwargs}
    message = make(http_client=client, **in_model).invoke("Hi", **in_call)
    assert [call["name"] for call in message.tool_calls] == ["files.read"]


@pytest.mark.parametrize("place", ["call", "model_kwargs", "extra_body"])
def test_the_requests_model_decides_whether_images_are_sent(place: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    question = HumanMessage([picture])
    other = {"model": "meta-llama/Llama-4-Scout-17B-16E-Instruct"}
    call: dict[str, Any] = other if place == "call" else {}
    settings = {} if place == "call" else {place: other}
    body = make(**settings).request_body([question], **call)
    assert body["model"] == other["model"]
    assert body["messages"][0]["content"] == [picture]
    with pytest.raises(ValueError, match="only reads text"):
        make().request_body([question])


def test_tools_whose_schema_is_a_dict_as_those_of_mcp_servers() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = StructuredTool(
        name="add", description="Add.", args_schema=schema, coroutine=None, func=print
    )
    bound: Any = make().bind_tools([tool])
    (sent,) = bound.kwargs["tools"]
    assert sent["function"]["parameters"]["properties"] == schema["properties"]


def test_bind_tools_takes_the_response_format_of_create_agent() -> None:
    schema = {"title": "T", "type": "object", "properties": {}}
    form = {"type": "json_schema", "json_schema": {"name": "T", "schema": schema}}
    bound: Any = make().bind_tools([weather], response_format=form, strict=True)
    assert bound.kwargs["response_format"] == form


def test_bad_tools_and_methods() -> None:
    with pytest.raises(ValueError, match="tool_choice='other'"):
        make().bind_tools([weather], tool_choice="other")
    schema = {"title": "T", "type": "object", "properties": {}}
    with pytest.raises(ValueError, match="method='xml'"):
        make().with_structured_output(schema, method="xml")  # type: ignore[call-overload]  # on purpose
    with pytest.raises(ValueError, match="`schema` is missing"):
        make().with_structured_output()
    with pytest.raises(ValueError, match="`strict`"):
        make().with_structured_output(schema, method="json_mode", strict=True)


def test_token_counts_need_no_network() -> None:
    model = make()
    assert model.get_num_tokens("x" * 9) == 3
    few = model.get_num_tokens_from_messages([HumanMessage("hi"), AIMessage("yo")])
    many = model.get_num_tokens_from_messages([HumanMessage("hi" * 100)], tools=[weather])
    assert 0 < few < many
    with pytest.raises(NotImplementedError, match="custom_get_token_ids"):
        model.get_token_ids("hi")
    exact = make(custom_get_token_ids=lambda text: [ord(c) for c in text])
    assert exact.get_token_ids("ab") == [97, 98]
    assert exact.get_num_tokens("ab") == 2


def test_callbacks_see_no_token() -> None:
    seen: list[str] = []

    class Spy(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append(f"{args} {kwargs}")

        def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
            seen.append(f"{error!r} {kwargs}")

    def refuse(_: Any) -> Any:
        msg = "no"
        raise httpx2.ConnectError(msg)

    client = httpx2.Client(transport=httpx2.MockTransport(refuse))
    with pytest.raises(Exception, match="failed"):
        make(http_client=client, max_retries=0).invoke("hi", {"callbacks": [Spy()]})
    assert len(seen) == 2
    assert "s3cret" not in "".join(seen)
