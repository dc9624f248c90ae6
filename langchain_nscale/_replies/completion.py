"""Reads the JSON of a chat completion: the only reader of the wire format.

`Reply` takes one JSON object after another and returns what each adds, for complete
replies and streams alike: a reply that is not streamed is a stream of one object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from langchain_core.messages import ToolCallChunk
from langchain_core.messages.tool import tool_call_chunk

from langchain_nscale._provider import PROVIDER
from langchain_nscale._replies.messages import Delta, extend
from langchain_nscale._replies.think_tags import ThinkSplitter, ThinkTags

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


class MalformedError(ValueError):
    """A JSON object that is not a chat completion; the message says why."""


class Reply:
    """One choice of a chat completion, as far as it has been received."""

    def __init__(
        self, extra: Mapping[str, Any] | None = None, think_tags: ThinkTags = "off"
    ) -> None:
        self.id: str | None = None
        self.finish_reason: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self._index: object = None
        self._top: dict[str, Any] = {}  # the last value of each top-level field
        self._other: dict[str, Any] = dict(extra or {})
        self._calls = _ToolCalls()
        self._thinking = None if think_tags == "off" else ThinkSplitter(think_tags)

    def feed(self, completion: Mapping[str, Any]) -> list[Delta]:
        """Take the next object; return what it adds.

        Raises:
            MalformedError: The object is not a chat completion or a chunk of one.
        """
        if None in completion.values():
            completion = {k: v for k, v in completion.items() if v is not None}
        self._top.update(completion)
        if self.id is None and (identity := completion.get("id")):
            self.id = str(identity)
        if (usage := completion.get("usage")) and isinstance(usage, dict):
            # Servers that report usage on every chunk report running totals.
            self.usage = usage
        choices = completion.get("choices")
        if not isinstance(choices, list):
            if choices is None and usage:
                return []
            what = "`choices` is not a list"
            raise MalformedError(what)
        deltas: list[Delta] = []
        for choice in choices:
            if not isinstance(choice, dict):
                what = "a choice is not an object"
                raise MalformedError(what)
            index = choice.get("index") or 0
            if self._index is None:
                self._index = index
            if index != self._index:
                what = "a stream has more than one choice"
                raise MalformedError(what)
            self._read_choice(choice, deltas)
        return deltas

    def _read_choice(self, choice: Mapping[str, Any], deltas: list[Delta]) -> None:
        if reason := choice.get("finish_reason"):
            self.finish_reason = str(reason)
        if not choice.keys() <= _KNOWN_CHOICE:
            self._keep(choice, _KNOWN_CHOICE, join=False)
        whole = "message" in choice
        message = choice.get("message" if whole else "delta") or {}
        if not isinstance(message, dict):
            what = "a choice's message is not an object"
            raise MalformedError(what)
        if reasoning := message.get("reasoning_content") or message.get("reasoning"):
            deltas.append(Delta(reasoning=_string(reasoning, "reasoning")))
        if content := message.get("content"):
            parts = _content(content)
            deltas += parts if self._thinking is None else self._split(parts)
        if refusal := message.get("refusal"):
            deltas.append(Delta(refusal=_string(refusal, "refusal")))
        if calls := message.get("tool_calls"):
            chunks = self._calls.read(calls, self.id, whole=whole)
            deltas += [Delta(tool_call=chunk) for chunk in chunks]
        if not message.keys() <= _KNOWN_MESSAGE:
            self._keep(message, _KNOWN_MESSAGE, join=True)
        if logprobs := choice.get("logprobs"):
            _add_logprobs(deltas, logprobs)

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
        reasoning, text = self._thinking.flush() if self._thinking else ("", "")
        held = (Delta(reasoning=reasoning), Delta(text))
        return [delta for delta in held if delta.reasoning or delta.text]

    def _keep(self, fields: Mapping[str, Any], known: set[str], *, join: bool) -> None:
        """Keep the fields that are not handled explicitly."""
        for key, value in fields.items():
            if value is not None and key not in known:
                old = self._other.get(key) if join else None
                self._other[key] = extend(old, value)

    def metadata(self) -> dict[str, Any]:
        """Return `response_metadata`, except for what the deltas contain."""
        model = self._top.get("model")
        known = {
            "id": self.id,
            "model_name": str(model) if model else None,
            "model_provider": PROVIDER,
            "finish_reason": self.finish_reason,
            "token_usage": dict(self.usage) if self.usage else None,
        }
        return {
            **{key: value for key, value in self._top.items() if key not in _KNOWN_TOP},
            **self._other,
            **{key: value for key, value in known.items() if value is not None},
        }


def _add_logprobs(deltas: list[Delta], logprobs: object) -> None:
    """Attach log probabilities to the last delta, whose tokens they describe."""
    if not isinstance(logprobs, dict):
        return
    kept = {key: value for key, value in logprobs.items() if value}
    if deltas and kept:
        deltas[-1] = deltas[-1]._replace(logprobs=kept)
    elif kept:
        deltas.append(Delta(logprobs=kept))


class _ToolCalls:
    """Assigns a stable index and ID to every tool call, however the server streams it."""

    def __init__(self) -> None:
        self._open: list[dict[str, Any]] = []  # {"key", "id", "name", "args"} by number

    def read(
        self, raw_calls: object, reply_id: str | None, *, whole: bool
    ) -> Iterator[ToolCallChunk]:
        if not isinstance(raw_calls, list):
            what = "`tool_calls` is not a list"
            raise MalformedError(what)
        for raw in raw_calls:
            function = raw.get("function") if isinstance(raw, dict) else None
            if not isinstance(function, dict):
                what = "a tool call has no `function` object"
                raise MalformedError(what)
            args = function.get("arguments")
            if args is not None and not isinstance(args, str):
                args = json.dumps(args)  # some servers send the parsed object
            # Some servers write "null" or "" for a missing ID or name.
            wire_id, name = (
                None if value in (None, "", "null") else _string(value, "tool_calls")
                for value in (raw.get("id"), function.get("name"))
            )
            number = None if whole else self._find(raw.get("index"), wire_id, name)
            if number is None:
                number = len(self._open)
                call_id = wire_id or f"call_{reply_id or uuid4().hex}_{number}"
                call = {"key": raw.get("index"), "wire_id": wire_id, "name": name}
                self._open.append({**call, "args": [args or ""]})
                yield tool_call_chunk(
                    name=name, args=args or "", id=call_id, index=number
                )
                continue
            call = self._open[number]
            call["args"].append(args or "")
            # Sent only once: langchain-core concatenates repeated names and IDs.
            late_name = name if call["name"] is None else None
            call["name"] = call["name"] or name
            yield tool_call_chunk(name=late_name, args=args, id=None, index=number)

    def _find(self, key: object, wire_id: str | None, name: str | None) -> int | None:
        """Return the number of the open call that a fragment belongs to, if any."""
        for number in range(len(self._open) - 1, -1, -1):
            call = self._open[number]
            if wire_id and (key is None or call["wire_id"]):
                if wire_id != call["wire_id"]:
                    continue
            elif key is not None and call["key"] != key:
                continue
            elif name and self._is_next(call, name):
                return None
            return number
        return None

    @staticmethod
    def _is_next(call: Mapping[str, Any], name: str) -> bool:
        """Whether a fragment with a name but no ID begins another call."""
        if call["name"] is None:
            return False
        if call["name"] != name:
            return True
        raw = "".join(call["args"])
        if not raw.rstrip().endswith("}"):
            return False
        try:
            json.loads(raw, strict=False)
        except (ValueError, RecursionError):
            return False
        return True


def _string(value: object, field: str) -> str:
    if not isinstance(value, str):
        what = f"`{field}` is not a string"
        raise MalformedError(what)
    return value


def _content(content: object) -> Iterable[Delta]:
    """Return the deltas of `content`: a string or, for some models, a list of parts."""
    if isinstance(content, str):
        return (Delta(content),)
    if not isinstance(content, list):
        what = "`content` is neither a string nor a list"
        raise MalformedError(what)
    return _content_parts(content)


def _content_parts(content: list[Any]) -> Iterator[Delta]:
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            yield Delta(text=_string(part.get("text"), "content"))
        elif kind in {"thinking", "reasoning"}:
            inner = part.get(kind)
            inner = inner if isinstance(inner, list) else [{"text": inner}]
            text = "".join(_string(item.get("text"), "content") for item in inner)
            yield Delta(reasoning=text)
        else:
            yield Delta(text=part if isinstance(part, str) else json.dumps(part))
