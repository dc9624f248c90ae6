"""Scripted replies and recorded requests of the stand-in server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage


@dataclass(frozen=True)
class RecordedRequest:
    """A request received by the server.

    Attributes:
        method: `"POST"` or `"GET"`.
        path: The path without the query.
        headers: The headers, with names in lower case.
        body: The body as bytes.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body decoded from JSON."""
        return json.loads(self.body)

    def __getitem__(self, field: str) -> Any:
        """Return a field of the body, as in `requests[-1]["messages"]`."""
        return self.json[field]


@dataclass(frozen=True)
class ToolCallReply:
    """A tool call in a reply. `args` is a dict, or a string that is sent unchanged."""

    name: str
    args: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class ServerReply:
    """A reply of the server. Unset fields get sensible defaults.

    Attributes:
        text: The answer.
        reasoning: The reasoning before the answer.
        tool_calls: Tool calls after the text.
        finish_reason: Defaults to `"tool_calls"` or `"stop"`.
        usage: The `usage` object. `True` counts the words of request and answer, `False`
            omits it.
        extra: Extra fields of the completion object.
        pieces: The sizes, in characters, of the pieces in which texts are streamed; the
            last one repeats. Defaults to whole words.
        reasoning_field: `"reasoning_content"`, or `"reasoning"` as in newer
            versions of vLLM.
        status: HTTP status; defaults to 200, or the server's `stream_status`.
        headers: Extra response headers.
        body: Sent instead of a completion: bytes unchanged, anything else as JSON.
        sse: Pieces of an event stream, sent unchanged instead of a completion.
        delay: Seconds to wait before the first byte.
        pause: Seconds to wait between the pieces of a stream.
        cut_after: Number of bytes of the body after which the connection is cut.
        stall_after: Number of stream events after which the stream goes silent while the
            connection stays open; with `pause`, it sends keep-alive comments.
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
        """Return an error in the form of Nscale's guide."""
        error = {
            "code": code,
            "message": message,
            "param": None,
            "error_type": error_type,
        }
        return cls(status=status, body={"error": error}, headers=headers or {})

    @classmethod
    def insufficient_credit(cls) -> ServerReply:
        """Return the guide's error for an account without credit, word for word."""
        return cls.error(
            429,
            "You have insufficient credit to run this request",
            code="TOO_MANY_REQUESTS",
            error_type="INSUFFICIENT_CREDIT",
        )


def as_reply(reply: object) -> ServerReply:
    """Return a scripted reply in any of its forms.

    Raises:
        TypeError: It has none of them.
    """
    if isinstance(reply, ServerReply):
        return reply
    if isinstance(reply, str):
        return ServerReply(text=reply)
    if isinstance(reply, AIMessage):
        calls = [ToolCallReply(c["name"], c["args"], c["id"]) for c in reply.tool_calls]
        thoughts = reply.additional_kwargs.get("reasoning_content")
        return ServerReply(text=reply.text, reasoning=thoughts, tool_calls=calls)
    msg = (
        f"A reply is a text, an AIMessage or a ServerReply, not {type(reply).__name__}. "
        'Errors: add(status=429). Tool calls: add(tool_calls=[ToolCallReply("name", '
        "{...})])."
    )
    raise TypeError(msg)


def summary(reply: ServerReply) -> str:
    """Return a reply in one line."""
    if reply.status is not None:
        return f"status {reply.status}"
    if reply.body is not None:
        return f"body {str(reply.body)[:80]!r}"
    calls = [f"{call.name}({call.args})" for call in reply.tool_calls]
    parts = [repr(reply.text)] if reply.text is not None else []
    return " ".join([*parts, *calls]) or "an empty reply"
