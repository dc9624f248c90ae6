"""Tool calls: joining their fragments, and telling complete ones from truncated ones."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import NAMESPACE_OID, uuid4, uuid5

from langchain_core.utils.json import parse_partial_json

from langchain_nscale._json import has_surrogates
from langchain_nscale._replies.leniency import (
    CallFinder,
    Fragment,
    MalformedError,
    OpenCall,
    fragment_of,
    is_placeholder,
    offered_name,
)

if TYPE_CHECKING:
    from langchain_core.messages import InvalidToolCall, ToolCall, ToolCallChunk

_CHUNK: Literal["tool_call_chunk"] = "tool_call_chunk"
TRUNCATED = "The call was cut off before its arguments were complete."
STOPPED = (
    "The stop string {!r} may have cut off the call: after a complete call it looks the "
    "same. Don't set `stop` in calls with tools."
)
NOT_OFFERED = (
    "The model was not offered a tool of this name, and the call has no arguments."
)
SCATTERED = "The arguments of this call can't be told from those of other calls."
# Appended to the arguments of a streamed call that must not be executed, so that
# langchain-core's lenient parser rejects the call however the chunks are added up. Each
# begins with what makes the text before it unparsable, and the number of spaces tells how
# long that is: `{"` with `"}` would otherwise look like `{""` with `}`.
_BREAKERS = tuple(
    f"{quotes}{bracket}{' ' * (1 + len(quotes))}[not executable]"
    for quotes in ("", '"', '\\"')
    for bracket in "]}"
)


# --- arguments --------------------------------------------------------------------------


def parse_arguments(raw: str) -> tuple[dict[str, Any], str | None]:
    """Parse the arguments of a call strictly; return them, and why they are invalid.

    Empty arguments and `null` mean none. Anything else must be a JSON object, possibly
    encoded twice, with values that can be sent back: finite numbers and valid Unicode.
    """
    if not raw.strip():
        return {}, None
    try:
        value = _decode(raw)
        if isinstance(value, str):
            value = _decode(value)
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


# Models write raw newlines into strings; strict=False accepts them.
_decode = json.JSONDecoder(
    strict=False, parse_constant=_reject, parse_float=_finite
).decode


def parse_tool_calls(
    calls: Iterable[ToolCallChunk], problems: Mapping[int | None, str] | None = None
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Separate calls that can be executed from those that can't.

    `problems` has, by index, why calls can't be executed even if they are valid JSON.
    """
    valid: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in calls:
        name, raw, own_id = call["name"], call["args"] or "", call["id"]
        args, problem = parse_arguments(raw)
        problem = problem or (problems or {}).get(call["index"])
        if not name and problem is None:
            problem = "The call has no name."
        if problem is None:
            valid.append(
                {"name": name or "", "args": args, "id": own_id, "type": "tool_call"}
            )
        else:
            broken = {"name": name, "args": raw, "id": own_id, "error": problem}
            invalid.append(
                cast("InvalidToolCall", {**broken, "type": "invalid_tool_call"})
            )
    return valid, invalid


def breaker(raw: str) -> str:
    """Return a text that makes arguments invalid for langchain-core's lenient parser."""
    for candidate in _BREAKERS:
        if not _is_accepted(raw + candidate):
            return candidate
    return _BREAKERS[0]  # pragma: no cover  # one of them always works


def _is_accepted(args: str) -> bool:
    """Return whether langchain-core would turn arguments into an executable call."""
    try:
        return isinstance(parse_partial_json(args), dict)
    except (ValueError, RecursionError):
        return False


def original_arguments(args: str) -> str:
    """Return the arguments of an invalid call as the model wrote them."""
    candidate = next(filter(args.endswith, _BREAKERS), None)
    raw = args.removesuffix(candidate or "")
    return raw if candidate and breaker(raw) == candidate else args


def call_chunk(
    name: str | None, args: str, call_id: str | None, index: int | None
) -> ToolCallChunk:
    """Return a fragment of a call in LangChain's form."""
    return {"name": name, "args": args, "id": call_id, "index": index, "type": _CHUNK}


# --- fragments --------------------------------------------------------------------------


