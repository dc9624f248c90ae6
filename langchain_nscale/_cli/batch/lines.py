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

_OVERRIDES = {
    "model",
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "seed",
    "reasoning_effort",
    "extra_body",
}
_COPIED = ("id", "custom_id", "metadata")  # from a line to its result
_OPENAI_FIELDS = {"custom_id", "method", "url", "body"}
_OPENAI_URL = "/v1/chat/completions"
_FIELDS = {"prompt", "messages", "system", "id", "metadata"} | _OVERRIDES
# What the record of a reply has under other names, or not at all.
_ELSEWHERE = {
    "created",
    "finish_reason",
    "id",
    "logprobs",
    "model_name",
    "model_provider",
    "object",
    "request_id",
    "retries",
    "token_usage",
}
# In lines copied from a file of failed lines.
_RESULT_FIELDS = {
    "line",
    "input_hash",
    "settings_hash",
    "error",
    "usage",
    "earlier_attempts",
}


def read_line(line: Any, system: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Return the messages and settings of a line.

    Raises:
        ValueError: The line does not have the form that `batch` accepts.
    """
    if isinstance(line, str):
        line = {"prompt": line}
    if not isinstance(line, dict):
        msg = "the line is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
    if "body" in line:
        return _read_openai_line(line, system)
    if unknown := line.keys() - _FIELDS - _RESULT_FIELDS:
        msg = f"unknown field {min(unknown)!r}; your own data belongs in `metadata`"
        raise ValueError(msg)
    if ("prompt" in line) == ("messages" in line):
        msg = "the line needs either `prompt` or `messages`"
        raise ValueError(msg)
    messages: list[BaseMessage]
    if "messages" in line:
        messages = _messages(line["messages"])
    else:
        messages = [HumanMessage(_content(line["prompt"], "prompt"))]
    if system := line.get("system", system):
        messages.insert(0, SystemMessage(_content(system, "system")))
    return messages, {key: line[key] for key in _OVERRIDES if key in line}


def _read_openai_line(
    line: dict[str, Any], system: str | None
) -> tuple[list[Any], dict[str, Any]]:
    """Read a line of OpenAI's batch format: `custom_id`, `method`, `url` and `body`."""
    body = line["body"]
    if unknown := line.keys() - _OPENAI_FIELDS - _RESULT_FIELDS:
        msg = f"unknown field {min(unknown)!r}"
        raise ValueError(msg)
    if not str(line.get("url") or _OPENAI_URL).endswith(_OPENAI_URL):
        msg = f"`url` is {line['url']!r}, but only {_OPENAI_URL} is supported"
        raise ValueError(msg)
    if not isinstance(body, dict) or "messages" not in body:
        msg = "`body` is not an object with `messages`"
        raise ValueError(msg)
    messages = _messages(body["messages"])
    if system and not any(isinstance(each, SystemMessage) for each in messages):
        messages.insert(0, SystemMessage(system))
    fields = {
        key: value
        for key, value in body.items()
        if key not in ("messages", "stream", "stream_options") and value is not None
    }
    settings = {key: fields.pop(key) for key in _OVERRIDES if key in fields}
    extra = settings.get("extra_body", {})
    if fields and isinstance(extra, dict):
        settings["extra_body"] = {**fields, **extra}
    return messages, settings


def _messages(value: Any) -> list[BaseMessage]:
    if not isinstance(value, list):
        msg = "`messages` is not a list"
        raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
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
    if not isinstance(value, str) and not is_list:
        msg = f"`{field}` is neither a text nor a list of content blocks"
        raise ValueError(msg)
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
    rest = {key: value for key, value in metadata.items() if key not in _ELSEWHERE}
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
