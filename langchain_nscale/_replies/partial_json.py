"""Reads a JSON object or array as it arrives, each character once.

langchain-core's parsers read the whole text again for each chunk: a structured answer of
32 KB then takes ten times as long as one of 8 KB.
"""

from __future__ import annotations

import json
import re
from typing import Any

_MAX_DEPTH = 200  # each level is copied for each chunk
_MAX_SCALAR = 400  # characters of a number; a longer one ends the value
_LONGEST_ESCAPE = 12  # characters, of a surrogate pair

_FENCE = re.compile(r"```(?:json)?")
_SPACE = re.compile(r"\s*")
_PLAIN = re.compile(r'[^"\\]*')
_SCALAR = re.compile(r"[-+.\w]*")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|u[0-9a-fA-F]{4}|[^u])"
)
# What may become one of these when more arrives.
_UNFINISHED_ESCAPE = re.compile(
    r"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?))?\Z"
)
_NOTHING: Any = object()


class PartialJson:
    """A JSON object or array of which a part has arrived.

    Texts and numbers show what has arrived of them. A Markdown fence before the
    value is skipped. Whatever follows the value, or is not valid JSON, ends it.
    """

    def __init__(self) -> None:
        """Begin without any text."""
        self.has_ended = False  # whether nothing can follow
        self.version = 0  # grows if and only if the value changes
        self._text = ""
        self._at = 0  # index of the first unread character
        self._open: list[Any] = []  # the containers that have not ended, outermost first
        self._keys: list[Any] = []  # the key under which each of them stands
        self._key: Any = _NOTHING  # the key of the next value
        self._string: str | None = None  # the text being read, without its quotes
        self._scalar: Any = _NOTHING  # the number being read, if it is one already
        self._step = self._read_start

    def feed(self, text: str) -> None:
        """Read the next piece of the text."""
        self._text = "" if self.has_ended else self._text[self._at :] + text
        self._at = 0
        while not self.has_ended and self._at < len(self._text) and self._step():
            pass

    @property
    def value(self) -> Any:
        """A copy of what has arrived; `None` before the value begins.

        Objects and arrays inside it that have ended are not copied.
        """
        if not self._open:
            return None
        child = self._unfinished()
        for container, key in zip(reversed(self._open), self._inner_keys(), strict=True):
            copied = container.copy()
            if child is not _NOTHING:
                if isinstance(copied, list):
                    copied.append(child)
                else:
                    copied[key] = child
            child = copied
        return child

    @property
    def _is_key(self) -> bool:
        """True if the text being read is a key."""
        return self._key is _NOTHING and isinstance(self._open[-1], dict)

    def _inner_keys(self) -> list[Any]:
        """Return the key of the unfinished value in each container, innermost first."""
        return [*reversed([*self._keys[1:], self._key])]

    def _unfinished(self) -> Any:
        """Return the text or number being read, if it is valid so far."""
        if self._is_key:
            return _NOTHING
        if self._string is not None:
            return self._string
        return self._scalar

    # --- steps: each returns whether it could continue with the text that is there -----

    def _take(self, pattern: re.Pattern[str]) -> str:
        """Read what matches a pattern, perhaps nothing."""
        match = pattern.match(self._text, self._at)
        taken = match[0] if match else ""
        self._at += len(taken)
        return taken

    def _peek(self) -> str:
        """Return the next character that is not white space; "" if there is none yet."""
        self._take(_SPACE)
        return self._text[self._at : self._at + 1]

    def _read_start(self) -> bool:
        first = self._peek()
        if first == "`":
            rest = self._text[self._at : self._at + len("```json")]
            if "```json".startswith(rest) and rest != "```json":
                return False  # the rest of the fence has not arrived
            self._take(_FENCE)
        if first:
            self._step = self._read_first
        return bool(first)

    def _read_first(self) -> bool:
        first = self._peek()
        if first in ("{", "["):
            return self._begin(first)
        self.has_ended = bool(first)
        return False

    def _begin(self, bracket: str) -> bool:
        """Begin an object or array."""
        self._at += 1
        if len(self._open) == _MAX_DEPTH:
            self.has_ended = True
            return False
        self._keys.append(self._key)
        self._open.append({} if bracket == "{" else [])
        self._key = _NOTHING
        self.version += 1
        self._step = self._read_key if bracket == "{" else self._read_value
        return True

    def _begin_string(self) -> None:
        self._at += 1
        self._string = ""
        self._step = self._read_string

    def _read_key(self) -> bool:
        first = self._peek()
        if first == '"':
            self._begin_string()
        elif first == "}" and not self._open[-1]:
            self._close()
        elif first:
            self.has_ended = True
        return bool(first)

    def _read_value(self) -> bool:
        first = self._peek()
        if first in ("{", "["):
            return self._begin(first)
        if first == '"':
            self.version += 1
            self._begin_string()
        elif first == "]" and self._open[-1] == []:
            self._close()
        elif first and _SCALAR.match(first):
            self._step = self._read_scalar
        elif first:
            self.has_ended = True
        return bool(first)

    def _read_string(self) -> bool:
        parts = []
        while (rest := self._text[self._at : self._at + _LONGEST_ESCAPE]) and (
            rest[0] != '"'
        ):
            if rest[0] != "\\":
                parts.append(self._take(_PLAIN))
            elif _UNFINISHED_ESCAPE.match(rest):
                break
            elif escape := self._take(_ESCAPE):
                parts.append(_unescaped(escape))
            else:
                self.has_ended = True
                break
        if parts:
            self._string = (self._string or "") + "".join(parts)
            self.version += not self._is_key
        if not rest.startswith('"'):
            return False
        self._at += 1
        text, self._string = self._string, None
        if self._is_key:
            self._key = text
            self._step = self._read_colon
        else:
            self._add(text)
        return True

    def _read_colon(self) -> bool:
        first = self._peek()
        self.has_ended = first not in ("", ":")
        if first == ":":
            self._at += 1
            self._step = self._read_value
        return bool(first)

    def _read_scalar(self) -> bool:
        match = _SCALAR.match(self._text, self._at, self._at + _MAX_SCALAR)
        text = match[0] if match else ""
        value = _scalar(text) if len(text) < _MAX_SCALAR else _NOTHING
        self.version += value != self._scalar
        self._scalar = value
        if self._at + len(text) == len(self._text):  # more of it may follow
            return False
        self._scalar = _NOTHING
        self._at += len(text)
        self.has_ended = value is _NOTHING
        if not self.has_ended:
            self._add(value)
        return True

    def _read_separator(self) -> bool:
        first = self._peek()
        is_object = isinstance(self._open[-1], dict)
        if first == ("}" if is_object else "]"):
            self._close()
        elif first == ",":
            self._at += 1
            self._step = self._read_key if is_object else self._read_value
        elif first:
            self.has_ended = True
        return bool(first)

    def _add(self, value: Any) -> None:
        """Add a complete value to the innermost container."""
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            container[self._key] = value
            self._key = _NOTHING
        self._step = self._read_separator

    def _close(self) -> None:
        """End the innermost container."""
        self._at += 1
        if len(self._open) == 1:
            self.has_ended = True
            return
        value = self._open.pop()
        self._key = self._keys.pop()
        self._add(value)


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _NOTHING


def _unescaped(escape: str) -> str:
    try:
        return str(json.loads(f'"{escape}"', strict=False))
    except ValueError:  # not an escape: kept as the model wrote it
        return escape
