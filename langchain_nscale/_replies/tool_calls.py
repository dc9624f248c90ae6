"""Tool calls: joining their fragments, and telling complete ones from truncated ones."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any
from uuid import uuid4

from langchain_core.messages import InvalidToolCall, ToolCall, ToolCallChunk
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.utils.json import parse_partial_json

from langchain_nscale._json import has_surrogates

TRUNCATED = "The call was cut off before its arguments were complete."
# Appended to the arguments of a streamed call that must not be executed, so that
# langchain-core's lenient parser rejects the call however the chunks are added up. It
# follows one of `_BREAKERS`, which makes the text before it unparsable.
_MARK = " [not executable]"
_BREAKERS = ("]", "}", '"]', '"}', '\\"]', '\\"}')


# --- arguments --------------------------------------------------------------------------


def parse_arguments(raw: str) -> tuple[dict[str, Any], str | None]:
    """Parse the arguments of a call strictly.

    Empty arguments and `null` mean none. Anything else must be a JSON object, possibly
    encoded twice, with values that can be sent back: finite numbers and valid Unicode.

    Returns:
        The arguments, and `None` or the reason why they are invalid.
    """
    if not raw.strip():
        return {}, None
    try:
        # Models write raw newlines into strings; strict=False accepts them.
        value = json.loads(raw, strict=False, parse_constant=_reject, parse_float=_finite)
        if isinstance(value, str):
            value = json.loads(
                value, strict=False, parse_constant=_reject, parse_float=_finite
            )
    except (ValueError, RecursionError) as error:
        return {}, f"The arguments are not valid JSON: {error}"
    if value is None:
        return {}, None
    if not isinstance(value, dict):
        return {}, "The arguments are not a JSON object."
    if "\\u" in raw and has_surrogates(json.dumps(value, ensure_ascii=False)):
        return {}, "The arguments contain half of a surrogate pair."
    return value, None


def _reject(constant: str) -> Any:
    msg = f"{constant} is not a JSON value"
    raise ValueError(msg)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        msg = f"{text} is too large"
        raise ValueError(msg)
    return value


def parse_tool_calls(
    calls: Sequence[ToolCallChunk], untrusted: Collection[int] = ()
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Separate calls that can be executed from those that can't.

    Args:
        calls: Calls with complete `args`.
        untrusted: Positions of calls that may be truncated even if they are valid JSON.
    """
    valid = []
    invalid = []
    for position, call in enumerate(calls):
        raw = call["args"] or ""
        args, problem = parse_arguments(raw)
        if position in untrusted:
            problem = problem or TRUNCATED
        if not call["name"] and problem is None:
            problem = "The call has no name."
        if problem is None:
            valid.append(tool_call(name=call["name"] or "", args=args, id=call["id"]))
        else:
            invalid.append(
                invalid_tool_call(
                    name=call["name"], args=raw, id=call["id"], error=problem
                )
            )
    return valid, invalid


def breaker(raw: str) -> str:
    """Return a text that makes arguments invalid for langchain-core's lenient parser."""
    for candidate in _BREAKERS:
        if not _is_accepted(raw + candidate + _MARK):
            return candidate + _MARK
    return _BREAKERS[0] + _MARK  # pragma: no cover  # one of them always works


def _is_accepted(args: str) -> bool:
    """Return whether langchain-core would turn arguments into an executable call."""
    try:
        return isinstance(parse_partial_json(args), dict)
    except (ValueError, RecursionError):
        return False


def original_arguments(args: str) -> str:
    """Return the arguments of an invalid call as the model wrote them."""
    for candidate in sorted(_BREAKERS, key=len, reverse=True):
        raw = args.removesuffix(candidate + _MARK)
        if raw != args and breaker(raw) == candidate + _MARK:
            return raw
    return args


# --- fragments --------------------------------------------------------------------------


class _Call:
    """A call whose fragments are being received."""

    def __init__(self, key: object, wire_id: str | None, name: str | None) -> None:
        self.key = key  # the server's index
        self.wire_id = wire_id
        self.name = name
        self.args: list[str] = []
        self.is_blank = True  # whether the arguments are empty so far
        self.held: list[str] | None = None  # arguments kept until they are complete
        self.scanner: _Scanner | None = None

    def is_complete(self) -> bool:
        """Return whether the arguments are a complete JSON object, in linear time."""
        self.scanner = self.scanner or _Scanner()
        return self.scanner.is_complete(self.args)


class _Scanner:
    """Finds the end of a JSON object in fragments, looking at each character once."""

    def __init__(self) -> None:
        self._scanned = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._opened = False

    def is_complete(self, fragments: Sequence[str]) -> bool:
        for fragment in fragments[self._scanned :]:
            for char in fragment:
                if self._in_string:
                    if self._escaped:
                        self._escaped = False
                    elif char == "\\":
                        self._escaped = True
                    elif char == '"':
                        self._in_string = False
                elif char == '"':
                    self._in_string = True
                elif char in "{[":
                    self._depth += 1
                    self._opened = True
                elif char in "}]":
                    self._depth -= 1
        self._scanned = len(fragments)
        return self._opened and self._depth <= 0 and not self._in_string


