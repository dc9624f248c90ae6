"""Reads the JSON of a chat completion: the only reader of the wire format.

`Reply` takes one JSON object after another and returns what each adds, for complete
replies and streams alike: a reply that is not streamed is a stream of one object.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages.tool import tool_call_chunk

from langchain_nscale._json import has_surrogates, join_surrogates, without_surrogates
from langchain_nscale._provider import PROVIDER
from langchain_nscale._replies.think_tags import ThinkSplitter, ThinkTags
from langchain_nscale._replies.tool_calls import ToolCallReader
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.whole import Delta, extend

# Fields handled explicitly; all others are kept in `response_metadata`.
_KNOWN_TOP = {"choices", "id", "model", "object", "usage"}
_KNOWN_CHOICE = {"delta", "finish_reason", "index", "logprobs", "message"}
_KNOWN_MESSAGE = {
    "content",
    "reasoning",
    "reasoning_content",
    "refusal",
    "role",
    "tool_calls",
}
# Finish reasons of replies that the service gave up. vLLM ends every running request
# with "abort" when it is shut down.
ABANDONED = {
    "abort",
    "aborted",
    "cancelled",
    "canceled",
    "engine_error",
    "error",
    "failed",
    "insufficient_system_resource",
    "internal_error",
    "server_error",
    "timeout",
}


class MalformedError(ValueError):
    """A JSON object that is not a chat completion; the message says why."""


@dataclass(eq=False, repr=False)  # not frozen: created for each call
class ReplyOptions:
    """How to read a reply.

    Attributes:
        retries: Number of retries, reported in the metadata if there were any.
        with_headers: Whether `response_metadata` includes the response headers.
        think_tags: Whether the text begins with reasoning between tags.
        max_tokens: The request's limit of generated tokens, if any.
        context_length: The model's limit of all tokens, if known.
        tool_names: The names of the request's tools, by the names that the API knows.
        used_call_ids: The IDs of the conversation's earlier tool calls.
    """

    retries: int = 0
    with_headers: bool = False
    think_tags: ThinkTags = "off"
    max_tokens: int | None = None
    context_length: int | None = None
    tool_names: Mapping[str, str] = field(default_factory=dict)
    used_call_ids: Collection[str] = field(default=())


class Reply:
    """One choice of a chat completion, as received so far."""

    def __init__(
        self,
        extra: Mapping[str, Any] | None = None,
        options: ReplyOptions | None = None,
    ) -> None:
        """Start a reply.

        Args:
            extra: Metadata known before the reply is read.
            options: How to read it.
        """
        self._options = options or ReplyOptions()
        self.finish_reason: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self.has_begun = False  # whether a choice has been received
        self._index: object = None
        self._top: dict[str, Any] = {}  # the last value of each top-level field
        self._other: dict[str, Any] = dict(extra or {})
        self._calls = ToolCallReader(
            self._options.tool_names, self._options.used_call_ids
        )
        tags = self._options.think_tags
        self._thinking = None if tags == "off" else ThinkSplitter(tags)
        self._after_reasoning = False  # whether only reasoning has been received
        self._has_text = False
        self._is_stream = False
        self._has_content = False  # whether anything has been received
        self._halves: dict[object, str] = {}  # first halves of emojis, by their place

    def feed(self, completion: Mapping[str, Any]) -> list[Delta]:
        """Take the next object; return what it adds. Events without choices add nothing.

        Raises:
            MalformedError: The object is not a chat completion or a chunk of one.
        """
        usage = completion.get("usage")
        if isinstance(usage, dict) and usage:
            # Servers that report usage on every chunk report running totals.
            self.usage = usage
        choices = completion.get("choices")
        if not isinstance(choices, list):
            return []  # a ping, a note or metrics
        if None in completion.values():
            completion = {k: v for k, v in completion.items() if v is not None}
        self._top.update(completion)
        deltas: list[Delta] = []
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            index = choice.get("index") or 0
            if self._index is None:
                self._index = index
            if index != self._index:
                what = "a stream has more than one choice"
                raise MalformedError(what)
            self.has_begun = True
            self._read_choice(choice, deltas)
        return deltas

    def _read_choice(self, choice: Mapping[str, Any], deltas: list[Delta]) -> None:
        if reason := choice.get("finish_reason"):
            self.finish_reason = str(reason)
        if not choice.keys() <= _KNOWN_CHOICE:
            self._keep(choice, _KNOWN_CHOICE, join=(list,))
        # Some servers repeat the whole message next to the deltas.
        message = choice.get("delta")
        whole = not message and not self._has_content
        if not whole:
            self._is_stream = True
        else:
            message = choice.get("message") or message
        if message is not None and not isinstance(message, dict):
            what = "a choice's message is not an object"
            raise MalformedError(what)
        if message:
            self._read_message(message, deltas, whole=whole)
        if logprobs := choice.get("logprobs"):
            _add_logprobs(deltas, logprobs)
        self._has_content = self._has_content or bool(deltas)

    def _read_message(
        self, message: Mapping[str, Any], deltas: list[Delta], *, whole: bool
    ) -> None:
        if reasoning := message.get("reasoning_content") or message.get("reasoning"):
            self._add_reasoning(deltas, _string(reasoning, "reasoning"))
        if content := message.get("content"):
            self._add_content(deltas, content)
        if refusal := message.get("refusal"):
            text = self._joined("refusal", _string(refusal, "refusal"))
            deltas += [Delta(refusal=text)] if text else []
        if calls := message.get("tool_calls"):
            reply_id = self._top.get("id")
            try:
                chunks = list(self._calls.feed(calls, reply_id, whole=whole))
            except ValueError as problem:
                raise MalformedError(str(problem)) from None
            deltas += [Delta(tool_call=self._repaired(chunk)) for chunk in chunks]
        if not message.keys() <= _KNOWN_MESSAGE:
            self._keep(message, _KNOWN_MESSAGE, join=(list, str))

    def _add_content(self, deltas: list[Delta], content: object) -> None:
        parts = _content(content)
        for part in parts if self._thinking is None else self._split(parts):
            if part.reasoning:
                self._add_reasoning(deltas, part.reasoning)
            else:
                self._add_text(deltas, part.text)

    def _add_text(self, deltas: list[Delta], text: str) -> None:
        text = self._joined("text", text)
        if self._after_reasoning:
            # Chat templates put blank lines between reasoning and answer.
            text = text.lstrip("\r\n")
        if text:
            self._after_reasoning = False
            self._has_text = True
            deltas.append(Delta(text))

    def _add_reasoning(self, deltas: list[Delta], text: str) -> None:
        text = self._joined("reasoning", text)
        if text:
            self._after_reasoning = not self._has_text
            deltas.append(Delta(reasoning=text))

    def _joined(self, place: object, text: str) -> str:
        """Join the halves of an emoji that was split across two events."""
        if place in self._halves:
            text = self._halves.pop(place) + text
        elif not has_surrogates(text):
            return text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[place] = text[-1]
            text = text[:-1]
        return join_surrogates(text)

    def _repaired(self, chunk: Any) -> Any:
        args = self._joined(chunk["index"], chunk["args"] or "")
        name = chunk["name"] and without_surrogates(chunk["name"])
        return {**chunk, "args": args, "name": name}

    def _split(self, parts: Iterable[Delta]) -> Iterator[Delta]:
        """Split text with think tags into reasoning and answer."""
        for part in parts:
            if self._thinking is None or not part.text:
                yield part
                continue
            reasoning, text = self._thinking.feed(part.text)
            if reasoning:
                yield Delta(reasoning=reasoning)
            if text:
                yield Delta(text)

    def flush(self) -> list[Delta]:
        """Return what is still held back, after the last object."""
        deltas: list[Delta] = []
        reasoning, text = self._thinking.flush() if self._thinking else ("", "")
        if reasoning:
            self._add_reasoning(deltas, reasoning)
        if text:
            self._add_text(deltas, text)
        deltas += [Delta(tool_call=chunk) for chunk in self._calls.flush()]
        halves, self._halves = self._halves, {}
        for place, half in halves.items():
            text = join_surrogates(half)
            if place == "text":
                deltas.append(Delta(text))
            elif place == "reasoning":
                deltas.append(Delta(reasoning=text))
            elif place == "refusal":
                deltas.append(Delta(refusal=text))
            elif isinstance(place, int):
                call = tool_call_chunk(name=None, args=text, id=None, index=place)
                deltas.append(Delta(tool_call=call))
        return deltas

    def last_call_is_untrusted(self, *, has_arguments: bool) -> bool:
        """Return whether the last tool call may have been cut off by a token limit.

        vLLM completes truncated calls and reports finish reason `tool_calls`; then only
        the number of generated tokens gives them away.
        """
        if self.finish_reason == "length":
            return True
        if self.finish_reason is None and self._is_stream and not has_arguments:
            return True
        limit, context = self._options.max_tokens, self._options.context_length
        usage = usage_metadata(self.usage)
        if usage is None:
            return limit is not None and not has_arguments
        if limit is not None and usage["output_tokens"] >= limit:
            return True
        return context is not None and usage["total_tokens"] >= context

    def _keep(
        self, fields: Mapping[str, Any], known: set[str], *, join: tuple[type, ...]
    ) -> None:
        """Keep all fields without explicit handling."""
        for key, value in fields.items():
            if value is not None and key not in known:
                old = self._other.get(key) if isinstance(value, join) else None
                self._other[key] = extend(old, value)

    def metadata(self) -> dict[str, Any]:
        """Return `response_metadata`, except for what the deltas contain."""
        identity, model = self._top.get("id"), self._top.get("model")
        known = {
            "id": str(identity) if identity else None,
            "model_name": str(model) if model else None,
            "model_provider": PROVIDER,
            "finish_reason": self.finish_reason,
            "token_usage": dict(self.usage) if self.usage else None,
        }
        metadata = {
            **{key: value for key, value in self._top.items() if key not in _KNOWN_TOP},
            **self._other,
            **{key: value for key, value in known.items() if value is not None},
        }
        return {
            key: value if _is_plain(value) else _storable(value)
            for key, value in metadata.items()
        }


def _is_plain(value: object) -> bool:
    return (isinstance(value, str) and value.isascii()) or isinstance(value, (int, float))


def _storable(value: Any) -> Any:
    """Return a value that can be stored: valid Unicode, and not nested too deeply."""
    try:
        return without_surrogates(value)
    except RecursionError:
        return "(nested too deeply)"


def _add_logprobs(deltas: list[Delta], logprobs: object) -> None:
    """Attach log probabilities to the last delta, whose tokens they describe."""
    if not isinstance(logprobs, dict):
        return
    known = {key: value for key, value in logprobs.items() if value}
    if deltas and known:
        deltas[-1] = deltas[-1]._replace(logprobs=known)
    elif known:
        deltas.append(Delta(logprobs=known))


def _string(value: object, field_name: str) -> str:
    if not isinstance(value, str):
        what = f"`{field_name}` is not a string"
        raise MalformedError(what)
    return value


def _content(content: object) -> Iterable[Delta]:
    """Return the deltas of `content`: a string or, for some models, a list of parts."""
    if isinstance(content, str):
        return (Delta(content),)
    if not isinstance(content, list):
        what = "`content` is neither a string nor a list"
        raise MalformedError(what)
    return map(_content_part, content)


def _content_part(part: object) -> Delta:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping) and kind in ("thinking", "reasoning"):
        inner = part.get(kind)
        items = inner if isinstance(inner, list) else [{"text": inner}]
        texts = [i.get("text") if isinstance(i, Mapping) else i for i in items]
        return Delta(reasoning="".join(_string(text, "content") for text in texts))
    if isinstance(part, Mapping) and kind == "text":
        return Delta(_string(part.get("text"), "content"))
    return Delta(part if isinstance(part, str) else json.dumps(part))
