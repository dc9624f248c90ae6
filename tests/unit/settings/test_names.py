"""Names of settings: the two names that some have, and those of other packages."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import ConfigurableField
from pydantic import SecretStr

from langchain_nscale import ChatNscale, NscaleEmbeddings, list_models

TWO_NAMES: dict[str, tuple[str, str, Any, Any]] = {
    "model": ("model", "model_name", "a", "b"),
    "stop": ("stop", "stop_sequences", ["a"], ["b"]),
    "timeout": ("timeout", "request_timeout", 5.0, (1.0, 2.0)),
    "max_tokens": ("max_tokens", "max_completion_tokens", 5, 6),
    "service_token": ("service_token", "api_key", "a", "b"),
}
PAIRS = pytest.mark.parametrize("pair", TWO_NAMES.values(), ids=TWO_NAMES)


def make(cls: Any = ChatNscale, **settings: Any) -> Any:
    required = {} if "model_name" in settings else {"model": "m"}
    if "api_key" not in settings:
        required["service_token"] = "t"
    return cls(**{**required, **settings})


def value_of(model: Any, name: str) -> Any:
    value = getattr(model, {"timeout": "request_timeout"}.get(name, name))
    return value.get_secret_value() if isinstance(value, SecretStr) else value


# --- two names of one setting -----------------------------------------------------------


@PAIRS
def test_either_name_is_accepted(pair: tuple[str, str, Any, Any]) -> None:
    one, other, value, _ = pair
    for name in (one, other):
        assert value_of(make(**{name: value}), one) == value


@PAIRS
def test_two_values_for_one_setting_are_an_error(pair: tuple[str, str, Any, Any]) -> None:
    one, other, value, another = pair
    for first, second in ((one, other), (other, one)):
        with pytest.raises(ValueError, match=f"Pass either `{first}` or `{second}`") as e:
            make(**{first: value, second: another})
        assert repr(value) not in str(e.value)


@PAIRS
def test_the_same_value_twice_or_none_is_no_error(
    pair: tuple[str, str, Any, Any],
) -> None:
    one, other, value, _ = pair
    for first, second in ((one, other), (other, one)):
        assert value_of(make(**{first: value, second: value}), one) == value
        assert value_of(make(**{first: None, second: value}), one) == value
        assert value_of(make(**{first: value, second: None}), one) == value


@pytest.mark.parametrize("cls", [NscaleEmbeddings, ChatNscale])
def test_the_connection_has_two_names_everywhere(cls: Any) -> None:
    for pair in (TWO_NAMES["timeout"], TWO_NAMES["service_token"]):
        one, other, value, another = pair
        with pytest.raises(ValueError, match="they are the same setting"):
            make(cls, **{one: value, other: another})
        with pytest.raises(ValueError, match="they are the same setting"):
            list_models(**{"service_token": "t", one: value, other: another})


class Odd:
    """Compares as arrays do: without an answer."""

    connect = read = write = pool = 1.0
    __hash__ = None  # type: ignore[assignment]  # as arrays have none

    def __eq__(self, other: object) -> bool:
        raise ValueError


def test_values_that_can_not_be_compared_differ() -> None:
    same = Odd()
    assert make(timeout=same, request_timeout=same).timeout is same
    with pytest.raises(ValueError, match="they are the same setting"):
        make(timeout=Odd(), request_timeout=Odd())


@PAIRS
def test_either_name_can_be_configurable(pair: tuple[str, str, Any, Any]) -> None:
    """langchain-core passes the values of all fields beside the one that is replaced."""
    one, other, value, another = pair
    for name in (one, other):
        model = make(**{one: value}).configurable_fields(
            **{name: ConfigurableField("it")}
        )
        changed, _ = model.prepare({"configurable": {"it": another}})
        assert value_of(changed, one) == another
        assert value_of(model.prepare()[0], one) == value


def test_one_setting_can_not_be_configurable_twice() -> None:
    fields = {"model": ConfigurableField("a"), "model_name": ConfigurableField("b")}
    with pytest.raises(ValueError, match="they are the same setting"):
        make().configurable_fields(**fields)
    with pytest.raises(ValueError, match="Did you mean `temperature`"):
        make().configurable_fields(temprature=ConfigurableField("a"))


@PAIRS
def test_either_name_changes_a_copy(pair: tuple[str, str, Any, Any]) -> None:
    one, other, value, another = pair
    for name in (one, other):
        copied = make(**{one: value}).model_copy(update={name: another})
        assert value_of(copied, one) == another


def test_a_subclass_that_presets_a_setting_keeps_both_names() -> None:
    class House(ChatNscale):
        model_name: str = "ours"
        stop: str | list[str] | None = None

    assert House(api_key="t").model == "ours"
    assert House(api_key="t", model="m", stop_sequences=["x"]).stop == ["x"]
    assert House(api_key="t", model_name="m", stop=["x"]).model_name == "m"
    with pytest.raises(ValueError, match="they are the same setting"):
        House(api_key="t", model="m", model_name="n")


# --- names of other packages ------------------------------------------------------------

# What users of ChatOpenAI, ChatGroq, ChatLiteLLM, ChatOllama and the OpenAI SDK write.
ANSWERS = {
    # the address, the token, the connection
    "api_base": "`base_url`",
    "openai_api_base": "`base_url`",
    "groq_api_base": "`base_url`",
    "endpoint": "`base_url`",
    "token": "`service_token`",
    "openai_api_key": "`service_token`",
    "groq_api_key": "`service_token`",
    "together_ai_api_key": "`service_token`",
    "openai_proxy": "HTTPS_PROXY",
    "groq_proxy": "HTTPS_PROXY",
    "proxy": "HTTPS_PROXY",
    "client": "`http_client`",
    "async_client": "`http_async_client`",
    "root_client": "`http_client`",
    "http_socket_options": "`http_client`",
    "verify": "`http_client`",
    "headers": "`default_headers`",
    "extra_headers": "`default_headers`",
    "extra_query": "`default_query`",
    "retries": "`max_retries`",
    "max_retry": "`max_retries`",
    "num_retries": "`max_retries`",
    "organization": "none",
    "openai_organization": "none",
    "project": "none",
    "custom_llm_provider": "only serves Nscale",
    "deployment_name": "`model`",
    "callback_manager": "`callbacks`",
    # the request
    "max_new_tokens": "`max_tokens`",
    "num_predict": "`max_tokens`",
    "stop_token": "`stop`",
    "stream": "`streaming`",
    "stream_options": "`stream_usage`",
    "messages": "`invoke`",
    "system_prompt": "SystemMessage",
    "tools": "`bind_tools`",
    "tool_choice": "`bind_tools`",
    "parallel_tool_calls": "`bind_tools`",
    "functions": "`bind_tools`",
    "response_format": "`with_structured_output`",
    "json_mode": "`with_structured_output`",
    "reasoning": "`reasoning_effort`",
    "thinking": "`reasoning_effort`",
    "reasoning_format": "always separate",
    "tiktoken_model_name": "`tokenizer`",
    "use_responses_api": "Chat Completions",
    "truncation": "Chat Completions",
    "include": "Chat Completions",
    "service_tier": "no such field",
    "store": "no such field",
    "verbosity": "no such field",
    "disabled_params": "leave it out",
    "top_k": "`extra_body`",
    "num_ctx": "length of the context",
}
EMBEDDINGS_ANSWERS = {
    "model_name": "`model`",
    "openai_api_key": "`service_token`",
    "deployment": "`model`",
    "batch_size": "`chunk_size`",
    "max_workers": "`max_concurrency`",
    "check_embedding_ctx_length": "text splitter",
    "skip_empty": "`empty_text`",
    "query_prefix": "`query_instruction`",
    "model_kwargs": "`extra_body`",
    "organization": "none",
}


@pytest.mark.parametrize(("name", "answer"), ANSWERS.items(), ids=ANSWERS)
def test_names_of_other_packages_have_an_answer(name: str, answer: str) -> None:
    with pytest.raises(ValueError, match=f"no setting `{name}`: .*{answer}") as error:
        make(**{name: "x"})
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "answer"), EMBEDDINGS_ANSWERS.items(), ids=EMBEDDINGS_ANSWERS
)
def test_so_have_those_of_embeddings(name: str, answer: str) -> None:
    with pytest.raises(ValueError, match=f"no setting `{name}`: .*{answer}"):
        make(NscaleEmbeddings, **{name: "x"})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("topP", "top_p"),
        ("apiKey", "api_key"),
        ("baseURL", "base_url"),
        ("base-url", "base_url"),
        ("stop_sequence", "stop_sequences"),
        ("logprob", "logprobs"),
        ("time_out", "timeout"),
        ("seeds", "seed"),
        ("default_header", "default_headers"),
        ("presense_penalty", "presence_penalty"),
        ("tag", "tags"),
    ],
)
def test_a_slip_has_a_suggestion(typed: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"Did you mean `{meant}`"):
        make(**{typed: 1})


@pytest.mark.parametrize(
    "name", ["x", "top_a", "stem", "weed", "names_of_tools", "steam", "budget", "min_k"]
)
def test_another_word_has_none(name: str) -> None:
    with pytest.raises(ValueError, match=f"no setting `{name}`") as error:
        make(**{name: 1})
    assert "Did you mean" not in str(error.value)
    assert "`extra_body`" in str(error.value)


@given(name=st.text(max_size=30))
def test_any_name_is_rejected_in_our_words(name: str) -> None:
    with pytest.raises(ValueError, match="has no setting"):
        ChatNscale.model_validate(
            {"model": "m", "service_token": "t", f"?{name}": httpx2.URL("https://x")}
        )
