"""A line of a batch: what it asks for, and the record of its reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)

from langchain_nscale._cli.inputs import SAMPLING

_OVERRIDES = {"model", "extra_body", *SAMPLING}
_COPIED = ("id", "custom_id", "metadata")  # from a line to its result
_OPENAI_FIELDS = {"custom_id", "method", "url", "body"}
_OPENAI_URL = "/v1/chat/completions"
_FIELDS = {"prompt", "messages", "system", "id", "metadata"} | _OVERRIDES
# What the record of a reply has under other names, and not at all.
_RENAMED = {"finish_reason", "logprobs", "model_name", "request_id", "token_usage"}
_LEFT_OUT = {"created", "id", "model_provider", "object", "retries"}
# In lines copied from a file of failed lines.
_MARKS = {"line", "input_hash", "settings_hash", "error", "usage", "earlier_attempts"}


def read_line(line: Any, system: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Return the messages and settings of a line.

    Raises:
        ValueError: The line does not have the form that `batch` accepts.
    """
    if isinstance(line, str):
        line = {"prompt": line}
    _check(isinstance(line, dict), "the line is not a JSON object")
    if is_openai := "body" in line:
        line = _own_form(line)
    _check_fields(line, _FIELDS, "; your own data belongs in `metadata`")
    is_one = ("prompt" in line) != ("messages" in line)
    _check(is_one, "the line needs either `prompt` or `messages`")
    messages: list[BaseMessage]
    if "messages" in line:
        messages = _messages(line["messages"])
    else:
        messages = [HumanMessage(_content(line["prompt"], "prompt"))]
    system = line.get("system", system)
    if system and not (is_openai and any(m.type == "system" for m in messages)):
        messages.insert(0, SystemMessage(_content(system, "system")))
    return messages, {key: line[key] for key in _OVERRIDES if key in line}


def _own_form(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line of OpenAI's batch format in ours."""
    url, body = line.get("url") or _OPENAI_URL, line["body"]
    _check_fields(line, _OPENAI_FIELDS)
    supported = str(url).endswith(_OPENAI_URL)
    _check(supported, f"`url` is {url!r}, but only {_OPENAI_URL} is supported")
    has_messages = isinstance(body, dict) and "messages" in body
    _check(has_messages, "`body` is not an object with `messages`")
    rest = {
        key: value
        for key, value in body.items()
        if key not in ("stream", "stream_options") and value is not None
    }
    own = {key: rest.pop(key) for key in ("messages", *_OVERRIDES) if key in rest}
    extra = own.get("extra_body", {})
    if rest and isinstance(extra, dict):
        own["extra_body"] = {**rest, **extra}
    return own


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _check_fields(line: dict[str, Any], known: set[str], hint: str = "") -> None:
    if unknown := line.keys() - known - _MARKS:
        msg = f"unknown field {min(unknown)!r}{hint}"
        raise ValueError(msg)


def _messages(value: Any) -> list[BaseMessage]:
    _check(isinstance(value, list), "`messages` is not a list")
    try:
        return convert_to_messages(value)
    except ValueError:
        raise
    except Exception:  # noqa: BLE001  # whatever langchain-core raises
        msg = "`messages` has an entry that is not a message"
        raise ValueError(msg) from None


def _content(value: Any, field: str) -> str | list[str | dict[Any, Any]]:
    """Return the content of a message."""
    is_list = isinstance(value, list) and all(isinstance(v, (str, dict)) for v in value)
    problem = f"`{field}` is neither a text nor a list of content blocks"
    _check(isinstance(value, str) or is_list, problem)
    content: str | list[str | dict[Any, Any]] = value
    return content


def result_record(
    line: dict[str, Any] | str, model_id: str, replies: Sequence[Any], parsed: Any
) -> dict[str, Any]:
    """Return the result of a line; it leaves out nothing that was paid for.

    Args:
        line: The line.
        model_id: ID of the requested model.
        replies: The replies: several if the line asks for them with `n`.
        parsed: The parsed reply, if there is a schema.
    """
    own = line if isinstance(line, dict) else {}
    choices = [_choice(reply) for reply in replies]
    values = {
        "model": model_id,
        **choices[0],
        "parsed": parsed,
        "choices": choices if len(choices) > 1 else None,
        "request_id": replies[0].response_metadata.get("request_id"),
        "usage": replies[0].usage_metadata,
    }
    return {
        **{key: own[key] for key in _COPIED if key in own},
        **{key: value for key, value in values.items() if value is not None},
    }


def _choice(reply: AIMessage) -> dict[str, Any]:
    metadata = reply.response_metadata
    rest = {key: metadata[key] for key in metadata if key not in _RENAMED | _LEFT_OUT}
    values = {
        "content": reply.text,
        "reasoning": reply.additional_kwargs.get("reasoning_content"),
        "refusal": reply.additional_kwargs.get("refusal"),
        "tool_calls": reply.tool_calls or None,
        "invalid_tool_calls": reply.invalid_tool_calls or None,
        "finish_reason": metadata.get("finish_reason"),
        "logprobs": metadata.get("logprobs"),
        "response_metadata": rest or None,
    }
    return {key: value for key, value in values.items() if value is not None}
