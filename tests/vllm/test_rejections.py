"""What the engine rejects: the class, the advice, and whether to try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langchain_nscale import errors
from langchain_nscale.errors import NscaleError
from tests.vllm.engine import Engine, running
from tests.vllm.test_tools import TOOLS

LONG = "word " * 5000
CONFESSION = "My secret is 42. " * 300
PICTURE: Any = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
}
NONSENSE = {
    "type": "json_schema",
    "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
}
Call = Callable[[Engine], Any]
REJECTED: dict[str, tuple[Call, type[NscaleError], str]] = {
    "a wrong token": (
        lambda e: e.chat(service_token="wrong").invoke("Hi"),
        errors.NscaleAuthenticationError,
        "service_token",
    ),
    "an unknown model": (
        lambda e: e.chat(model="nope").invoke("Hi"),
        errors.NscaleModelNotFoundError,
        "nope",
    ),
    "a prompt that is too long": (
        lambda e: e.chat().invoke(LONG),
        errors.NscaleContextOverflowError,
        "Shorten the messages",
    ),
    "max_tokens above the model's length": (
        lambda e: e.chat(max_tokens=100_000).invoke("Hi"),
        errors.NscaleInvalidRequestError,
        "Lower `max_tokens`",
    ),
    "max_tokens of zero": (
        lambda e: e.chat(max_tokens=0).invoke("Hi"),
        errors.NscaleInvalidRequestError,
        "max_tokens",
    ),
    "a negative temperature": (
        lambda e: e.chat(temperature=-1).invoke("Hi"),
        errors.NscaleInvalidRequestError,
        "temperature",
    ),
    "a schema that is none": (
        lambda e: e.chat().invoke(CONFESSION, response_format=NONSENSE),
        errors.NscaleInvalidRequestError,
        "nonsense",
    ),
    "a picture": (
        lambda e: e.chat().invoke([HumanMessage(["What?", PICTURE])]),
        errors.NscaleInvalidRequestError,
        "multimodal",
    ),
    "an unknown reasoning_effort": (
        lambda e: e.chat(reasoning_effort="enormous").invoke(CONFESSION),
        errors.NscaleInvalidRequestError,
        "reasoning_effort",
    ),
    "a path without /v1": (
        lambda e: e.chat(base_url=e.base_url.removesuffix("/v1")).invoke("Hi"),
        errors.NscaleModelNotFoundError,
        "This path does not exist",
    ),
}


@pytest.mark.parametrize(("call", "kind", "text"), REJECTED.values(), ids=REJECTED)
def test_a_request_is_rejected(
    engine: Engine, call: Call, kind: type[NscaleError], text: str
) -> None:
    with pytest.raises(NscaleError) as caught:
        call(engine)
    error = caught.value
    assert type(error) is kind
    assert text in str(error)
    assert len(str(error)) < 1_000
    assert "secret" not in str(error)
    assert "vllm/" not in str(error)
    assert not error.is_retryable


def test_a_request_after_a_rejected_one(engine: Engine) -> None:
    """The server closes the connection without saying so."""
    chat = engine.chat(max_tokens=2)
    for _ in range(30):
        with pytest.raises(NscaleError):
            chat.invoke("Hi", extra_body={"structured_outputs": {"regex": "((["}})
        assert chat.invoke("Hi").text


@pytest.mark.parametrize("choice", [None, "any"])
def test_a_model_without_a_parser_for_tools(choice: str | None) -> None:
    with running() as engine:
        model = engine.chat().bind_tools(TOOLS, tool_choice=choice)
        with pytest.raises(
            errors.NscaleInvalidRequestError, match="Choose another model"
        ):
            model.invoke("What is the weather in Paris?")
