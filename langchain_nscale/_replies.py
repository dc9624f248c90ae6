"""One reply of the API, as far as it has been read. Pure: no I/O.

`Reply` is the only reader of the wire's shape, for whole replies and for streams alike:
it takes one JSON object after the other and says what each adds. A reply that isn't
streamed is a stream of one object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from langchain_core.messages import AIMessage, ToolCallChunk
from langchain_core.messages.ai import (
    InputTokenDetails,
    OutputTokenDetails,
    UsageMetadata,
)
from langchain_core.messages.tool import tool_call_chunk

from langchain_nscale._chunks import PROVIDER, parse_tool_calls
from langchain_nscale._thinking import ThinkSplitter, ThinkTags

# Fields that have a place of their own; every other one goes to `response_metadata`.
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
    """A JSON object that isn't a chat completion; the text says in what way."""


class Delta(NamedTuple):
    """What one object adds to a reply: one thing, and its log probabilities if any."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_call: ToolCallChunk | None = None
    logprobs: dict[str, Any] | None = None


class Reply:
    """One choice of a chat completion, as far as it has been read."""

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

    def read(self, completion: Mapping[str, Any]) -> list[Delta]:
        """Take the next object; return what it adds.

        Raises:
            MalformedError: The object isn't a chat completion or a chunk of one.
        """
        if None in completion.values():
            completion = {k: v for k, v in completion.items() if v is not None}
        self._top.update(completion)
        if self.id is None and (identity := completion.get("id")):
            self.id = str(identity)
        if (usage := completion.get("usage")) and isinstance(usage, dict):
            # Servers that report usage on every chunk report the total so far.
            self.usage = usage
        choices = completion.get("choices")
        if not isinstance(choices, list):
            if choices is None and usage:
                return []
            what = "`choices` isn't a list"
            raise MalformedError(what)
        deltas: list[Delta] = []
        for choice in choices:
            if not isinstance(choice, dict):
                what = "a choice isn't an object"
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
            what = "a choice's message isn't an object"
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
        """Sort text with think tags into reasoning and answer."""
        for part in parts:
            if self._thinking is None or not part.text:
                yield part
                continue
            reasoning, text = self._thinking.feed(part.text)
            if reasoning:
                yield Delta(reasoning=reasoning)
            if text:
                yield Delta(text)

    def end(self) -> list[Delta]:
        """What has been held back, once no more objects come."""
        reasoning, text = self._thinking.close() if self._thinking else ("", "")
        held = (Delta(reasoning=reasoning), Delta(text))
        return [delta for delta in held if delta.reasoning or delta.text]

    def _keep(self, fields: Mapping[str, Any], known: set[str], *, join: bool) -> None:
        """Keep fields that have no place of their own."""
        for key, value in fields.items():
            if value is not None and key not in known:
                old = self._other.get(key) if join else None
                self._other[key] = extend(old, value)

    def metadata(self) -> dict[str, Any]:
        """`response_metadata`, but for what the deltas carry."""
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
    """Add log probabilities to the last delta, whose tokens they are."""
    if not isinstance(logprobs, dict):
        return
    kept = {key: value for key, value in logprobs.items() if value}
    if deltas and kept:
        deltas[-1] = deltas[-1]._replace(logprobs=kept)
    elif kept:
        deltas.append(Delta(logprobs=kept))


class _ToolCalls:
    """Numbers the calls of a reply and gives each an id, whatever the server sends."""

    def __init__(self) -> None:
        self._open: list[dict[str, Any]] = []  # {"key", "id", "name", "args"} by number

    def read(
        self, raw_calls: object, reply_id: str | None, *, whole: bool
    ) -> Iterator[ToolCallChunk]:
        if not isinstance(raw_calls, list):
            what = "`tool_calls` isn't a list"
            raise MalformedError(what)
        for raw in raw_calls:
            function = raw.get("function") if isinstance(raw, dict) else None
            if not isinstance(function, dict):
                what = "a tool call has no `function` object"
                raise MalformedError(what)
            args = function.get("arguments")
            if args is not None and not isinstance(args, str):
                args = json.dumps(args)  # some servers send the parsed object
            # Some servers write "null" or "" for an id or a name that isn't there.
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
            # Sent once only: langchain-core joins repeated names and ids.
            late_name = name if call["name"] is None else None
            call["name"] = call["name"] or name
            yield tool_call_chunk(name=late_name, args=args, id=None, index=number)

    def _find(self, key: object, wire_id: str | None, name: str | None) -> int | None:
        """The number of the open call that a fragment belongs to, if any does."""
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
        """Whether a fragment with a name but no id begins another call."""
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
        what = f"`{field}` isn't a string"
        raise MalformedError(what)
    return value


def _content(content: object) -> Iterable[Delta]:
    """Deltas of a message's `content`: a string, or (some models) a list of parts."""
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


