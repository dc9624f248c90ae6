"""Reasoning that a model writes into its text, between `<think>` and `</think>`. Pure."""

from __future__ import annotations

from typing import Literal

ThinkTags = Literal["off", "both", "closing"]

_OPEN = "<think>"
_CLOSE = "</think>"
# White space before a tag that is waited through; more of it is an answer.
_PATIENCE = 64


class ThinkSplitter:
    """Sorts a text that comes in pieces into reasoning and answer.

    Only reasoning at the head of the text counts. White space around the tags is
    dropped, but for that before the closing one. Cost is linear in the text.
    """

    def __init__(self, tags: ThinkTags) -> None:
        """Start a text.

        Args:
            tags: `"both"`: it is reasoning only after an opening tag. `"closing"`: the
                opening tag is in the prompt, so the text begins with reasoning.
        """
        self._opened = tags == "closing"
        self._state: Literal["start", "reasoning", "answer"] = "start"
        self._held = ""  # the end of what came, where it may be a part of a tag
        self._strip = True

    def feed(self, text: str) -> tuple[str, str]:
        """Take the next piece; return the reasoning and the answer that it adds."""
        text = self._held + text
        self._held = ""
        if self._state == "start":
            body = text.lstrip()
            if len(text) < _PATIENCE and body != _OPEN and _OPEN.startswith(body):
                self._held = text
                return "", ""
            if body.startswith(_OPEN):
                self._state = "reasoning"
                text = body[len(_OPEN) :]
            else:
                self._state = "reasoning" if self._opened else "answer"
                self._strip = self._opened
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

    def close(self) -> tuple[str, str]:
        """Return what has been held back, now that no more comes."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "reasoning" else ("", held)

    def _stripped(self, text: str) -> str:
        if self._strip:
            text = text.lstrip()
            self._strip = not text
        return text


def _overlap(text: str) -> int:
    """The length of the longest end of a text with which a closing tag may begin."""
    for length in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if text.endswith(_CLOSE[:length]):
            return length
    return 0
