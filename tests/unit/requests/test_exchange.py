"""Calls that take another request: lost streams, and schemas beside tools."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from langchain_core.tools import tool

from langchain_nscale import NscaleMalformedResponseError
from tests.unit.answers import chunk, event
from tests.unit.ways import WAYS, model_for

pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
    pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys()),
    pytest.mark.usefixtures("at_once"),
]
STREAMING = ("streaming=True", "stream", "astream", "v3", "async v3", "chain")
SCHEMA = {"title": "A", "type": "object", "properties": {"n": {"type": "integer"}}}
FORM = {"type": "json_schema", "json_schema": {"name": "A", "schema": SCHEMA}}


@tool
def weather(city: str) -> str:
    """Get the weather."""
    return city


def usage(output: int) -> dict[str, int]:
    return {"prompt_tokens": 3, "completion_tokens": output, "total_tokens": 3 + output}


def whole(message: Any, finish: str = "stop", output: int = 5) -> httpx2.Response:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return httpx2.Response(200, json={"choices": [choice], "usage": usage(output)})


def lost(*deltas: Any, finish: str = "stop", output: int = 9, **end: Any) -> bytes:
    """A stream of vLLM 0.32.0 with the parser phi4_mini_json or llama3_json."""
    deltas = ({"role": "assistant", "content": ""}, *deltas)
    end_of_usage = event({"choices": [], "usage": usage(output)})
    last = chunk({}, finish_reason=finish, **end)
    return b"".join(map(chunk, deltas)) + last + end_of_usage


CALL = {"id": "a", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
ANN = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "Ann"}}]}


class Service:
    """Answers requests, and keeps their bodies."""

    def __init__(self, stream: bytes, *replies: httpx2.Response) -> None:
        self.stream = stream
        self.replies = list(replies)
        self.bodies: list[Any] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        if body.get("stream"):
            kind = {"content-type": "text/event-stream"}
            return httpx2.Response(200, content=self.stream, headers=kind)
        return self.replies.pop(0)


@pytest.mark.parametrize("stream", [lost(), lost(ANN, finish="tool_calls")])
def test_a_stream_that_lost_its_answer_is_requested_whole(
    way: Any, stream: bytes
) -> None:
    answer = {"content": '{"name": "Ann", "age": 3}'}
    service = Service(stream, whole(answer), whole(answer, output=4))
    model = model_for(service, max_retries=1).bind_tools([weather])
    message = way(model, "Hi")
    assert message.text == answer["content"]
    streamed = sum("stream" in body for body in service.bodies)
    assert streamed == (len(service.bodies) > 1)
    total = 5 + 9 * streamed
    assert message.usage_metadata["output_tokens"] == total
    assert message.response_metadata["token_usage"]["completion_tokens"] == total
    assert message.response_metadata.get("retries", 0) == streamed
    again = way(model, "Hi")  # paid once
    assert [body.get("stream") for body in service.bodies[1 + streamed :]] == [None]
    assert again.usage_metadata["output_tokens"] == 4


def test_without_retries_it_is_a_typed_error(way: Any) -> None:
    service = Service(lost(), whole({"content": None}, output=9))
    model = model_for(service).bind_tools([weather])
    with pytest.raises(NscaleMalformedResponseError, match="9 tokens"):
        way(model, "Hi")
    assert len(service.bodies) == 1


@pytest.mark.parametrize("calls", [[], None, ...])
def test_announced_calls_that_are_missing_are_an_error(way: Any, calls: Any) -> None:
    message = {"content": "", **({} if calls is ... else {"tool_calls": calls})}
    service = Service(lost(finish="tool_calls"), whole(message, "tool_calls"))
    with pytest.raises(NscaleMalformedResponseError):
        way(model_for(service).bind_tools([weather]), "Hi")


EMPTY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one token, which ends it": ({"output": 1}, {}),
    "a stop string": ({"stop_reason": "X"}, {}),
    "hidden reasoning": ({}, {"extra_body": {"include_reasoning": False}}),
    "no tools": ({}, {"tools": None}),
    "a filter": ({"finish": "content_filter"}, {}),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_answer_that_is_rightly_empty_stays_one(way: Any, name: str) -> None:
    end, call = EMPTY[name]
    end = {"output": 9, "finish": "stop", **end}
    choice = {"message": {"content": None}, "finish_reason": end["finish"]}
    choice["stop_reason"] = end.get("stop_reason")
    body = {"choices": [choice], "usage": usage(end["output"])}
    service = Service(lost(**end), httpx2.Response(200, json=body))
    model = model_for(service).bind_tools([weather]).bind(**call)
    message = way(model, "Hi")
    assert (message.text, message.tool_calls) == ("", [])
    assert len(service.bodies) == 1


# --- a schema beside tools --------------------------------------------------------------


def names_in(body: dict[str, Any]) -> set[str]:
    return body.keys() & {"tools", "response_format", "stream", "tool_choice"}


def asking(service: Service, **settings: Any) -> Any:
    model = model_for(service, **settings)
    return model.bind_tools([weather], response_format=FORM)


def test_tools_are_asked_first_and_the_schema_then(way: Any) -> None:
    prose, answer = (
        whole({"content": "No tool."}, output=7),
        whole({"content": '{"n": 1}'}),
    )
    service = Service(b"", prose, answer)
    message = way(asking(service), "Hi")
    assert message.text == '{"n": 1}'
    assert message.usage_metadata["output_tokens"] == 12
    first, second = service.bodies
    assert names_in(first) == {"tools"}
    assert first["tools"][0]["function"]["strict"] is True
    assert names_in(second) == {"response_format"}


@pytest.mark.parametrize("message", [{"tool_calls": [CALL]}, {"refusal": "No."}])
def test_a_call_or_refusal_ends_it(way: Any, message: Any) -> None:
    service = Service(b"", whole(message, "tool_calls"))
    found = way(asking(service), "Hi")
    assert len(service.bodies) == 1
    assert [call["name"] for call in found.tool_calls] == (
        ["weather"] if "tool_calls" in message else []
    )


def test_both_go_together_if_the_setting_says_so(way: Any) -> None:
    service = Service(b"", whole({"content": '{"n": 1}'}))
    assert way(asking(service, schema_with_tools="together"), "Hi").text == '{"n": 1}'
    (body,) = service.bodies
    assert names_in(body) == {"tools", "response_format"}
    assert body["tools"][0]["function"]["strict"] is True


@pytest.mark.parametrize("choice", ["none", "required"])
def test_a_choice_that_leaves_no_choice_takes_one_request(way: Any, choice: str) -> None:
    message = {"content": '{"n": 1}'} if choice == "none" else {"tool_calls": [CALL]}
    head = {"role": "assistant", **message}
    if choice == "required":
        head["tool_calls"] = [{"index": 0, **CALL}]
    stream = chunk(head) + chunk({}, finish_reason="stop")
    service = Service(stream, whole(message))
    model = model_for(service).bind_tools(
        [weather], tool_choice=choice, response_format=FORM
    )
    found = way(model, "Hi")
    assert found.text or found.tool_calls
    (body,) = service.bodies
    assert names_in(body) >= {"tools", "response_format", "tool_choice"}


def test_of_several_answers_the_first_is_the_message(way: Any) -> None:
    choices = [
        {"index": i, "message": {"content": text}, "finish_reason": "stop"}
        for i, text in enumerate("ab")
    ]
    body = {"choices": choices, "usage": usage(2)}
    service = Service(b"", httpx2.Response(200, json=body))
    assert way(model_for(service, n=2), "Hi").text == "a"
    assert service.bodies[0]["n"] == 2
