"""Rejects what the chat templates of Nscale's models reject, in their words.

Where a model can be served in several ways, with its template or with mistral-common, it
rejects what one of them rejects. What a template only leaves out is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from langchain_nscale.templates import family_of

Messages = Sequence[Mapping[str, Any]]

_NINE = re.compile(r"[a-zA-Z0-9]{9}")


def template_problems(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why the model's template rejects a request, in its words."""
    family = family_of(body["model"])
    checks = _CHECKS.get(family.name, ()) if family else ()
    messages: Messages = body["messages"]
    for check in checks:
        yield from check(messages, body)


def _calls(message: Mapping[str, Any]) -> Sequence[Any]:
    return message.get("tool_calls") or ()


def _rest(messages: Messages) -> Messages:
    """Return the messages after a system message at the beginning."""
    return messages[messages[0]["role"] == "system" :]


def _single_calls(messages: Messages, _body: object) -> Iterator[str]:
    if any(len(_calls(message)) > 1 for message in messages):
        yield "This model only supports single tool-calls at once!"


def _user_for_tools(messages: Messages, body: Mapping[str, Any]) -> Iterator[str]:
    if body.get("tools") and not _rest(messages):
        yield (
            "Cannot put tools in the first user message when there's no first user "
            "message!"
        )


def _system_first(messages: Messages, _body: object) -> Iterator[str]:
    if any(message["role"] == "system" for message in messages[1:]):
        yield "System message must be at the beginning."


def _some_user(messages: Messages, _body: object) -> Iterator[str]:
    if not any(message["role"] == "user" for message in messages):
        yield "No user query found in messages."


def _alternation(messages: Messages, _body: object) -> Iterator[str]:
    roles = [m["role"] for m in _rest(messages) if m["role"] != "tool" and not _calls(m)]
    expected = ["user", "assistant"] * len(roles)
    if roles != expected[: len(roles)]:
        yield (
            "After the optional system message, conversation roles must alternate "
            "user/assistant/user/assistant/..."
        )


def _short_ids(messages: Messages, _body: object) -> Iterator[str]:
    ids = [call.get("id") for message in messages for call in _calls(message)]
    ids += [m.get("tool_call_id") for m in messages if m["role"] == "tool"]
    if not all(_NINE.fullmatch(str(call_id)) for call_id in ids):
        yield "Tool call IDs should be alphanumeric strings with length 9!"


def _mistral_common(messages: Messages, body: Mapping[str, Any]) -> Iterator[str]:
    for message in messages:
        is_assistant = message["role"] == "assistant"
        if is_assistant and bool(message.get("content")) == bool(_calls(message)):
            yield "Assistant message must have either content or tool_calls."
    for first, second in pairwise(messages):
        roles = (first["role"], second["role"])
        if roles == ("assistant", "assistant") and not _calls(first) and _calls(second):
            yield "Tool calls and content cannot be used together in the same message."
    is_continued = body.get("continue_final_message")
    if messages[-1]["role"] == "assistant" and not is_continued:
        yield (
            "Cannot set `add_generation_prompt` to True when the last message is from "
            "the assistant. Consider using `continue_final_message` instead."
        )


_Check = Callable[[Messages, Mapping[str, Any]], Iterator[str]]
_LLAMA: tuple[_Check, ...] = (_single_calls, _user_for_tools)
_MISTRAL: tuple[_Check, ...] = (_alternation, _short_ids, _mistral_common)
_CHECKS: dict[str, tuple[_Check, ...]] = {
    "Llama 3.1, 3.2, 3.3": _LLAMA,
    "Llama 4": _LLAMA,
    "Mistral Nemo, Mixtral": _MISTRAL,
    "other Mistral models": _MISTRAL,
    "Qwen3.5": (_system_first, _some_user),
}
