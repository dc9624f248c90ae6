"""Reads what other servers and gateways send, and vLLM 0.21.0 and 0.32.0 do not.

No recording of the real engine (tests/unit/wire) reaches these rules. Each names the
server and the report that it exists for; what they read is what the server meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from langchain_nscale._json import decode, has_surrogates, join_surrogates


class MalformedError(ValueError):
    """A JSON object that is not a chat completion; the message says why."""


# --- texts ------------------------------------------------------------------------------


class Halves:
    """Joins the halves of emojis that were split across two events.

    Gateways that pass on JSON in pieces cut a character outside the Basic Multilingual
    Plane into its two surrogates.
    """

    def __init__(self) -> None:
        self._halves: dict[Hashable, str] = {}  # pending high surrogates, by field

    def join(self, place: Hashable, text: str) -> str:
        """Return a text with what its place has held back, without a half at its end."""
        if place in self._halves:
            text = self._halves.pop(place) + text
        elif not has_surrogates(text):
            return text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[place] = text[-1]
            text = text[:-1]
        return join_surrogates(text)

    def flush(self) -> list[tuple[Any, str]]:
        """Return the place and the replacement of each half that stayed alone."""
        halves, self._halves = self._halves, {}
        return [(place, join_surrogates(half)) for place, half in halves.items()]


# Where objects in place of a text have it: OpenAI's Assistants API (`value`), gateways
# for Anthropic and Mistral (`thinking`), OpenRouter (`summary`).
_TEXT_KEYS = ("text", "value", "content", "thinking", "reasoning", "summary")
_MAX_DEPTH = 4  # objects inside of objects


def text_in(value: object, field_name: str, depth: int = 0) -> str:
    """Return the text of a field; an object or list in its place is read as its texts."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if depth < _MAX_DEPTH and isinstance(value, list):
        return "".join(text_in(item, field_name, depth + 1) for item in value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        for key in _TEXT_KEYS:
            if key in value:
                return text_in(value[key], field_name, depth + 1)
        if "type" in value:  # a part without text, such as an encrypted one
            return ""
    what = f"`{field_name}` is not a string"
    raise MalformedError(what)


PartKind = Literal["text", "reasoning", "refusal", "other"]
_PART_KINDS: Mapping[object, PartKind] = {
    None: "text",
    "output_text": "text",
    "reasoning": "reasoning",
    "refusal": "refusal",
    "text": "text",
    "thinking": "reasoning",
}


def content_parts(content: object) -> Iterator[tuple[PartKind, str, object]]:
    """Yield the kind and text of each part of a list or object, and the part itself."""
    # Mistral's API writes the content of its reasoning models as a list of parts
    # (`thinking`, `text`); gateways for other APIs add parts of their own, such as
    # images, which have no text.
    if not isinstance(content, (list, Mapping)):
        what = "`content` is neither a string nor a list"
        raise MalformedError(what)
    for part in [content] if isinstance(content, Mapping) else content:
        if isinstance(part, str) or part is None:
            yield "text", part or "", part
            continue
        kind = part.get("type") if isinstance(part, Mapping) else "other"
        known = _PART_KINDS.get(kind if isinstance(kind, str) else None, "other")
        has_text = known != "other" and (kind in part or "text" in part)
        if not has_text:
            yield "other", "", part
            continue
        text = part[kind] if kind in part else part["text"]
        yield known, text_in(text, "content"), part


class Pieces:
    """Joins the values of a field that comes with several deltas.

    Texts and lists are concatenated, and of anything else the last value counts. A field
    that is the same in all deltas is not in pieces: gateways repeat their own fields
    (OpenRouter's `provider`).
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Any]] = {}

    def add(self, name: str, value: object) -> None:
        """Take the next value of a field."""
        self._values.setdefault(name, []).append(value)

    def joined(self) -> dict[str, Any]:
        """Return the value of each field."""
        return {name: _joined(values) for name, values in self._values.items()}


def _joined(values: list[Any]) -> Any:
    last = values[-1]
    if all(value == last for value in values):
        return last
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    return last


# --- objects ----------------------------------------------------------------------------

DONE = b"[DONE]"
CHOICES = b'"choices"'


def decode_loosely(data: bytes) -> object:
    """Decode one JSON object that something surrounds, or that is encoded twice."""
    # Gateways repeat the field name (`data: data: {…}`; openclaw/openclaw#97474), or end
    # a whole reply with the `[DONE]` of a stream. A chat completion in such an event must
    # not be skipped.
    try:
        value = decode(data)
    except ValueError:
        start, end = data.find(b"{"), data.rfind(b"}")
        if not 0 <= start < data.find(CHOICES):
            raise
        return decode(data[start : end + 1])
    if isinstance(value, str) and '"choices"' in value:
        return decode(value.encode("utf-8", "surrogatepass"))
    return value


def without_done(body: bytes) -> bytes:
    """Return a body without the end of a stream after it."""
    rest = body.rstrip().removesuffix(DONE)
    return rest.rstrip().removesuffix(b"data:") if len(rest) < len(body) else body


# --- tool calls -------------------------------------------------------------------------

# What gpt-oss and Kimi K2 put around a tool's name: tokens of the Harmony format
# (`name<|channel|>commentary`; vllm#32587, vllm#26083), the namespace `functions.`, and
# the call's number (`functions.name:0`).
_AROUND_NAME = re.compile(r"(?:functions\.)?(.*?)(?::\d+)?(?:(?:<\||\s).*)?", re.DOTALL)


def offered_name(name: str, offered: Collection[str]) -> str:
    """Return the name of the request's tool that a model means, or else the name."""
    if name in offered or not offered:
        return name
    match = _AROUND_NAME.fullmatch(name)
    return match[1] if match and match[1] in offered else name


class Fragment(NamedTuple):
    """A part of a tool call, as received."""

    key: Hashable  # the server's index
    wire_id: str | None  # the server's ID
    name: str | None  # perhaps a part of it
    args: str


def fragment_of(raw: object, *, whole: bool) -> Fragment:
    """Read one entry of `tool_calls`; a complete call must have a function."""
    # In streams, some of vLLM's parsers send the function later than the ID.
    function = raw.get("function") if isinstance(raw, Mapping) else None
    if whole and not isinstance(function, Mapping):
        what = "a tool call has no `function` object"
        raise MalformedError(what)
    if not isinstance(raw, Mapping):
        what = "a tool call is not an object"
        raise MalformedError(what)
    function = function if isinstance(function, Mapping) else {}
    args = function.get("arguments")
    if args is not None and not isinstance(args, str):
        args = json.dumps(args)  # Ollama and TGI send the parsed object
    key = raw.get("index")
    return Fragment(
        key if isinstance(key, (int, float, str)) or key is None else repr(key),
        _identifier(raw.get("id")),
        _identifier(function.get("name")),
        args or "",
    )


def _identifier(value: object) -> str | None:
    # Gateways write "null" or "" for a missing ID or name (langchainjs#11373).
    if value in (None, "", "null"):
        return None
    if not isinstance(value, str):
        what = "an ID or name in `tool_calls` is not a string"
        raise MalformedError(what)
    return value


def is_placeholder(held: Sequence[str]) -> bool:
    """Return whether arguments only stand for those that follow."""
    # Gateways for Gemini and Claude begin a call with `{}`, `""` or `null`, and send the
    # arguments then (microsoft/autogen#7549, envoyproxy/ai-gateway#1465).
    return len(held) == 1 and held[0].strip() in ("{}", '""', "null")


class OpenCall:
    """A call whose fragments are being received."""

    def __init__(self, fragment: Fragment) -> None:
        """Begin a call without arguments."""
        self.key, self.wire_id, self.name, _ = fragment
        self.args: list[str] = []
        self.is_blank = True  # whether the arguments are empty so far
        self._scanner = _Scanner()
        self._whole: str | None = None

    def restart(self) -> None:
        """Discard the arguments received so far."""
        self.args.clear()
        self.is_blank = True
        self._scanner = _Scanner()

    def is_complete(self) -> bool:
        """Return whether the arguments are a complete JSON object, in linear time."""
        return not self.is_blank and self._scanner.is_complete(self.args)

    def is_repeated_by(self, args: str) -> bool:
        """Return whether arguments are an object, complete, and repeat this call's."""
        return self.has_ended_before(args) and args.strip() == self._whole

    def has_ended_before(self, args: str) -> bool:
        """Return whether arguments begin an object after the end of this call's."""
        # Almost no fragment begins with a brace.
        if self.is_blank or args.lstrip()[:1] != "{" or not self.is_complete():
            return False
        if self._whole is None:
            self._whole = "".join(self.args).strip()
        return not is_placeholder([self._whole])


class _Scanner:
    """Finds the end of a JSON object in fragments, looking at each character once."""

    def __init__(self) -> None:
        self._scanned = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._opened = False

    def is_complete(self, fragments: list[str]) -> bool:
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


class CallFinder:
    """Tells which call a fragment belongs to.

    It belongs to the call with its ID and index, else with its ID, else with its index,
    the latest if there are several; without ID and index, to the last call. Then:

    - A fragment without a name begins no call, since a call needs a name. If its ID and
      index are new, it belongs to the last call (gpt-oss on vLLM sends a new ID with each
      fragment, vllm#23522; SGLang's first index is the tool's place in the request,
      sglang#6310). Without arguments it announces the ID of a call whose name follows.
      Only an object after complete arguments that does not repeat them belongs to
      another call: to the last one, or to one whose name was announced or got lost.
    - After complete arguments, a fragment with a name begins a call, unless it repeats
      them (LM Studio), or has none and the same name, ID and index (older vLLM).
    - Before that, a fragment with a name begins a call if its index is another one,
      whatever its ID (llama.cpp#27966: parallel calls share an ID), or if its name is,
      unless it continues the name (names in pieces, or repeated from their beginning).
    """

    def __init__(self, offered: Collection[str]) -> None:
        """Start a reply to a request with these tools, by the names the API knows."""
        self._offered = offered
        self._last: OpenCall | None = None
        self._by_id: dict[str, OpenCall] = {}
        self._by_key: dict[Hashable, OpenCall] = {}
        self._by_both: dict[tuple[Hashable, str], OpenCall] = {}
        self._announced: dict[Hashable, Fragment] = {}

    def assign(self, fragment: Fragment) -> tuple[OpenCall | None, bool]:
        """Return the call of a fragment, if any yet, and whether it is a new one."""
        call = self._owner(fragment)
        if call is not None:
            self._remember(fragment, call)
            return call, False
        if fragment.name is None and not fragment.args.strip():
            self._announced[fragment.key] = fragment
            return None, False
        return self.begin(fragment), True

    def begin(self, fragment: Fragment) -> OpenCall:
        """Begin a call with a fragment."""
        told = self._announced.pop(fragment.key, None)
        if told is not None:
            fragment = fragment._replace(
                name=fragment.name or told.name, wire_id=fragment.wire_id or told.wire_id
            )
        self._last = call = OpenCall(fragment)
        self._remember(fragment, call)
        return call

    def _remember(self, fragment: Fragment, call: OpenCall) -> None:
        key, wire_id, _, _ = fragment
        if key is not None:
            self._by_key[key] = call
        if wire_id is not None:
            self._by_id[wire_id] = call
            self._by_both[key, wire_id] = call

    def _owner(self, fragment: Fragment) -> OpenCall | None:
        key, wire_id, name, args = fragment
        if wire_id is None:
            call = self._last if key is None else self._by_key.get(key)
        else:
            call = self._by_both.get((key, wire_id)) or self._by_id.get(wire_id)
            call = call or (None if key is None else self._by_key.get(key))
        if name is not None:
            return None if call is None or self._begins(call, fragment) else call
        if call is None and args.strip():
            call = self._last
        if call is not None and call.has_ended_before(args):
            last = self._last
            if last is not None and not last.is_complete():
                return last
            return call if call.is_repeated_by(args) else None
        return call

    def _begins(self, call: OpenCall, fragment: Fragment) -> bool:
        """Return whether a fragment with a name begins a call, rather than continues."""
        key, wire_id, name, args = fragment
        if call.name is None or name is None:
            return False
        has_other_key = key is not None and self._by_key.get(key) is not call
        has_new_id = wire_id is not None and wire_id not in self._by_id
        if call.is_complete():
            if name != call.name or has_other_key or has_new_id:
                return True
            if not args.strip():
                self._announced[key] = fragment
                return False
            return not call.is_repeated_by(args) or wire_id is key is None
        if has_other_key:
            return name != call.name or _begins_object(call, args)
        return name != call.name and (
            not call.is_blank or self._is_another(call.name, fragment, is_new=has_new_id)
        )

    def _is_another(self, known: str, fragment: Fragment, *, is_new: bool) -> bool:
        """Return whether a name is that of another call, and not the rest of one."""
        name = fragment.name or ""
        if is_new and name in self._offered:
            return True
        if name.startswith(known) or known + name in self._offered:
            return False
        is_whole = name in self._offered or known in self._offered
        return is_whole or is_new or fragment.key is None


def _begins_object(call: OpenCall, args: str) -> bool:
    """Return whether a fragment with the name of an incomplete call is another one's."""
    # Parallel calls can begin before the first has arguments; otherwise, only an object
    # that begins within another tells.
    return not args.strip() if call.is_blank else args.lstrip().startswith("{")
