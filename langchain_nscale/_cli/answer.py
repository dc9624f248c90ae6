"""Requests an answer, shows it while it arrives, and reports its usage and cost."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_nscale import ChatNscale, NscaleUsageCallbackHandler, errors
from langchain_nscale._cli.display import Display
from langchain_nscale._cli.exits import error_text, full_error_text
from langchain_nscale._cli.inputs import ChatOptions
from langchain_nscale._cli.terminal import echo
from langchain_nscale._usage.ledger import ModelUsage


@dataclass
class Answer:
    """An answer, complete or interrupted."""

    model: str
    text: str = ""
    reasoning: str = ""
    parsed: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    usage: NscaleUsageCallbackHandler = field(
        default_factory=lambda: NscaleUsageCallbackHandler(metrics=False)
    )
    interrupted: bool = False

    def message(self) -> AIMessage:
        """Return the answer as a turn of the conversation."""
        return AIMessage(self.text)

    def add(self, message: AIMessage) -> tuple[str, str]:
        """Add a message or chunk; return its reasoning and its text."""
        reasoning = message.additional_kwargs.get("reasoning_content") or ""
        self.text += message.text
        self.reasoning += reasoning
        self.metadata |= message.response_metadata
        return reasoning, message.text

    def stats(self, model: ChatNscale) -> dict[str, Any]:
        """Return usage, times (seconds) and cost (US dollars, `None` if unknown)."""
        with suppress(errors.NscaleError):
            model.list_models()  # the handler uses the newest prices
        usage = self.usage.total
        counts = None if usage.unreported or not usage.calls else usage
        first_token = usage.mean_seconds_to_first_token
        return {
            "model": self.model,
            "prompt_tokens": counts and counts.input_tokens,
            "completion_tokens": counts and counts.output_tokens,
            "total_tokens": counts and counts.total_tokens,
            "time_to_first_token": _rounded(first_token),
            "total_time": _rounded(usage.seconds),
            "tokens_per_second": _rounded(_speed(usage)),
            "cost": None if usage.cost is None else float(usage.cost),
        }

    def as_dict(self, model: ChatNscale) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        values = {
            "content": self.text,
            "reasoning": self.reasoning or None,
            "parsed": self.parsed,
            "finish_reason": self.metadata.get("finish_reason"),
            "logprobs": self.metadata.get("logprobs"),
            "request_id": self.metadata.get("request_id"),
            **self.stats(model),
        }
        return {key: value for key, value in values.items() if value is not None}


def _speed(usage: ModelUsage) -> float | None:
    """Return the output tokens per second since the first token."""
    seconds = usage.seconds - usage.first_token_seconds
    return usage.output_tokens / seconds if usage.output_tokens and seconds > 0 else None


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
    """Request an answer and show it. Ctrl-C ends it and keeps what has arrived."""
    answer = Answer(model.model_name)
    display.wait()
    try:
        with retries_shown(display.note):
            _receive(answer, model, messages, display, stream=stream, schema=schema)
    except KeyboardInterrupt:
        answer.interrupted = True
    finally:
        display.close()
    return answer


def _receive(
    answer: Answer,
    model: ChatNscale,
    messages: Sequence[BaseMessage],
    display: Display,
    *,
    stream: bool,
    schema: dict[str, Any] | None,
) -> None:
    config: Any = {"callbacks": [answer.usage]}
    if schema is not None:
        chain = model.with_structured_output(schema, include_raw=True)
        result = chain.invoke(list(messages), config)
        if result["parsing_error"] is not None:
            raise result["parsing_error"]
        answer.parsed = result["parsed"]
        answer.add(result["raw"])
        answer.text = json.dumps(answer.parsed, ensure_ascii=False, indent=2)
        display.text(answer.text)
    elif stream:
        for chunk in model.stream(list(messages), config):
            _show(display, *answer.add(chunk))
    else:
        reply = model.invoke(list(messages), config)
        _show(display, *answer.add(reply))


@contextmanager
def retries_shown(show: Callable[[str], None]) -> Iterator[None]:
    """Show that a request is sent again, which the package only logs."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.INFO:
                show(f"{record.getMessage()}.")

    logger, handler = logging.getLogger("langchain_nscale"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _show(display: Display, reasoning: str, text: str) -> None:
    if reasoning:
        display.reasoning(reasoning)
    if text:
        display.text(text)


def print_answer(answer: Answer, model: ChatNscale, options: ChatOptions) -> None:
    """Print what the display has not shown."""
    if options.extract:
        echo(first_code_block(answer.text))
    elif options.as_json:
        echo(json.dumps(answer.as_dict(model), ensure_ascii=False))
    elif options.stats:
        echo(json.dumps(answer.stats(model)), err=True)


_CODE = re.compile(r"(?ms)^[ \t]*(```|~~~)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$")


def first_code_block(text: str) -> str:
    """Return the content of the first code block, or the text if it has none."""
    found = _CODE.search(text)
    return (found[2] if found else text).removesuffix("\n")


def print_error(error: Exception, *, as_json: bool) -> None:
    """Print an error in the requested form."""
    if as_json:
        echo(json.dumps({"error": error_object(error)}, ensure_ascii=False))
    else:
        echo(f"Error: {full_error_text(error)}", err=True)


def error_object(error: Exception) -> dict[str, Any]:
    """Return an error as an object, for `--json` and for the failed lines of a batch."""
    values: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error_text(error),
    }
    if isinstance(error, errors.NscaleError):
        for key in ("status_code", "code", "error_type", "request_id"):
            values[key] = getattr(error, key)
    return {key: value for key, value in values.items() if value is not None}