def extend(old: Any, new: Any) -> Any:
    """Join what a stream brings in pieces; of anything else the last one counts."""
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    return new


def usage_metadata(usage: Mapping[str, Any] | None) -> UsageMetadata | None:
    """LangChain's form of `usage`. All figures are tokens; absent ones count as 0."""
    if not isinstance(usage, Mapping):
        return None

    def count(source: object, key: str) -> int | None:
        value = source.get(key) if isinstance(source, Mapping) else None
        return int(value) if isinstance(value, (int, float)) else None

    read = usage.get("prompt_tokens_details")
    written = usage.get("completion_tokens_details")
    given = count(usage, "prompt_tokens") or 0
    made = count(usage, "completion_tokens") or 0
    total = count(usage, "total_tokens")
    result = UsageMetadata(
        input_tokens=given,
        output_tokens=made,
        total_tokens=given + made if total is None else total,
    )
    input_details = {
        "cache_read": count(read, "cached_tokens"),
        "audio": count(read, "audio_tokens"),
    }
    output_details = {
        "reasoning": count(written, "reasoning_tokens"),
        "audio": count(written, "audio_tokens"),
    }
    if kept := {key: value for key, value in input_details.items() if value is not None}:
        result["input_token_details"] = InputTokenDetails(**kept)  # type: ignore[typeddict-item]  # keys as above
    if kept := {key: value for key, value in output_details.items() if value is not None}:
        result["output_token_details"] = OutputTokenDetails(**kept)  # type: ignore[typeddict-item]  # keys as above
    return result


def build_message(
    message_id: str | None,
    deltas: Sequence[Delta],
    metadata: Mapping[str, Any] | None = None,
    usage: UsageMetadata | None = None,
) -> AIMessage:
    """The message that deltas add up to, if no more of them come."""
    valid, invalid = parse_tool_calls(list(whole_calls(deltas).values()))
    extra = {
        "reasoning_content": "".join(delta.reasoning for delta in deltas),
        "refusal": "".join(delta.refusal for delta in deltas),
    }
    logprobs = merge_logprobs(delta.logprobs for delta in deltas)
    return AIMessage(
        content="".join(delta.text for delta in deltas),
        id=message_id,
        additional_kwargs={key: value for key, value in extra.items() if value},
        response_metadata={
            **(metadata or {"model_provider": PROVIDER}),
            **({"logprobs": logprobs} if logprobs else {}),
        },
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=usage,
    )


def whole_calls(deltas: Sequence[Delta]) -> dict[int | None, ToolCallChunk]:
    """The tool calls of deltas by their index, the fragments of each joined."""
    fragments: dict[int | None, list[ToolCallChunk]] = {}
    for delta in deltas:
        if call := delta.tool_call:
            fragments.setdefault(call["index"], []).append(call)
    return {
        index: tool_call_chunk(
            name=next((part["name"] for part in parts if part["name"]), None),
            args="".join(part["args"] or "" for part in parts),
            id=parts[0]["id"],
            index=index,
        )
        for index, parts in fragments.items()
    }


def merge_logprobs(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Log probabilities of successive deltas as one object: lists are joined."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in (part or {}).items():
            merged[key] = extend(merged.get(key), value)
    return merged
