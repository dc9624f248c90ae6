"""Requests an answer, shows it while it arrives, and reports its usage and cost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from langchain_nscale import errors
from langchain_nscale._cli.display import Display
from langchain_nscale._cli.exits import error_text, full_error_text
from langchain_nscale._cli.inputs import ChatOptions, Message
from langchain_nscale._cli.model import Model
from langchain_nscale._cli.terminal import echo
from langchain_nscale._json import fenced_blocks
from langchain_nscale._replies.reply import Reply
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.whole import join_logprobs
from langchain_nscale._usage.counts import UsageCounts
from langchain_nscale._usage.ledger import Call, ModelUsage


@dataclass
class Answer:
    """An answer, complete or interrupted."""

    model: str
    text: str = ""
    reasoning: str = ""
    parsed: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    usage: UsageCounts = field(default_factory=lambda: UsageCounts(metrics=False))
    interrupted: bool = False

    def message(self) -> Message:
        """Return the answer as a turn of the conversation."""
        return {"role": "assistant", "content": self.text}

    def stats(self, model: Model) -> dict[str, Any]:
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

    def as_dict(self, model: Model) -> dict[str, Any]:
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
    model: Model,
    messages: Sequence[Message],
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
    model: Model,
    messages: Sequence[Message],
    display: Display,
    *,
    stream: bool,
    schema: dict[str, Any] | None,
) -> None:
    if schema is not None:
        _receive_object(answer, model, messages, schema)
        display.text(answer.text)
        return
    ledger, key = answer.usage.ledger, object()
    ledger.begin(key, Call(model.model_name))
    try:
        for item in model.ask(messages, stream=stream):
            if isinstance(item, Reply):
                logprobs = join_logprobs(delta.logprobs for delta in item.deltas)
                metadata = {**item.metadata(), "logprobs": logprobs or None}
                answer.metadata = metadata
                usage = usage_metadata(item.reported_usage)
                served, retries = metadata.get("model_name"), metadata.get("retries", 0)
                ledger.end(key, usage, served=served, retries=retries)
                continue
            if stream:
                ledger.first_token(key)
            if item.kind == "reasoning":
                answer.reasoning += item.text
                display.reasoning(item.text)
            elif item.kind == "text":
                answer.text += item.text
                display.text(item.text)
    except BaseException as error:
        ledger.end(key, error=error)
        raise


def _receive_object(
    answer: Answer, model: Model, messages: Sequence[Message], schema: dict[str, Any]
) -> None:
    from langchain_nscale import (  # noqa: PLC0415  # slow
        ChatNscale,
        NscaleUsageCallbackHandler,
    )

    answer.usage = usage = NscaleUsageCallbackHandler(metrics=False)
    settings = {name: getattr(model, name) for name in model.model_fields_set}
    chain = ChatNscale(**settings).with_structured_output(schema, include_raw=True)
    result = chain.invoke(list(messages), {"callbacks": [usage]})
    if result["parsing_error"] is not None:
        raise result["parsing_error"]
    raw = result["raw"]
    answer.reasoning = raw.additional_kwargs.get("reasoning_content") or ""
    answer.metadata = raw.response_metadata
    answer.parsed = result["parsed"]
    answer.text = json.dumps(answer.parsed, ensure_ascii=False, indent=2)


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


def print_answer(answer: Answer, model: Model, options: ChatOptions) -> None:
    """Print what the display has not shown."""
    if options.extract:
        echo(first_code_block(answer.text))
    elif options.as_json:
        echo(json.dumps(answer.as_dict(model), ensure_ascii=False))
    elif options.stats:
        echo(json.dumps(answer.stats(model)), err=True)


def first_code_block(text: str) -> str:
    """Return the content of the first code block, or the text if it has none."""
    return next(fenced_blocks(text), text).removesuffix("\n")


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
