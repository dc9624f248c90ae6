"""What ChatNscale makes of every reply that the real engine was recorded with."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from syrupy.assertion import SnapshotAssertion

from langchain_nscale import NscaleError, get_nscale_usage_callback, list_models
from tests.unit.answers import comparable, merge
from tests.unit.recordings import CHAT, Recording, recordings
from tests.unit.service import Service, chat, embeddings

ALL = recordings()
CHATS = {n: r for n, r in ALL.items() if r.path == CHAT and r.status == 200}
ERRORS = {n: r for n, r in ALL.items() if r.status >= 400}


def message_of(recording: Recording) -> AIMessage:
    """The message that `invoke`, or adding up the chunks of `stream`, returns."""
    body = recording.request if isinstance(recording.request, dict) else {}
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    known = {"max_tokens": limit} if isinstance(limit, int) else {}
    model = chat(Service(recording.response()), max_retries=0, **known)
    if not body.get("stream"):
        return model.invoke("Hi")
    return merge(list(model.stream("Hi")))


def outcome(recording: Recording) -> dict[str, Any]:
    """What a user sees of a reply, without the metadata that vLLM varies."""
    try:
        message = message_of(recording)
    except NscaleError as error:
        partial = error.partial
        return {
            "error": type(error).__name__,
            "message": str(error),
            "partial": partial and partial.text,
        }
    calls, invalid = comparable(message)["tool_calls"]
    result = {
        "text": message.text,
        "reasoning": message.additional_kwargs.get("reasoning_content"),
        "calls": [(call["name"], call["args"]) for call in calls],
        "invalid": [(name, args) for name, _, args in invalid],
        "finish_reason": message.response_metadata.get("finish_reason"),
        "usage": message.usage_metadata,
    }
    return {key: value for key, value in result.items() if value}


@pytest.mark.parametrize("name", CHATS)
def test_a_reply(name: str, snapshot: SnapshotAssertion) -> None:
    assert outcome(CHATS[name]) == snapshot


# Whole replies that vLLM words otherwise than their streams.
TWINS = {
    name: name.replace("/stream_", "/")
    for name in CHATS
    if "/stream_" in name and name.replace("/stream_", "/") in CHATS
}
DIFFERENT = {
    # Streamed, a call that `max_tokens` cuts is a name only; whole, it is text.
    *(name for name in TWINS if "_cut" in name),
    # The random model goes on until `max_tokens` in one of the two.
    "0.21.0/stream_tools_strict",
    "0.32.0/stream_tools_required",
    "0.32.0/stream_tools_strict",
    # Streamed, an unreadable call is a call; whole, it is text.
    "0.21.0/stream_tools_malformed_call",
    "0.32.0/stream_tools_malformed_call",
    # White space and text around calls depend on the parser.
    "0.21.0-parsers/glm45/stream_two",
    "0.21.0-parsers/llama3_json/stream_text_before",
    "0.32.0-parsers/qwen3_coder/stream_text_before",
    # What counts as reasoning depends on the parser.
    "0.21.0-reasoning-deepseek_r1/stream_reasoning_sent_back",
    "0.21.0-reasoning-deepseek_r1/stream_reasoning_excluded",
    "0.21.0-reasoning-qwen3/stream_reasoning_excluded",
    "0.32.0-reasoning-qwen3/stream_reasoning_budget",
}


@pytest.mark.parametrize("name", sorted(TWINS.keys() - DIFFERENT))
def test_a_streamed_reply_equals_its_whole_twin(name: str) -> None:
    streamed, whole = outcome(CHATS[name]), outcome(CHATS[TWINS[name]])
    for each in (streamed, whole):
        each.pop("usage", None)  # not requested in every stream
    if streamed != whole:
        pytest.fail(f"{streamed}\n{whole}")


CUT = [name for name in CHATS if "cut" in name and "tools" in name]


@pytest.mark.parametrize("name", CUT)
def test_a_truncated_call_is_never_executable(name: str) -> None:
    assert message_of(CHATS[name]).tool_calls == []


@pytest.mark.parametrize("name", ERRORS)
def test_an_error(name: str, snapshot: SnapshotAssertion) -> None:
    recording = ERRORS[name]
    service = Service(recording.response())
    with pytest.raises(NscaleError) as caught:
        if recording.path.endswith("/embeddings"):
            embeddings(service, max_retries=0).embed_query("Hi")
        else:
            chat(service, max_retries=0).invoke("Hi")
    error = caught.value
    assert {
        "class": type(error).__name__,
        "message": str(error),
        "retryable": error.is_retryable,
    } == snapshot
    assert len(str(error)) < 1200
    assert "/vllm/" not in str(error)


def test_vectors_and_models() -> None:
    model = embeddings(Service(ALL["0.21.0/embed_two"].response()))
    with get_nscale_usage_callback() as usage:
        assert len(model.embed_documents(["a", "b"])) == 2
    assert usage.total.input_tokens > 0
    service = Service(ALL["0.21.0/models"].response())
    assert list_models(service_token="t", http_client=service.client)[0].id
