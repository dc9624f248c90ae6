"""Builds the JSON body of a chat request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_nscale._model_facts import system_first
from langchain_nscale._requests.messages import (
    ReasoningHistory,
    convert_messages,
    merge_system_messages,
)
from langchain_nscale._requests.tools import response_format

ONE_STREAM = (
    "`n` must be 1 when streaming: LangChain merges a stream into one message. Use "
    "`invoke`, or `disable_streaming=True`."
)


@dataclass(frozen=True)
class BodySettings:
    """The settings of a model that shape its requests.

    Attributes:
        parameters: Request fields that the model sets, `model` included.
        model_kwargs: Further request fields.
        extra_body: Further request fields, which nothing overrides.
        stop: The model's own stop sequences.
        stream_usage: Whether to request usage at the end of streams.
        reasoning_history: Which assistant turns are sent with their reasoning.
        merge_system_messages: Whether to send all system messages as one, at the
            beginning; `None` to decide by the model.
    """

    parameters: Mapping[str, Any]
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] | None = None
    stop: str | Sequence[str] | None = None
    stream_usage: bool = True
    reasoning_history: ReasoningHistory = "never"
    merge_system_messages: bool | None = None


def request_body(
    settings: BodySettings,
    messages: Sequence[BaseMessage],
    call: Mapping[str, Any],
    *,
    stop: str | Sequence[str] | None = None,
    stream: bool = False,
) -> dict[str, Any]:
    """Build the body of a chat request.

    The order of precedence, from lowest to highest, is: the model's parameters, its
    `model_kwargs`, the arguments of the call (`None` removes a field), the model's
    `extra_body`, the call's `extra_body`, and `stream`. Stop sequences are combined
    instead, and so are `stream_options`, which the call's `stream_usage` and then the
    model's complete. `max_completion_tokens` replaces `max_tokens`.

    Args:
        settings: The model's settings.
        messages: The conversation.
        call: The keyword arguments of the call. They are not modified.
        stop: The `stop` argument of the call.
        stream: Whether the reply is streamed.

    Raises:
        ValueError: A message can't be sent, `model` is `None`, or `n` is above 1 in a
            request for a stream.
    """
    fields = {**settings.parameters, **settings.model_kwargs, **call}
    stream_options = _stream_options(settings, call)
    for name in ("stream", "stream_options", "stream_usage", "extra_body"):
        fields.pop(name, None)
    if fields.get("model") is None:
        msg = "`model` is None: pass the ID of a model, or omit the argument."
        raise ValueError(msg)
    fields = {name: value for name, value in fields.items() if value is not None}
    stops = merge_stop(
        settings.stop, settings.model_kwargs.get("stop"), call.get("stop"), stop
    )
    if stops:
        fields["stop"] = stops
    if "max_completion_tokens" in fields:
        fields.pop("max_tokens", None)
    if schema := fields.get("response_format"):
        fields["response_format"] = response_format(schema)
    body = {
        "messages": _messages(settings, messages, fields["model"]),
        **fields,
        **(settings.extra_body or {}),
        **(call.get("extra_body") or {}),
    }
    if stream:
        if (body.get("n") or 1) > 1:
            raise ValueError(ONE_STREAM)
        body["stream"] = True
        if stream_options:
            body["stream_options"] = stream_options
    return body


def _stream_options(settings: BodySettings, call: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        **(settings.model_kwargs.get("stream_options") or {}),
        **(call.get("stream_options") or {}),
    }
    usage = call.get("stream_usage")
    if settings.stream_usage if usage is None else usage:
        options.setdefault("include_usage", True)
    return options


def _messages(
    settings: BodySettings, messages: Sequence[BaseMessage], model: str
) -> list[dict[str, Any]]:
    converted = convert_messages(messages, reasoning_history=settings.reasoning_history)
    merge = settings.merge_system_messages
    if system_first(model) if merge is None else merge:
        converted = merge_system_messages(converted)
    return converted


def merge_stop(*sources: str | Iterable[str] | None) -> list[str] | None:
    """Combine stop sequences without duplicates; return `None` if there are none."""
    merged: dict[str, None] = {}
    for source in sources:
        for sequence in [source] if isinstance(source, str) else source or []:
            merged[sequence] = None
    return list(merged) or None
