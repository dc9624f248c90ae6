"""A conversation that a chat template rejects is repeated in the strict form."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_nscale import (
    ChatNscale,
    NscaleInvalidRequestError,
    TemplateRules,
    get_nscale_usage_callback,
)
from langchain_nscale.templates import violated_rule
from tests.prompts import TemplateError, llama, nemo
from tests.unit.requests.test_fitting import TOOL, call

STREAM = (
    b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "yes"}, '
    b'"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
WHOLE = {
    "id": "c",
    "choices": [
        {"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"},
    ],
}
HISTORY = [
    SystemMessage("s"),
    HumanMessage("u"),
    AIMessage("a", tool_calls=[call("call_0", "x"), call("call_1", "y")]),
    ToolMessage("t", tool_call_id="call_0"),
    ToolMessage("v", tool_call_id="call_1"),
]


class Service:
    """Renders with a template, and answers 400 in its words."""

    def __init__(self, template: Any) -> None:
        self.template = template
        self.bodies: list[dict[str, Any]] = []
        self.sync = httpx2.Client(transport=httpx2.MockTransport(self))
        self.asynchronous = httpx2.AsyncClient(transport=httpx2.MockTransport(self))

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        try:
            self.template(body["messages"], body.get("tools") or [])
        except TemplateError as error:
            shown = {"message": str(error), "type": "BadRequestError", "code": 400}
            return httpx2.Response(400, json={"error": shown})
        if body.get("stream"):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, content=STREAM, headers=headers)
        return httpx2.Response(200, json=WHOLE)

    def model(self, **settings: Any) -> ChatNscale:
        clients = {"http_client": self.sync, "http_async_client": self.asynchronous}
        values = {
            "model": "some/model",
            "service_token": "t",
            "max_retries": 0,
            **clients,
        }
        return ChatNscale(**{**values, **settings})


def rejects_all(_messages: Any, _tools: Any) -> str:
    message = "This model only supports single tool-calls at once!"
    raise TemplateError(message)


async def ask(model: Any, way: str, history: Any = HISTORY) -> str:
    if way == "invoke":
        return str(model.invoke(history).text)
    if way == "ainvoke":
        return str((await model.ainvoke(history)).text)
    if way == "stream":
        return "".join(chunk.text for chunk in model.stream(history))
    return "".join([chunk.text async for chunk in model.astream(history)])


WAYS = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])


@WAYS
@pytest.mark.parametrize("template", [llama, nemo])
async def test_it_is_sent_once_more_and_remembered(
    way: str, template: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(template)
    model = service.model()
    bound = model.bind_tools([TOOL])
    with caplog.at_level(logging.WARNING), get_nscale_usage_callback() as usage:
        assert await ask(bound, way) == "yes"
        assert len(service.bodies) == 2
        assert usage.total.retries == 1
        assert await ask(bound, way) == "yes"
    assert len(service.bodies) == 3
    assert service.bodies[1] == service.bodies[2]
    assert len(caplog.records) == 1
    assert "some/model" in caplog.text
    other = service.model()
    assert await ask(other, way) == "yes"
    assert len(service.bodies) == 5  # each client finds out for itself
    assert model == other


@WAYS
async def test_a_second_rejection_names_the_rule_and_has_the_first_as_context(
    way: str,
) -> None:
    service = Service(rejects_all)
    model = service.model()
    with pytest.raises(NscaleInvalidRequestError) as info:
        await ask(model, way)
    assert len(service.bodies) == 2
    assert "`template_rules`" in str(info.value)
    assert "parallel_calls=False" in str(info.value)
    assert isinstance(info.value.__context__, NscaleInvalidRequestError)
    assert info.value.retries == 1
    with pytest.raises(NscaleInvalidRequestError):
        await ask(model, way)
    assert len(service.bodies) == 4  # nothing was remembered


@pytest.mark.parametrize(
    ("settings", "history"),
    [
        ({"template_rules": "as_is"}, HISTORY),
        ({"template_rules": TemplateRules()}, HISTORY),
        ({"extra_body": {"messages": [{"role": "user", "content": "u"}]}}, HISTORY),
        ({}, [HumanMessage("u")]),  # the strict form is the same
    ],
)
def test_it_is_not_repeated(settings: dict[str, Any], history: Any) -> None:
    service = Service(rejects_all)
    with pytest.raises(NscaleInvalidRequestError, match="parallel_calls=False"):
        service.model(**settings).invoke(history)
    assert len(service.bodies) == 1


@pytest.mark.parametrize(
    "message", ["temperature must be at most 2", "x" * 600 + "roles must alternate"]
)
def test_only_the_words_of_a_template_lead_to_it(message: str) -> None:
    def rejects(_messages: Any, _tools: Any) -> str:
        raise TemplateError(message)

    service = Service(rejects)
    with pytest.raises(NscaleInvalidRequestError):
        service.model().invoke(HISTORY)
    assert len(service.bodies) == 1


def test_a_request_without_tools_has_its_calls_as_text() -> None:
    service = Service(nemo)
    service.model().invoke(HISTORY)
    assert not any("tool_calls" in message for message in service.bodies[1]["messages"])


def test_many_models_are_remembered_up_to_a_limit() -> None:
    service = Service(nemo)
    model = service.model()
    for number in range(200):
        model.invoke(HISTORY, model=f"m-{number}")
    for number, requests in ((199, 1), (0, 2)):
        before = len(service.bodies)
        model.invoke(HISTORY, model=f"m-{number}")
        assert len(service.bodies) == before + requests


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("This model only supports single tool-calls at once!", "parallel_calls=False"),
        (
            "After the optional system message, conversation roles must alternate",
            "alternating=True",
        ),
        ("Conversation roles must alternate user/assistant/…", "alternating=True"),
        (
            "Tool call IDs should be alphanumeric strings with length 9!",
            "call_ids='nine'",
        ),
        (
            "Tool call id was a_0 but must be a-z, A-Z, 0-9, with a length",
            "call_ids='nine'",
        ),
        ("System message must be at the beginning.", "system='first'"),
        ("Unexpected role 'system' after role 'tool'", "system='first'"),
        ("System role not supported", "system='user'"),
        ("No user query found in messages.", "user='required'"),
        (
            "Cannot put tools in the message when there's no first user message!",
            "user='first_with_tools'",
        ),
        (
            "Assistant message must have either content or tool_calls, but not both.",
            "text_beside_calls=False",
        ),
        ("Assistant message must have a string or a list", "empty_assistant=False"),
        ("Expected last role User or Tool (or Assistant", "assistant_last=False"),
        ("Not the same number of function calls and responses", "parallel_calls=False"),
        (
            "Only user, assistant and tool roles are supported, got x.",
            "other_roles=False",
        ),
        ("Unexpected message role.", "other_roles=False"),
        ("Unexpected role 'user' after role 'tool'", "other_roles=False"),
        ("An error occurred in `transformers` while applying chat template", ""),
        ("max_tokens is too large", None),
        ("The model `x` does not exist", None),
        ("", None),
    ],
)
def test_the_rule_of_a_rejection(message: str, rule: str | None) -> None:
    assert violated_rule(message) == rule
    if rule:
        name, _, value = rule.partition("=")
        assert getattr(TemplateRules(), name) != eval(value)  # noqa: S307  # our own
