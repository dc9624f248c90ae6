"""Everything that can go wrong, how to cause it, and the class that reports it.

The table of docs/errors.md; every row is tested over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_nscale import errors
from langchain_nscale.testing import ServerReply

WHOLE = ("invoke", "ainvoke")
STREAMED = ("stream", "astream")


@dataclass(frozen=True)
class Condition:
    """A row of the table: what happens, and the class of the error."""

    what: str
    kind: type[errors.NscaleError]
    reply: ServerReply | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    ways: tuple[str, ...] = WHOLE + STREAMED


def _status(status: int, message: str = "as it is", **more: Any) -> ServerReply:
    return ServerReply.error(status, message, **more)


_FIRST = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "half"}}]}\n\n'
_OVERFLOW = "This model's maximum context length is 8192 tokens"

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}

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
    Condition("429 for any other reason", errors.NscaleRateLimitError, _status(429)),
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
        "a 2xx response that is not a chat completion (for example a proxy's HTML page)",
        errors.NscaleMalformedResponseError,
        ServerReply(status=200, body=b"<html>", headers={"content-type": "text/html"}),
    ),
    Condition(
        "words in place of a tool call that `tool_choice` demands",
        errors.NscaleMissingToolCallError,
        ServerReply(text="Certainly!"),
        {"model_kwargs": {"tools": [TOOL], "tool_choice": "required"}},
    ),
    Condition(
        "in a stream: no event for `stream_chunk_timeout`",
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
        "in a stream: an event that is not a valid chunk",
        errors.NscaleMalformedResponseError,
        ServerReply(sse=[_FIRST, b"data: {nope\n\n"]),
        ways=STREAMED,
    ),
]

# Each condition with each way of calling that can cause it, by name.
ROWS = {f"{row.what}, {way}": (row, way) for row in CONDITIONS for way in row.ways}
