"""What a test says to the stand-in server, and what it learns from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RecordedRequest:
    """A request that reached the server.

    Attributes:
        method: `"POST"` or `"GET"`.
        path: Without the query.
        headers: Names in lower case.
        body: The bytes.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class ToolCallReply:
    """A tool call in a reply. `args` is a dict, or a string that is sent as it is."""

    name: str
    args: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class ServerReply:
    """A reply of the server. What isn't set is made up sensibly.

    Attributes:
        text: The answer.
        reasoning: What the model thought before.
        tool_calls: Calls after the text.
        finish_reason: By default `"tool_calls"` or `"stop"`.
        usage: The `usage` object; by default counted from request and answer, `False`
            for none.
        extra: Further fields of the completion object.
        pieces: The sizes in characters into which texts are cut when streamed; the last
            one repeats. By default words.
        reasoning_field: `"reasoning_content"`, or `"reasoning"` as newer vLLM has it.
        status: HTTP status; by default 200, or the server's `stream_status`.
        headers: Further response headers.
        body: Sent instead of a completion: bytes as they are, anything else as JSON.
        sse: Raw pieces of an event stream, sent instead of a completion.
        delay: Seconds before the first byte.
        pause: Seconds between the pieces of a stream.
        cut_after: Number of bytes of the body after which the connection is cut.
        stall_after: Number of stream events after which nothing more comes, though the
            connection stays open; keep-alive comments come if `pause` is set.
    """

    text: str | None = None
    reasoning: str | None = None
    tool_calls: Sequence[ToolCallReply] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] | bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    pieces: Sequence[int] = ()
    reasoning_field: str = "reasoning_content"
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    sse: Sequence[bytes] | None = None
    delay: float = 0.0
    pause: float = 0.0
    cut_after: int | None = None
    stall_after: int | None = None

    @classmethod
    def error(
        cls,
        status: int,
        message: str,
        *,
        code: str | None = None,
        error_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ServerReply:
        """An error in the form of Nscale's guide."""
        error = {
            "code": code,
            "message": message,
            "param": None,
            "error_type": error_type,
        }
        return cls(status=status, body={"error": error}, headers=headers or {})

    @classmethod
    def insufficient_credit(cls) -> ServerReply:
        """The guide's answer to an account without credit, word for word."""
        return cls.error(
            429,
            "You have insufficient credit to run this request",
            code="TOO_MANY_REQUESTS",
            error_type="INSUFFICIENT_CREDIT",
        )
