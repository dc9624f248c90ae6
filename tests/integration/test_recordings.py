"""The stand-in against vLLM: the same request gets a reply of the same form."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from langchain_nscale.testing import NscaleServer
from tests.integration.conftest import MODEL
from tests.unit.recordings import CHAT, FOLDER, Recording, read

# Requests for which the stand-in has other reasons, or no way, to answer as vLLM does.
OTHER = {
    # It has no tokenizer, grammars, token or limit of length to violate.
    *("chat_echo", "chat_prompt_logprobs", "chat_return_token_ids"),
    "stream_return_token_ids",
    *("error_bad_key", "error_no_key", "error_image", "error_logit_bias"),
    *("error_max_tokens_too_big", "error_unknown_model", "error_unknown_model_stream"),
    *("error_prompt_too_long", "error_prompt_too_long_no_max"),
    *("error_prompt_too_long_stream", "error_no_tool_parser"),
    *("error_no_tool_parser_required", "embed_chat_with_it", "json_schema_invalid"),
    *("json_schema_unsupported", "structured_bad_regex", "structured_two"),
    # It is stricter than vLLM on purpose: other versions and services reject these.
    *("error_bad_role", "error_content_missing", "error_temperature"),
    *("error_tool_message_alone", "error_tool_arguments_not_json"),
}
# Fields that Nscale leaves out, according to its recorded traffic.
LEFT_OUT = {"choices.delta.tool_calls", "system_fingerprint", "choices.token_ids"}
# What the model chooses to say: text, calls, or both.
CHOICE = ("choices.message.content", "choices.message.tool_calls", "choices.delta.")

RECORDINGS = {
    f"{version}/{path.stem}": read(path)
    for version in ("0.21.0", "0.32.0")
    for path in sorted((FOLDER / version).glob("*.txt"))
    if path.stem not in OTHER and "killed" not in path.stem
}
CHATS = {
    name: recording
    for name, recording in RECORDINGS.items()
    if recording.path == CHAT
    and isinstance(recording.request, dict)
    and recording.request.get("messages") != "..."
}


def form(value: Any, prefix: str = "") -> set[str]:
    """The names of all fields that are not null, by their path."""
    if isinstance(value, dict):
        return set().union(
            *(
                {prefix + key} | form(inner, f"{prefix}{key}.")
                for key, inner in value.items()
                if inner is not None
            )
        )
    if isinstance(value, list):
        return set().union(*(form(inner, prefix) for inner in value[:1]))
    return set()


def form_of(body: bytes) -> set[str]:
    """The form of a reply, or of all events of a stream together."""
    if body.lstrip().startswith(b"{"):
        return form(json.loads(body))
    events = [e[6:] for e in body.decode().split("\n\n") if e.startswith("data: {")]
    return set().union(*(form(json.loads(event)) for event in events))


def shown(fields: set[str]) -> set[str]:
    return {f for f in fields if f not in LEFT_OUT and not f.startswith(CHOICE)}


@pytest.mark.parametrize("recording", CHATS.values(), ids=CHATS)
def test_a_reply_has_the_form_of_vllms(
    server: NscaleServer, recording: Recording
) -> None:
    reply = httpx2.post(
        f"{server.base_url}/chat/completions",
        json={**recording.request, "model": MODEL},
        headers={"authorization": f"Bearer {server.token}"},
    )
    assert reply.status_code // 100 == recording.status // 100, reply.text
    if recording.status == 200:
        assert shown(form_of(reply.content)) == shown(form_of(recording.body))
    else:
        assert reply.json()["error"]["message"]
