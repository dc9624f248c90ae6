"""Conversions between ChatNscale and langchain-openai's ChatOpenAI."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from langchain_nscale import ChatNscale, TemplateRules
from langchain_nscale.openai import as_openai, from_openai

SETTINGS: dict[str, Any] = {
    "model": "m",
    "service_token": "s3cret",
    "base_url": "https://x/v1",
    "timeout": 3,
    "max_retries": 5,
    "default_headers": {"X-A": "1"},
    "default_query": {"q": "1"},
    "temperature": 0.5,
    "max_tokens": 9,
    "stop": ["x"],
    "seed": 1,
    "model_kwargs": {"user": "u"},
    "extra_body": {"top_k": 1},
    "stream_chunk_timeout": 7.0,
    "tags": ["t"],
    "metadata": {"a": 1},
}


def test_there_and_back() -> None:
    # The SDK only accepts clients of its own library, httpx or httpx2.
    client = openai.DefaultHttpxClient()
    model = ChatNscale(**SETTINGS, http_client=client)
    converted = as_openai(model)
    assert type(converted) is ChatOpenAI
    assert converted.openai_api_base == "https://x/v1"
    assert converted.http_client is client
    assert isinstance(converted.openai_api_key, SecretStr)
    assert converted.openai_api_key.get_secret_value() == "s3cret"
    assert converted.stream_chunk_timeout == 7
    assert (
        as_openai(
            model.model_copy(update={"stream_chunk_timeout": None})
        ).stream_chunk_timeout
        is None
    )
    back = from_openai(converted)
    assert {**dict(back), "metadata": None} == {**dict(model), "metadata": None}
    assert back.metadata is not None
    assert back.metadata["a"] == 1


def test_no_variable_of_openai_changes_the_conversion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("API_KEY", "ORG_ID", "ORGANIZATION", "PROJECT_ID", "BASE_URL", "PROXY"):
        monkeypatch.setenv(f"OPENAI_{name}", "https://evil.example")
    monkeypatch.setenv("LANGCHAIN_OPENAI_STREAM_CHUNK_TIMEOUT_S", "1")
    converted = as_openai(ChatNscale(**SETTINGS))
    assert "evil" not in repr(converted)
    client = converted.root_client
    assert (client.organization, client.project) == (None, None)
    assert str(client.base_url) == "https://x/v1/"
    assert "OpenAI-Organization" not in {
        name for name, value in client.default_headers.items() if isinstance(value, str)
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reasoning_history", "always"),
        ("template_rules", TemplateRules()),
        ("think_tags", "both"),
        ("tokenizer", type("T", (), {"encode": lambda *_, **__: []})()),
    ],
)
def test_what_chat_openai_lacks_is_named(name: str, value: Any) -> None:
    model = ChatNscale(**{**SETTINGS, name: value})
    with pytest.raises(ValueError, match=f"`{name}`"):
        as_openai(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("organization", "o"),
        ("use_responses_api", True),
        ("service_tier", "flex"),
        ("reasoning", {"effort": "low"}),
        ("disabled_params", {"temperature": None}),
    ],
)
def test_what_chat_nscale_lacks_is_named(name: str, value: Any) -> None:
    settings: dict[str, Any] = {"api_key": "t", "base_url": "https://x/v1", name: value}
    other = ChatOpenAI(model="m", **settings)
    field = "openai_organization" if name == "organization" else name
    with pytest.raises(ValueError, match=f"`{field}`"):
        from_openai(other)


def test_a_key_of_openai_is_not_sent_to_nscale() -> None:
    other = ChatOpenAI(model="gpt-4o", api_key=SecretStr("sk"))
    with pytest.raises(ValueError, match="`base_url`"):
        from_openai(other)
