"""Odd replies: read where their meaning is clear, otherwise one typed error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_nscale.errors import (
    NscaleError,
    NscaleInterruptedStreamError,
    NscaleMalformedResponseError,
    NscaleStreamError,
)
from tests.unit.answers import (
    DONE,
    FINISH,
    chunk,
    event,
    invoked,
    read,
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
        ([{"type": "other", "x": 1}, "a"], "a", None),
        ([{"type": "image_url", "image_url": {"url": "data:"}}, "a"], "a", None),
        ([{"type": "text", "text": None}, None, "a"], "a", None),
        ([{"type": "text", "text": {"value": "a"}}], "a", None),
        ([{"type": "output_text", "text": "a"}], "a", None),
        ({"type": "text", "text": "a"}, "a", None),
        ([{"text": "a"}], "a", None),
        ([{"type": "thinking", "thinking": ["w", "hy"]}], "", "why"),
    ],
)
def test_parts_of_content(content: Any, text: str, reasoning: str | None) -> None:
    message = invoked(whole({"content": content}))
    assert message.text == text
    assert message.additional_kwargs.get("reasoning_content") == reasoning


def test_parts_without_text_are_kept_in_the_metadata() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    message = invoked(whole({"content": [image, "a", {"type": "audio"}]}))
    assert message.response_metadata["content_parts"] == [image, {"type": "audio"}]
    refusal = invoked(whole({"content": [{"type": "refusal", "refusal": "No."}]}))
    assert (refusal.text, refusal.additional_kwargs) == ("", {"refusal": "No."})


@pytest.mark.parametrize(
    "reasoning",
    [
        {"text": "why"},
        {"content": "why"},
        {"summary": ["w", {"text": "hy"}]},
        ["why", None],
        [{"type": "encrypted", "data": "x"}, {"type": "text", "text": "why"}],
    ],
)
def test_reasoning_in_other_forms(reasoning: Any) -> None:
    for message in (
        invoked(whole({"content": "a", "reasoning": reasoning})),
        streamed(chunk({"reasoning": reasoning}), chunk({"content": "a"}), FINISH),
    ):
        assert message.text == "a"
        assert message.additional_kwargs == {"reasoning_content": "why"}


def test_forms_inside_of_forms_are_read_to_a_depth() -> None:
    reasoning: Any = "why"
    for _ in range(500):
        reasoning = [reasoning]
    with pytest.raises(NscaleMalformedResponseError, match="`reasoning`"):
        invoked(whole({"reasoning": reasoning}))


@pytest.mark.parametrize(
    "choice",
    [{"text": "Hi"}, {"message": None, "text": "Hi"}, {"delta": {}, "text": "Hi"}],
)
def test_a_choice_with_only_a_text_is_an_answer(choice: Any) -> None:
    body = {"choices": [{**choice, "finish_reason": "stop"}]}
    assert invoked(body).text == "Hi"
    assert streamed(event({"choices": [choice]}), FINISH).text == "Hi"


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
    message = invoked(body % deep)
    assert message.text == "a"
    assert message.response_metadata["deep"] is not None
    json.dumps(message.response_metadata)


def test_numbers_that_no_checkpoint_could_store() -> None:
    body = b"""{"choices": [{"message": {"content": "a", "note": 1e400}, "logprobs":
        {"content": [{"token": "a", "logprob": -Infinity, "top_logprobs": []}]}}],
        "created": 123456789012345678901234567890, "x": [NaN, -Infinity, 1.5],
        "usage": {"prompt_tokens": 123456789012345678901234567890}}"""
    message = invoked(body)
    found = json.loads(json.dumps(message.response_metadata, allow_nan=False))
    assert found["created"] == "123456789012345678901234567890"
    assert found["x"] == [None, -9999.0, 1.5]
    assert found["logprobs"]["content"][0]["logprob"] == -9999.0
    assert message.usage_metadata is None
    JsonPlusSerializer().dumps_typed(message)


def test_a_field_that_is_repeated_in_each_delta_is_no_text_in_pieces() -> None:
    deltas = [chunk({"content": c, "provider": "X", "tags": ["a"]}) for c in "abc"]
    metadata = streamed(*deltas, FINISH).response_metadata
    assert (metadata["provider"], metadata["tags"]) == ("X", ["a"])


def test_the_requests_model_is_named_where_the_reply_names_none() -> None:
    body = {"choices": [{"message": {"content": "a"}}]}
    metadata = invoked(body, model="asked").response_metadata
    assert metadata["model_name"] == "asked"
    named = invoked({**body, "model": "m"}, model="asked").response_metadata
    assert named["model_name"] == "m"


@pytest.mark.parametrize(
    ("usage", "cached", "reasoning"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4}, "reasoning_tokens": 2}, 4, 2),
        ({"cached_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}}, 4, 2),
        ({"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}, 4, None),
        ({"cache_read_input_tokens": 4, "prompt_tokens_details": None}, 4, None),
        ({"prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 4}, 0, None),
    ],
)
def test_where_servers_report_cached_and_reasoning_tokens(
    usage: Any, cached: int, reasoning: int | None
) -> None:
    totals = {"prompt_tokens": 9, "completion_tokens": 5}
    found = invoked(whole({"content": "a"}, usage={**totals, **usage})).usage_metadata
    assert found is not None
    assert found["input_token_details"].get("cache_read") == cached
    assert found["output_token_details"].get("reasoning") == reasoning


def test_usage_within_a_choice() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5}
    end = chunk(finish_reason="stop", usage=usage)
    message = streamed(chunk({"content": "a"}), end)
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 14


# --- bodies -----------------------------------------------------------------------------

HELLO = json.dumps(whole({"content": "Hello"})).encode()


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/plain", ""])
@pytest.mark.parametrize(
    "body",
    [
        HELLO,
        b"\xef\xbb\xbf" + HELLO,
        HELLO + b"\n\ndata: [DONE]\n\n",
        HELLO + b"[DONE]",
        json.dumps(json.loads(HELLO), indent=1).encode() + b"\ndata: [DONE]\n",
    ],
)
def test_the_body_is_believed_over_its_content_type(
    body: bytes, content_type: str
) -> None:
    assert invoked(body, kind=content_type).text == "Hello"
    assert streamed(body).text == "Hello"


@pytest.mark.parametrize(
    "lines",
    [
        [b"data: data: %s"],
        [b"data: %s,"],
        [b"data: chunk %s"],
        [b"Data: %s"],
        [b"message: %s"],
        [b" %s"],
    ],
)
def test_an_event_with_choices_is_read_whatever_surrounds_it(lines: list[bytes]) -> None:
    inner = chunk({"content": "b"}).removeprefix(b"data: ").strip()
    odd = b"".join(line % inner + b"\n\n" for line in lines)
    assert streamed(chunk({"content": "a"}), odd, FINISH, DONE).text == "ab"


def test_an_event_that_is_encoded_twice_is_read() -> None:
    inner = chunk({"content": "b"}).removeprefix(b"data: ").strip().decode()
    assert streamed(chunk({"content": "a"}), event(inner), FINISH, DONE).text == "ab"


@pytest.mark.parametrize(
    "odd",
    [
        b'data: x"choices"\n\n',
        b'data: "choices": [{"delta": {"content": "b"}}]\n\n',
        b'"choices": [{"delta": {"content": "b"}}]\n\n',
        b'data: {"choices": [{"delta": {"content": "b"\n\n',
    ],
)
def test_an_event_with_choices_that_cannot_be_read_is_not_skipped(odd: bytes) -> None:
    with pytest.raises(NscaleMalformedResponseError) as caught:
        streamed(chunk({"content": "a"}), odd, FINISH, DONE)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"


@pytest.mark.parametrize(
    "fields",
    [
        {"native_finish_reason": "abort"},
        {"provider_specific_fields": {"native_finish_reason": "abort"}},
    ],
    ids=["OpenRouter", "LiteLLM"],
)
def test_a_reply_given_up_behind_a_gateway_is_no_success(fields: Any) -> None:
    body = whole({"content": "Half"})
    body["choices"][0].update(fields)
    with pytest.raises(NscaleInterruptedStreamError, match="gave up"):
        invoked(body)
    with pytest.raises(NscaleInterruptedStreamError, match="gave up"):
        streamed(chunk({"content": "Half"}), chunk(finish_reason="stop", **fields))


def test_an_error_in_a_stream_has_no_success_as_its_status() -> None:
    for error, status in (({"message": "x"}, None), ({"message": "x", "code": 503}, 503)):
        with pytest.raises(NscaleError) as caught:
            streamed(chunk({"content": "a"}), event({"error": error}))
        assert caught.value.status_code == status


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no"}},
        {"error": ["no"]},
        {"detail": "no"},
        {"message": "no"},
    ],
)
def test_an_error_object_in_place_of_a_stream_is_reported(body: Any) -> None:
    with pytest.raises(NscaleError, match=r"then reported an error: .*no") as caught:
        streamed(json.dumps(body).encode())
    assert caught.value.body == body


def test_only_blank_lines_before_the_answer_are_left_out() -> None:
    thought, answer = chunk({"reasoning": "hm"}), chunk({"content": "\n\na"})
    message = streamed(thought, answer, answer, thought, answer, FINISH, DONE)
    assert message.text == "a\n\na\n\na"
    assert streamed(answer, FINISH, DONE).text == "\n\na"


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
        invoked(body)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "half"
    with pytest.raises(NscaleStreamError, match="it broke"):
        read([chunk({"content": "a"}), event({"choices": [{}], "error": "it broke"})])


@pytest.mark.parametrize("tags", ["both", "closing"])
def test_think_tags_that_are_cut(tags: Any) -> None:
    text = "<think>why" if tags == "both" else "why"
    message = invoked(whole({"content": text}), think_tags=tags)
    assert message.additional_kwargs.get("reasoning_content") or message.text == "why"
