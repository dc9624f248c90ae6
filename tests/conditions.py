"""Everything that can go wrong, how to bring it about, and the class that says so.

Run as a module it writes `docs/errors.md`; the tests hold the page and every row to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import langchain_core.exceptions
import openai

from langchain_nscale import errors
from langchain_nscale.testing import ServerReply

PAGE = Path("docs/errors.md")
WHOLE = ("invoke", "ainvoke")
STREAMED = ("stream", "astream")


@dataclass(frozen=True)
class Condition:
    """A row: what happens, and what it's raised as."""

    what: str
    kind: type[errors.NscaleError]
    reply: ServerReply | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    ways: tuple[str, ...] = WHOLE + STREAMED


def _status(status: int, message: str = "as it is", **more: Any) -> ServerReply:
    return ServerReply.error(status, message, **more)


_FIRST = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "half"}}]}\n\n'
_OVERFLOW = "This model's maximum context length is 8192 tokens"

CONDITIONS = [
    Condition("400", errors.NscaleInvalidRequestError, _status(400)),
    Condition("422", errors.NscaleUnprocessableError, _status(422)),
    Condition(
        "400, the prompt is too long for the model",
        errors.NscaleContextOverflowError,
        _status(400, _OVERFLOW),
    ),
    Condition("401", errors.NscaleAuthenticationError, _status(401)),
    Condition("403", errors.NscalePermissionDeniedError, _status(403)),
    Condition("404", errors.NscaleModelNotFoundError, _status(404)),
    Condition("408", errors.NscaleTimeoutError, _status(408)),
    Condition("409", errors.NscaleConflictError, _status(409)),
    Condition(
        "429 with `INSUFFICIENT_CREDIT`",
        errors.NscaleInsufficientCreditError,
        ServerReply.insufficient_credit(),
    ),
    Condition("429 otherwise", errors.NscaleRateLimitError, _status(429)),
    Condition("500", errors.NscaleServerError, _status(500)),
    Condition("502", errors.NscaleUnavailableError, _status(502)),
    Condition("503", errors.NscaleUnavailableError, _status(503)),
    Condition("504", errors.NscaleUnavailableError, _status(504)),
    Condition(
        "the service can't be reached",
        errors.NscaleConnectionError,
        settings={"base_url": "http://127.0.0.1:9/v1"},
    ),
    Condition(
        "no answer within `timeout`",
        errors.NscaleTimeoutError,
        ServerReply(text="late", delay=3),
        {"timeout": 0.2},
    ),
    Condition(
        "a success that is no chat completion (a proxy's page, say)",
        errors.NscaleMalformedResponseError,
        ServerReply(status=200, body=b"<html>", headers={"content-type": "text/html"}),
    ),
    Condition(
        "in a stream: nothing new for `stream_chunk_timeout`",
        errors.NscaleStalledStreamError,
        ServerReply(sse=[_FIRST, _FIRST], stall_after=1, pause=0.05),
        {"stream_chunk_timeout": 0.3},
        STREAMED,
    ),
    Condition(
        "in a stream: it ends before the model has finished",
        errors.NscaleInterruptedStreamError,
        ServerReply(sse=[_FIRST]),
        ways=STREAMED,
    ),
    Condition(
        "in a stream: the connection breaks",
        errors.NscaleInterruptedStreamError,
        ServerReply(sse=[_FIRST, _FIRST], cut_after=len(_FIRST) + 9),
        ways=STREAMED,
    ),
    Condition(
        "in a stream: the service reports an error",
        errors.NscaleStreamError,
        ServerReply(sse=[_FIRST, b'data: {"error": {"message": "boom"}}\n\n']),
        ways=STREAMED,
    ),
    Condition(
        "in a stream: an event that is no chunk",
        errors.NscaleMalformedResponseError,
        ServerReply(sse=[_FIRST, b"data: {nope\n\n"]),
        ways=STREAMED,
    ),
]

# Each condition by each way in which it can come about, by name.
ROWS = {f"{row.what}, {way}": (row, way) for row in CONDITIONS for way in row.ways}


def caught_as(kind: type[errors.NscaleError]) -> list[str]:
    """The classes of the SDK and of langchain-core that `except` may name too."""
    found = []
    for module in (openai, langchain_core.exceptions):
        bases = {
            value: name
            for name, value in list(vars(module).items())
            if isinstance(value, type) and value in kind.__mro__ and "Error" in name
        }
        found += [
            f"`{module.__name__.split('.')[0]}` {name}"
            for base, name in bases.items()
            if not any(other is not base and issubclass(other, base) for other in bases)
        ]
    return found


def page() -> str:
    """`docs/errors.md`."""
    rows = [
        "| What happens | Class | Also caught as | Retryable | What to do |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in CONDITIONS:
        advice = errors.advice(row.kind)
        retryable = "yes" if row.kind.is_retryable else "no"
        also = ", ".join(caught_as(row.kind))
        rows.append(
            f"| {row.what} | `{row.kind.__name__}` | {also} | {retryable} | {advice} |"
        )
    return _TEXT + "\n".join(rows) + "\n"


_TEXT = """# Errors

Every failure of a call is an `NscaleError`. Its class is also one of the OpenAI SDK's and
one of langchain-core's, so that code for those goes on working: `ModelRetryMiddleware`,
`with_fallbacks`, `except openai.RateLimitError`.

An error has `status_code`, `code`, `error_type`, `param`, `request_id`, `retry_after`
(seconds), `retries`, `body`, and for streams `partial`: the message as far as it had
come. None of it has the service token.

"Retryable" says that the same request may succeed later. ChatNscale itself repeats
those of a status, of the connection and of `timeout`, `max_retries` times (2 by default),
with growing waits or as long as the service asks for, and never once a token has reached
you. A missing credit is never repeated: one request reaches the service, where an
integration built on the SDK sends three.

A mistake in the settings or in a message is a `ValueError` (or `TypeError`), raised
before anything is sent; it names the field or the variable.

This page is written by `python -m tests.conditions`, and each row is tested over HTTP.

"""

if __name__ == "__main__":
    PAGE.write_text(page())
