"""What vLLM 0.33.0 changes, according to its source: it has no CPU build yet."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage

from langchain_nscale import ChatNscale

TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}
NEW_FIELDS = {"weight_versions": ["a", None]}


def ask(
    choice: dict[str, Any], *, streamed: bool, **options: Any
) -> tuple[AIMessage, Any]:
    """Return the message that a choice of the engine becomes, and the request."""
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        reply = {"id": "1", "object": "chat.completion", "model": "m"}
        if not streamed:
            return httpx2.Response(200, json={**reply, "choices": [choice]})
        delta = {**choice, "delta": choice["message"], "finish_reason": None}
        del delta["message"]
        end = {**NEW_FIELDS, "index": 0, "delta": {}}
        end["finish_reason"] = choice["finish_reason"]
        events = [
            {**reply, "choices": [delta]},
            {**reply, "choices": [end], "kv_transfer_params": {"block_ids": [1, 2]}},
        ]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return httpx2.Response(
            200,
            text="".join([*lines, "data: [DONE]\n\n"]),
            headers={"content-type": "text/event-stream"},
        )

    model = ChatNscale(
        model="m",
        service_token="t",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    ).bind_tools([TOOL], **options)
    if not streamed:
        return model.invoke("Hi"), sent[0]
    whole: Any = None
    for chunk in model.stream("Hi"):
        whole = chunk if whole is None else whole + chunk
    return whole, sent[0]


def choice_of(arguments: str | None, finish_reason: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "Hello."}
    if arguments is not None:
        function = {"name": "search", "arguments": arguments}
        call = {"index": 0, "id": "a", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return {**NEW_FIELDS, **choice}


STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@STREAMED
@pytest.mark.parametrize("arguments", ['{"q": "a"}', '{"q": "a', ""])
def test_a_call_that_ends_with_length_is_not_executable(
    arguments: str, streamed: bool
) -> None:
    """Whole replies said `tool_calls` before."""
    message, _ = ask(choice_of(arguments, "length"), streamed=streamed)
    assert message.tool_calls == []
    assert [call["name"] for call in message.invalid_tool_calls] == ["search"]
    assert message.response_metadata["finish_reason"] == "length"


@STREAMED
def test_a_forced_call_that_ends_with_stop_is_executable(streamed: bool) -> None:
    message, _ = ask(
        choice_of('{"q": "a"}', "stop"), streamed=streamed, tool_choice="search"
    )
    assert [call["args"] for call in message.tool_calls] == [{"q": "a"}]


@STREAMED
def test_a_tool_choice_of_none_is_left_out(streamed: bool) -> None:
    """An explicit null beside tools is no longer "auto": no call would be returned."""
    _, body = ask(choice_of("{}", "tool_calls"), streamed=streamed, tool_choice=None)
    assert body["tools"]
    assert "tool_choice" not in body


@STREAMED
def test_new_fields_change_no_answer(streamed: bool) -> None:
    message, _ = ask(choice_of(None, "stop"), streamed=streamed)
    assert message.text == "Hello."
    assert message.response_metadata["finish_reason"] == "stop"