class ToolCallReader:
    """Assigns a stable index and ID to every tool call, however the server streams it."""

    def __init__(
        self,
        tool_names: Mapping[str, str] | None = None,
        used_ids: Collection[str] = (),
    ) -> None:
        """Start a reply.

        Args:
            tool_names: The names of the request's tools, by the names that the API knows.
            used_ids: The IDs of the conversation's earlier calls. A server that uses one
                again gets a new one, because results are matched to calls by ID.
        """
        self._calls: list[_Call] = []
        self._tool_names = tool_names or {}
        self._ids = set(used_ids)
        # The latest call with an ID, with a key, and with a key but no ID.
        self._by_id: dict[str, int] = {}
        self._by_key: dict[Hashable, int] = {}
        self._by_key_alone: dict[Hashable, int] = {}

    def feed(
        self, raw_calls: object, reply_id: object, *, whole: bool
    ) -> Iterator[ToolCallChunk]:
        """Take the `tool_calls` of a message or delta; yield chunks for LangChain.

        Raises:
            ValueError: They are not tool calls.
        """
        if not isinstance(raw_calls, list):
            msg = "`tool_calls` is not a list"
            raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
        for raw in raw_calls:
            function = raw.get("function") if isinstance(raw, Mapping) else None
            if whole and not isinstance(function, Mapping):
                msg = "a tool call has no `function` object"
                raise ValueError(msg)
            if not isinstance(raw, Mapping):
                msg = "a tool call is not an object"
                raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
            # In streams, some of vLLM's parsers send the function later than the ID.
            function = function if isinstance(function, Mapping) else {}
            args = function.get("arguments")
            if args is not None and not isinstance(args, str):
                args = json.dumps(args)  # some servers send the parsed object
            wire_id, name = _text(raw.get("id")), _text(function.get("name"))
            number = None if whole else self._find(raw.get("index"), wire_id, name)
            if number is None:
                call = _Call(raw.get("index"), wire_id, name)
                yield self._begin(call, reply_id, args or "")
            else:
                yield from self._extend(number, name, args)

    def _begin(self, call: _Call, reply_id: object, args: str) -> ToolCallChunk:
        number = len(self._calls)
        self._calls.append(call)
        key = _hashable(call.key)
        self._by_key[key] = number
        if call.wire_id:
            self._by_id[call.wire_id] = number
        else:
            self._by_key_alone[key] = number
        call_id = call.wire_id or f"call_{reply_id or uuid4().hex}_{number}"
        if call_id in self._ids:
            call_id = f"{call_id}_{uuid4().hex[:8]}"
        self._ids.add(call_id)
        shown = self._add_arguments(call, args)
        name = self._tool_names.get(call.name or "", call.name)
        return tool_call_chunk(name=name, args=shown, id=call_id, index=number)

    def _extend(
        self, number: int, name: str | None, args: str | None
    ) -> Iterator[ToolCallChunk]:
        call = self._calls[number]
        # Sent only once: langchain-core concatenates repeated names and IDs.
        addition = None
        if name and name != call.name:
            known = call.name or ""
            addition = name.removeprefix(known) if name.startswith(known) else name
            call.name = known + addition
            addition = self._tool_names.get(addition, addition) if not known else addition
        shown = self._add_arguments(call, args or "")
        if addition or shown:
            yield tool_call_chunk(name=addition, args=shown, id=None, index=number)

    @staticmethod
    def _add_arguments(call: _Call, args: str) -> str:
        """Store a fragment of arguments; return the part to pass on now."""
        if not args:
            return ""
        call.args.append(args)
        if call.is_blank and args.strip():
            call.is_blank = False
            # Not an object: `null`, or an object that is encoded twice.
            if args.lstrip()[0] in '"n':
                call.held = []
        if call.held is None:
            return args
        call.held.append(args)
        return ""

    def flush(self) -> list[ToolCallChunk]:
        """Return the arguments that were held back, in a form that everyone can parse."""
        chunks = []
        for number, call in enumerate(self._calls):
            if call.held:
                raw = "".join(call.held)
                args, problem = parse_arguments(raw)
                text = raw if problem else json.dumps(args, ensure_ascii=False)
                chunk = tool_call_chunk(name=None, args=text, id=None, index=number)
                chunks.append(chunk)
                call.held = None
        return chunks

    def _find(self, key: object, wire_id: str | None, name: str | None) -> int | None:
        """Return the number of the call that a fragment belongs to, if any.

        It is the latest call with the fragment's ID, or with its key if either lacks an
        ID. A fragment with neither belongs to the last call.
        """
        by_id = self._by_id.get(wire_id, -1) if wire_id else -1
        if key is None:
            number = by_id if wire_id else len(self._calls) - 1
        elif wire_id:
            number = max(by_id, self._by_key_alone.get(_hashable(key), -1))
        else:
            number = self._by_key.get(_hashable(key), -1)
        if number < 0:
            return None
        if number != by_id and name:
            call = self._calls[number]
            if self._starts_next(call, name, has_key=key is not None):
                return None
        return number

    def _starts_next(self, call: _Call, name: str, *, has_key: bool) -> bool:
        """Return whether a fragment with a name but no ID begins another call."""
        if call.name is None:
            return False
        if name == call.name or not has_key:
            return name != call.name or call.is_complete()
        if call.is_complete():
            return True
        # The same index and another name: the rest of the name, or another call.
        joined = call.name + name
        if joined in self._tool_names or name.startswith(call.name):
            return False
        return name in self._tool_names or bool(call.args)


def _hashable(key: object) -> Hashable:
    return key if isinstance(key, (int, float, str)) else repr(key)


def _text(value: object) -> str | None:
    # Some servers write "null" or "" for a missing ID or name.
    if value in (None, "", "null"):
        return None
    if not isinstance(value, str):
        msg = "an ID or name in `tool_calls` is not a string"
        raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
    return value


def call_ids(messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the IDs of all tool calls in the messages of a request."""
    ids = set()
    for message in messages:
        calls = message.get("tool_calls")
        # `extra_body` may have messages of any form.
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, Mapping) and isinstance(call.get("id"), str):
                ids.add(call["id"])
    return ids
