"""Replies in words where `tool_choice` demands a tool call: one error, paid once."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from langchain_nscale import (
    ChatNscale,
    NscaleMissingToolCallError,
    get_nscale_usage_callback,
)

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "Joke", "arguments": '{"setup": "a cat"}'},
}
BROKEN = {"id": "1", "type": "function", "function": {"name": "Joke", "arguments": "{"}}
WORDS = {"content": "Why did the cat…"}


class Joke(BaseModel):
    """A joke."""

    setup: str


class Service:
    """Answers with these messages, whole or streamed."""

    def __init__(self, *messages: dict[str, Any], finish: str = "stop") -> None:
        self.messages = messages
        self.finish = finish
        self.requests: list[dict[str, Any]] = []
        transport = httpx2.MockTransport(self.respond)
        self.model = ChatNscale(
            model="m",
            base_url="https://x.test/v1",
            service_token="t",
            http_client=httpx2.Client(transport=transport),
            http_async_client=httpx2.AsyncClient(transport=transport),
        )

    def respond(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.requests.append(body)
        if body.get("stream"):
            (message,) = self.messages
            calls = [{"index": 0, **call} for call in message.get("tool_calls", [])]
            delta = {**message, **({"tool_calls": calls} if calls else {})}
            events = [
                {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]},
                {"choices": [], "usage": USAGE},
            ]
            lines = "".join(f"data: {json.dumps(e)}\n\n" for e in events)
            return httpx2.Response(200, text=f"{lines}data: [DONE]\n\n")
        choices = [
            {"index": n, "message": message, "finish_reason": self.finish}
            for n, message in enumerate(self.messages)
        ]
        return httpx2.Response(200, json={"choices": choices, "usage": USAGE})


async def call(model: Any, way: str) -> Any:
    if way == "invoke":
        return model.invoke("A joke")
    if way == "ainvoke":
        return await model.ainvoke("A joke")
    if way == "stream":
        return list(model.stream("A joke"))
    if way == "astream":
        return [chunk async for chunk in model.astream("A joke")]
    if way == "stream_events":
        return model.stream_events("A joke", version="v3").output
    async with await model.astream_events("A joke", version="v3") as stream:
        return await stream


WAYS = pytest.mark.parametrize(
    "way", ["invoke", "ainvoke", "stream", "astream", "stream_events", "astream_events"]
)
BETA = pytest.mark.filterwarnings("ignore:.*is in beta")
CHOICES = [
    "any",
    "required",
    True,
    "Joke",
    {"type": "function", "function": {"name": "Joke"}},
]


@BETA
@WAYS
@pytest.mark.parametrize("choice", CHOICES, ids=str)
async def test_words_are_one_paid_error(way: str, choice: Any) -> None:
    service = Service(WORDS)
    model = service.model.bind_tools([Joke], tool_choice=choice)
    with (
        get_nscale_usage_callback({"m": (1, 1)}) as usage,
        pytest.raises(NscaleMissingToolCallError, match="ProviderStrategy") as caught,
    ):
        await call(model, way)
    partial = caught.value.partial
    assert isinstance(partial, AIMessage)
    assert partial.text == "Why did the cat…"
    assert partial.usage_metadata is not None
    assert partial.usage_metadata["total_tokens"] == 12
    assert partial.response_metadata["finish_reason"] == "stop"
    assert not caught.value.is_retryable
    assert len(service.requests) == 1
    assert usage.total.errors == {"NscaleMissingToolCallError": 1}
    assert (usage.total.total_tokens, usage.total.unreported) == (12, 0)
    assert usage.cost == Decimal(12) / 1_000_000


@BETA
@WAYS
@pytest.mark.parametrize(
    "message", [{"content": ""}, {"content": None, "reasoning": "Hm."}], ids=str
)
async def test_neither_words_nor_a_call(way: str, message: dict[str, Any]) -> None:
    with pytest.raises(NscaleMissingToolCallError):
        await call(Service(message).model.bind_tools([Joke], tool_choice="any"), way)


@BETA
@WAYS
@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [CALL]},
        {"content": "Here:", "tool_calls": [CALL]},
        {"tool_calls": [BROKEN]},  # the next request tells the model what was wrong
        {"refusal": "I can't."},  # middleware and parsers look for it
    ],
    ids=str,
)
async def test_what_is_returned(way: str, message: dict[str, Any]) -> None:
    service = Service({"content": None, **message})
    await call(service.model.bind_tools([Joke], tool_choice="any"), way)
    assert len(service.requests) == 1


@BETA
@WAYS
@pytest.mark.parametrize("choice", [None, False, "auto", "none"])
async def test_choices_that_demand_nothing(way: str, choice: Any) -> None:
    await call(Service(WORDS).model.bind_tools([Joke], tool_choice=choice), way)


def test_one_of_several_answers_has_a_call() -> None:
    service = Service(WORDS, {"content": None, "tool_calls": [CALL]})
    model = service.model.bind_tools([Joke], tool_choice="any", n=2)
    assert model.invoke("A joke").text == "Why did the cat…"
    with pytest.raises(NscaleMissingToolCallError):
        Service(WORDS, WORDS).model.bind_tools([Joke], tool_choice="any", n=2).invoke("A")


@WAYS
async def test_structured_output_reports_it_in_its_own_way(way: str) -> None:
    if "events" in way:
        pytest.skip("chains have no v3 events")
    service = Service(WORDS)
    chain = service.model.with_structured_output(
        Joke, method="function_calling", include_raw=True
    )
    answer = await call(chain, way)
    parts = answer if isinstance(answer, list) else [answer]
    errors = [part["parsing_error"] for part in parts if part.get("parsing_error")]
    assert "answered without calling the tool" in str(errors[0])
    assert len(service.requests) == 1


def test_an_agent_with_a_schema_asks_once() -> None:
    # It asked again and again, up to create_agent's 9,999 steps, each time paid.
    for answer_format in (Joke, ToolStrategy(Joke)):
        service = Service(WORDS)
        agent: Any = create_agent(service.model, response_format=answer_format)
        with pytest.raises(NscaleMissingToolCallError):
            agent.invoke({"messages": [("user", "A joke")]})
        assert len(service.requests) == 1


def test_the_way_out_that_the_error_names() -> None:
    service = Service({"content": '{"setup": "a cat"}'})
    agent: Any = create_agent(service.model, response_format=ProviderStrategy(Joke))
    answer = agent.invoke({"messages": [("user", "A joke")]})
    assert answer["structured_response"] == Joke(setup="a cat")
    assert len(service.requests) == 1
