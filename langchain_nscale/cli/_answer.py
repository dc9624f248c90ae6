"""An answer: asked for, shown while it arrives, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_nscale import ChatNscale, NscaleError
from langchain_nscale.cli import what_is_wrong
from langchain_nscale.cli._display import Display


@dataclass
class Answer:
    """An answer, whole or as far as it came."""

    model: str
    text: str = ""
    reasoning: str = ""
    parsed: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    first_token: float | None = None
    seconds: float = 0.0
    interrupted: bool = False

    def message(self) -> AIMessage:
        """The answer as a turn of the conversation."""
        return AIMessage(self.text)

    def stats(self, model: ChatNscale) -> dict[str, Any]:
        """Use, times (seconds) and cost (US dollars, `None` if it isn't known)."""
        usage = self.usage or {}
        given, made = usage.get("input_tokens"), usage.get("output_tokens")
        writing = self.seconds - (self.first_token or 0.0)
        speed = made / writing if made and writing > 0 else None
        return {
            "model": self.model,
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": usage.get("total_tokens"),
            "time_to_first_token": _rounded(self.first_token),
            "total_time": _rounded(self.seconds),
            "tokens_per_second": _rounded(speed),
            "cost": self._cost(model, given, made),
        }

    def _cost(self, model: ChatNscale, given: Any, made: Any) -> float | None:
        with suppress(NscaleError):
            for listed in model.list_models():
                if listed.id == self.model and listed.price and given is not None:
                    return float(listed.price.of(given, made))
        return None

    def as_dict(self, model: ChatNscale) -> dict[str, Any]:
        """All of it, for `--json`."""
        found = {
            "content": self.text,
            "reasoning": self.reasoning or None,
            "parsed": self.parsed,
            "finish_reason": self.metadata.get("finish_reason"),
            "request_id": self.metadata.get("request_id"),
            **self.stats(model),
        }
        return {key: value for key, value in found.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def ask(
    model: ChatNscale,
    messages: Sequence[BaseMessage],
    display: Display,
    *,
    stream: bool = True,
    schema: dict[str, Any] | None = None,
) -> Answer:
    """Get an answer and show it. Ctrl-C ends it; what has come is kept."""
    answer = Answer(model.model_name)
    began = perf_counter()
    try:
        if schema is not None:
            chain = model.with_structured_output(schema, include_raw=True)
            result = chain.invoke(list(messages))
            if result["parsing_error"] is not None:
                raise result["parsing_error"]
            answer.parsed = result["parsed"]
            _take(answer, result["raw"], began)
            answer.text = json.dumps(answer.parsed, ensure_ascii=False, indent=2)
            display.text(answer.text)
        elif stream:
            for chunk in model.stream(list(messages)):
                thought, text = _take(answer, chunk, began)
                if thought:
                    display.reasoning(thought)
                if text:
                    display.text(text)
        else:
            thought, text = _take(answer, model.invoke(list(messages)), began)
            if thought:
                display.reasoning(thought)
            display.text(text)
    except KeyboardInterrupt:
        answer.interrupted = True
    finally:
        answer.seconds = perf_counter() - began
        display.close()
    return answer


def _take(answer: Answer, message: AIMessage, began: float) -> tuple[str, str]:
    """Add a message, or the next part of one; return its reasoning and its text."""
    text = message.text
    thought = message.additional_kwargs.get("reasoning_content") or ""
    if answer.first_token is None and (text or thought):
        answer.first_token = perf_counter() - began
    answer.text += text
    answer.reasoning += thought
    answer.metadata |= message.response_metadata
    if message.usage_metadata:
        answer.usage = dict(message.usage_metadata)
    return thought, text


def error_object(error: Exception) -> dict[str, Any]:
    """An error for `--json` and for the failed lines of a batch."""
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "message": what_is_wrong(error),
    }
    if isinstance(error, NscaleError):
        for key in ("status_code", "code", "error_type", "request_id"):
            found[key] = getattr(error, key)
    return {key: value for key, value in found.items() if value is not None}