class ToolCallReader:
    """Assigns a stable index and ID to every tool call, however the server streams it."""

    def __init__(
        self, tool_names: Mapping[str, str] | None = None, used_ids: Collection[str] = ()
    ) -> None:
        """Start a reply."""
        # A server that uses one of `used_ids`, those of the conversation's earlier calls,
        # gets a new one, because results are matched to calls by ID.
        self._tool_names = tool_names or {}
        self._ids = set(used_ids)
        self._finder = CallFinder(self._tool_names)
        self._shown: dict[OpenCall, int] = {}  # the index of each call
        self._waiting: OpenCall | None = None  # the last call, until its name is known
        # Arguments that are kept until they are complete.
        self._held: dict[OpenCall, list[str]] = {}
        self._is_whole = False  # whether the calls came whole

    def feed(
        self, raw_calls: object, reply_id: object, *, whole: bool
    ) -> Iterator[ToolCallChunk]:
        """Take the `tool_calls` of a message or delta; yield chunks for LangChain."""
        if not isinstance(raw_calls, list):
            what = "`tool_calls` is not a list"
            raise MalformedError(what)
        for raw in raw_calls:
            if raw is None:
                continue
            fragment = fragment_of(raw, whole=whole)
            if whole:
                self._is_whole = True
                call, is_new = self._finder.begin(fragment), True
            else:
                found, is_new = self._finder.assign(fragment)
                if found is None:
                    continue
                call = found
            if is_new:
                yield from self._show(reply_id)
                self._waiting = call
            yield from self._add(call, fragment, reply_id, is_new=is_new)

    def _add(
        self, call: OpenCall, fragment: Fragment, reply_id: object, *, is_new: bool
    ) -> Iterator[ToolCallChunk]:
        addition = None if is_new else self._add_name(call, fragment.name)
        shown = self._add_arguments(call, fragment.args)
        if call is self._waiting:
            if not call.is_blank or self._is_final(call.name or ""):
                yield from self._show(reply_id)
        elif addition or shown:
            # Sent only once: langchain-core concatenates repeated names and IDs.
            index = self._shown[call]
            yield call_chunk(addition, shown, None, index)

    def _add_name(self, call: OpenCall, name: str | None) -> str | None:
        """Extend a call's name; return the addition."""
        if not name or name == call.name:
            return None
        known = call.name
        if known is None:
            call.name = name
            return self._name_of(call)
        addition = name.removeprefix(known)
        call.name = known + addition
        return addition

    def _name_of(self, call: OpenCall) -> str | None:
        """Return the name of a call's tool as the user knows it."""
        if call.name is None:
            return None
        name = offered_name(call.name, self._tool_names)
        return self._tool_names.get(name, name)

    def _is_final(self, name: str) -> bool:
        """Return whether nothing that follows a name would change it."""
        # A name in pieces must be complete before it is changed back to the user's.
        names = self._tool_names
        longer = (other for other in names if other != name and other.startswith(name))
        return not names or (name in names and next(longer, None) is None)

    def _show(self, reply_id: object) -> Iterator[ToolCallChunk]:
        """Yield the first chunk of the call that waits, if any."""
        call, self._waiting = self._waiting, None
        if call is None:
            return
        number = len(self._shown)
        self._shown[call] = number
        yield call_chunk(
            self._name_of(call),
            "" if call in self._held else "".join(call.args),
            self._id_for(call, reply_id, number),
            number,
        )

    def _id_for(self, call: OpenCall, reply_id: object, number: int) -> str:
        """Return the server's ID of a call, or one like it."""
        # It ends in nine letters and digits, because vLLM cuts the IDs for Mistral models
        # to their last nine characters, and mistral-common accepts nothing else
        # (vllm#9019, vllm#47734). The same reply always gets the same IDs.
        call_id = call.wire_id
        attempt = 0
        while not call_id or call_id in self._ids:
            seed = f"{reply_id}/{number}/{call.wire_id}/{attempt}" if reply_id else None
            made = uuid4() if seed is None else uuid5(NAMESPACE_OID, seed)
            call_id = f"call_{made.hex}"
            attempt += 1
        self._ids.add(call_id)
        return call_id

    def _add_arguments(self, call: OpenCall, args: str) -> str:
        """Store a fragment of arguments; return the part to pass on now."""
        if not args or call.is_repeated_by(args):
            return ""
        held = self._held.get(call)
        if held is not None and args.lstrip()[:1] == "{" and is_placeholder(held):
            held = None
            del self._held[call]
            call.restart()
        call.args.append(args)
        if call.is_blank and args.strip():
            call.is_blank = False
            # Not an object (`null`, or an object that is encoded twice), or perhaps a
            # placeholder.
            if args.lstrip()[0] in '"n' or args.strip() == "{}":
                self._held[call] = held = []
        if held is None:
            return args
        held.append(args)
        return ""

    def flush(self, reply_id: object = None) -> list[ToolCallChunk]:
        """Return what was held back, with arguments in a form that everyone can parse."""
        chunks = list(self._show(reply_id))
        for call, held in self._held.items():
            raw = "".join(held)
            args, problem = parse_arguments(raw)
            text = raw if problem else json.dumps(args, ensure_ascii=False)
            index = self._shown[call]
            chunks.append(call_chunk(None, text, None, index))
        self._held.clear()
        return chunks

    def problems(self) -> dict[int | None, str]:
        """Return why calls can't be executed, by index, whatever their arguments say."""
        problems: dict[int | None, str] = {}
        for call, index in self._shown.items():
            if call.is_blank and self._is_scattered(call):
                problems[index] = SCATTERED
            elif self._tool_names and not call.args and not self._is_offered(call):
                problems[index] = NOT_OFFERED
        return problems

    def _is_scattered(self, call: OpenCall) -> bool:
        """Return whether arguments of a call may be those of another call."""
        return any(
            other.name is None or (call.wire_id and other.wire_id == call.wire_id)
            for other in self._shown
            if other is not call and not self._is_whole
        )

    def _is_offered(self, call: OpenCall) -> bool:
        return offered_name(call.name or "", self._tool_names) in self._tool_names


def has_parameters(tools: object, name: str | None) -> bool:
    """Return whether a tool of the request, whose form may be any, may have arguments."""
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if isinstance(function, Mapping) and function.get("name") == name:
            parameters = function.get("parameters")
            return bool(isinstance(parameters, Mapping) and parameters.get("properties"))
    return True


def call_ids(messages: Sequence[Any]) -> set[str]:
    """Return the IDs of all tool calls in a conversation, of messages or plain dicts."""
    # Not those of the request, where some are replaced for Mistral's models.
    ids: set[str | None] = set()
    for message in messages:
        fields: Mapping[str, Any] = (
            message if isinstance(message, dict) else vars(message)
        )
        ids.add(fields.get("tool_call_id"))
        for name in ("tool_calls", "invalid_tool_calls"):
            for call in fields.get(name) or ():
                ids.add(call["id"])
    return {call_id for call_id in ids if call_id}
