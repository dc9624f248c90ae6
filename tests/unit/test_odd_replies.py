"""Odd replies: read where their meaning is clear, otherwise one typed error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from langchain_nscale._replies.reader import chat_result
from langchain_nscale._replies.reply import ReplyOptions
from langchain_nscale.errors import (
    NscaleError,
    NscaleMalformedResponseError,
    NscaleStreamError,
)
from tests.unit.replies import (
    DONE,
    FINISH,
    chunk,
    event,
    invoked,
    read,
    response,
    streamed,
)


def whole(message: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "model": "m", "choices": [choice], **more}


# --- whole replies ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ([{"type": "text", "text": "a"}, "b"], "ab", None),
        ([{"type": "thinking", "thinking": "why"}, "a"], "a", "why"),
        ([{"type": "thinking", "thinking": [{"text": "w"}, {"text": "hy"}]}], "", "why"),
        ([{"type": "reasoning", "reasoning": "why"}], "", "why"),
        ([{"type": "other", "x": 1}], '{"type": "other", "x": 1}', None),
        ([{"type": "thinking", "thinking": ["w", "hy"]}], "", "why"),
    ],
)
def test_parts_of_content(content: Any, text: str, reasoning: str | None) -> None:
    message = invoked(whole({"content": content}))
    assert message.text == text
    assert message.additional_kwargs.get("reasoning_content") == reasoning


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (5, "a choice's message is not an object"),
        ({"content": 5}, "`content` is neither a string nor a list"),
        ({"content": [{"type": "text", "text": 5}]}, "`content` is not a string"),
        (
            {"content": [{"type": "thinking", "thinking": [5]}]},
            "`content` is not a string",
        ),
        ({"reasoning": 5}, "`reasoning` is not a string"),
        ({"refusal": [1]}, "`refusal` is not a string"),
        ({"tool_calls": 5}, "tool_calls"),
    ],
)
def test_messages_of_the_wrong_form(message: Any, problem: str) -> None:
    with pytest.raises(NscaleMalformedResponseError, match=problem):
        invoked(whole(message))
    with pytest.raises(NscaleMalformedResponseError, match=problem):
        read([chunk(message) if isinstance(message, dict) else chunk_of(message)])


def chunk_of(delta: Any) -> bytes:
    return event({"id": "c", "choices": [{"index": 0, "delta": delta}]})


@pytest.mark.parametrize("logprobs", [5, [], {"content": None}, {}])
def test_log_probabilities_of_another_form_are_left_out(logprobs: Any) -> None:
    reply = whole({"content": "a"})
    reply["choices"][0]["logprobs"] = logprobs
    assert "logprobs" not in invoked(reply).response_metadata


def test_log_probabilities_without_text_are_kept() -> None:
    pieces = [chunk({"content": "a"}), chunk({}, logprobs={"content": [{"token": "b"}]})]
    metadata = streamed(*pieces, FINISH, DONE).response_metadata
    assert metadata["logprobs"] == {"content": [{"token": "b"}]}


def test_metadata_that_is_nested_too_deeply_is_left_out() -> None:
    body = b'{"choices": [{"message": {"content": "a"}}], "deep": %s}'
    deep = b"[" * 900 + b"]" * 900
    result = chat_result(response(body % deep))
    message = result.generations[0].message
    assert message.text == "a"
    assert message.response_metadata["deep"] is not None
    json.dumps(message.response_metadata)


# --- halves of an emoji -----------------------------------------------------------------


@pytest.mark.parametrize("field", ["content", "reasoning", "refusal"])
def test_half_an_emoji_at_the_end_is_replaced(field: str) -> None:
    message = streamed(chunk({field: "a\ud83d"}), FINISH, DONE)
    key = {"reasoning": "reasoning_content"}.get(field, field)
    found = message.text if field == "content" else message.additional_kwargs[key]
    assert found == "a\ufffd"


def test_half_an_emoji_at_the_end_of_arguments_is_replaced() -> None:
    call = {
        "index": 0,
        "id": "1",
        "function": {"name": "f", "arguments": '{"a": "\ud83d'},
    }
    rest = {"index": 0, "function": {"arguments": '"}'}}
    for pieces in ([call], [call, rest]):
        deltas = [chunk({"tool_calls": [piece]}) for piece in pieces]
        message = streamed(*deltas, chunk(finish_reason="tool_calls"), DONE)
        json.dumps(message.model_dump())
        assert "\ud83d" not in repr(message)


# --- streams ----------------------------------------------------------------------------


def test_a_second_choice_in_a_stream_is_an_error() -> None:
    other = event({"choices": [{"index": 1, "delta": {"content": "b"}}]})
    with pytest.raises(
        NscaleMalformedResponseError, match="more than one choice"
    ) as caught:
        read([chunk({"content": "a"}), other])
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"data: [1]\n\n", NscaleMalformedResponseError),
        (b"data: {nope\n\n", NscaleMalformedResponseError),
        (b"data: [DONE]\n\n", NscaleMalformedResponseError),
        (b"event: error\ndata: it broke\n\n", NscaleStreamError),
        (b'event: error\ndata: {"message": "it broke"}\n\n', NscaleStreamError),
        (b"error: it broke\n\n", NscaleStreamError),
        (b"<html>", NscaleMalformedResponseError),
        (b"[1, 2]", NscaleMalformedResponseError),
        (b'{"choices": []}', NscaleMalformedResponseError),
        (b'{"error": "it broke"}', NscaleStreamError),
    ],
)
def test_a_stream_of_something_else(data: bytes, kind: type[NscaleError]) -> None:
    with pytest.raises(NscaleError) as caught:
        read([data])
    assert type(caught.value) is kind
    if kind is NscaleStreamError:
        assert "it broke" in str(caught.value)


def test_an_error_next_to_choices_has_what_was_received() -> None:
    body = {**whole({"content": "half"}), "error": {"message": "it broke"}}
    with pytest.raises(NscaleStreamError, match="it broke") as caught:
        chat_result(response(json.dumps(body).encode()))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "half"
    with pytest.raises(NscaleStreamError, match="it broke"):
        read([chunk({"content": "a"}), event({"choices": [{}], "error": "it broke"})])


@pytest.mark.parametrize("tags", ["both", "closing"])
def test_think_tags_that_are_cut(tags: Any) -> None:
    text = "<think>why" if tags == "both" else "why"
    options = ReplyOptions(think_tags=tags)
    result = chat_result(response(json.dumps(whole({"content": text})).encode()), options)
    message = result.generations[0].message
    assert message.additional_kwargs.get("reasoning_content") or message.text == "why"
