"""Recognizes the events of a stream that only differ in their text.

Every server repeats the ID, the model and the time with each token: of vLLM's 200 bytes,
5 are new. Decoding the others again, and reading what they say, is half of the cost of a
token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from langchain_nscale._json import decode

# An attempt costs as much as four recognized events save. So a server whose events always
# differ in something else costs only the first few.
_FIRST_ATTEMPTS = 4
_TEXTS = ("content", "reasoning_content", "reasoning")
_CHOICE = {"delta", "finish_reason", "index", "logprobs"}
_DELTA = {"refusal", "role", "tool_calls", *_TEXTS}
_TEXT = re.compile(rb'(?s)[^"\\]*(?:\\.[^"\\]*)*')  # until the quotation mark after it
_PROBE = "?"


class Repeats:
    """Remembers what surrounds the text in the events of one stream."""

    __slots__ = ("_after", "_attempts", "_before", "field")

    def __init__(self) -> None:
        self.field = ""  # that has the text
        self._before = self._after = b""
        self._attempts = float(_FIRST_ATTEMPTS)  # that are left

    def text_of(self, event: bytes) -> str | None:
        """Return the text of an event that has nothing else to say, if it is known."""
        before, after = self._before, self._after
        if not before or type(event) is not bytes:  # else it may be marked as an error
            return None
        end = len(event) - len(after)
        is_like = event.startswith(before) and event.endswith(after)
        if not is_like or end < len(before):
            return None
        try:
            text = decode(b'"%b"' % event[len(before) : end])
        except ValueError:  # it is not one text, but perhaps several
            return None
        self._attempts += 0.25  # it pays for another
        return str(text)

    def learn(self, event: bytes, completion: Mapping[str, Any]) -> None:
        """Learn from an event that was decoded, if it has nothing but text to say."""
        self._before = b""
        if self._attempts < 1 or (found := _only_text(completion)) is None:
            return
        self._attempts -= 1
        self.field = found
        for mark in (b'"%b":"', b'"%b": "'):
            before, is_there, rest = event.partition(mark % found.encode())
            if is_there and (text := _TEXT.match(rest)):
                before, after = before + is_there, rest[text.end() :]
                if _is_its_place(before, after, completion, found):
                    self._before, self._after = before, after
                return


def _only_text(completion: Mapping[str, Any]) -> str | None:
    """Return the field of the text of an object that adds nothing else to a reply."""
    choices = completion.get("choices")
    if completion.get("usage") or not isinstance(choices, list) or len(choices) != 1:
        return None
    choice = choices[0]
    if not isinstance(choice, dict) or not choice.keys() <= _CHOICE:
        return None
    delta = choice.get("delta")
    if choice.get("finish_reason") or choice.get("logprobs"):
        return None
    if not isinstance(delta, dict) or not delta.keys() <= _DELTA:
        return None
    said = [name for name, value in delta.items() if value and name != "role"]
    if len(said) != 1 or said[0] not in _TEXTS:
        return None
    return said[0] if isinstance(delta[said[0]], str) else None


def _is_its_place(
    before: bytes, after: bytes, completion: Mapping[str, Any], field: str
) -> bool:
    """Return whether a text between these bytes would be the only difference."""
    # The field's name could be somewhere else as well, or be there twice.
    try:
        probe: Any = decode(before + _PROBE.encode() + after)
    except ValueError:
        return False
    delta, expected = probe["choices"][0]["delta"], completion["choices"][0]["delta"]
    if delta.get(field) != _PROBE:
        return False
    delta[field] = expected[field]
    return bool(probe == completion)
