"""Separates reasoning that a model writes into its text, between think tags."""

from __future__ import annotations

from typing import Literal

ThinkTags = Literal["off", "both", "closing"]

_OPEN = "<think>"
_CLOSE = "</think>"
# Longest run of leading white space to buffer while waiting for a tag.
_MAX_LEADING_SPACE = 64


class ThinkSplitter:
    """Splits a text that arrives in pieces into reasoning and answer.

    Only reasoning at the beginning of the text counts. White space around the tags is
    dropped, except before the closing tag. Cost is linear in the text.
    """

    def __init__(self, tags: ThinkTags, *, expects_json: bool = False) -> None:
        """Start a text; with tags `"closing"`, the prompt contains the opening one."""
        # A text that begins as JSON is the answer if JSON is expected: without a
        # reasoning parser, vLLM's grammar holds from the first token (vllm#47027).
        self._opened = tags == "closing"
        self._expects_json = expects_json
        self._state: Literal["start", "reasoning", "answer"] = "start"
        self._held = ""  # the end of the text, where it may be the start of a tag
        self._strip = True

    def expect_tags(self) -> None:
        """Take only what is between tags for reasoning."""
        self._opened = False

    def feed(self, text: str) -> tuple[str, str]:
        """Take the next piece; return the reasoning and the answer that it adds."""
        text = self._held + text
        self._held = ""
        if self._state == "start":
            body = text.lstrip()
            is_prefix = body != _OPEN and _OPEN.startswith(body)
            if len(text) < _MAX_LEADING_SPACE and is_prefix:
                self._held = text
                return "", ""
            if body.startswith(_OPEN):
                self._state = "reasoning"
                text = body[len(_OPEN) :]
            else:
                is_json = self._expects_json and body[:1] in ("{", "[")
                is_open = self._opened and not is_json
                self._state = "reasoning" if is_open else "answer"
                self._strip = is_open
        if self._state == "answer":
            return "", self._stripped(text)
        reasoning, tag, answer = text.partition(_CLOSE)
        if not tag:
            length = _overlap(text)
            self._held = text[len(text) - length :]
            return self._stripped(text[: len(text) - length]), ""
        reasoning = self._stripped(reasoning)
        self._state = "answer"
        self._strip = True
        return reasoning, self._stripped(answer)

    def flush(self) -> tuple[str, str]:
        """Return the text still held back, after the last piece."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "reasoning" else ("", held)

    def _stripped(self, text: str) -> str:
        if self._strip:
            text = text.lstrip()
            self._strip = not text
        return text


def _overlap(text: str) -> int:
    """Return the length of the longest suffix of a text that may begin a closing tag."""
    for length in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if text.endswith(_CLOSE[:length]):
            return length
    return 0
