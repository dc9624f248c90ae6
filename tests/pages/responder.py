"""What a capable model would answer to the questions of the documentation, by rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from langchain_nscale.testing import ServerReply

_SOURCE = re.compile(
    r"^\[(\d+)\] (.*?)(?=^\[\d+\] |^Question: |\Z)", re.MULTILINE | re.DOTALL
)
_QUESTION = re.compile(r"^Question: (.*)\Z", re.MULTILINE | re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.:])\s+(?=[A-Z`])|\n{2,}|\|")
_SHORT = 3  # letters; shorter words say nothing


def respond(body: Mapping[str, Any]) -> ServerReply | None:
    """An answer out of numbered sources, where there are any; else the server's own."""
    said = body["messages"][-1]["content"]
    question = _QUESTION.search(said) if isinstance(said, str) else None
    if question is None:
        return None
    wanted = _words(question[1])
    candidates = [
        (len(wanted & _words(sentence)) / (9 + len(_words(sentence))), number, sentence)
        for number, text in _SOURCE.findall(said)
        for sentence in _SENTENCE.split(text)
    ]
    if not candidates:
        return None
    _, number, sentence = max(candidates, key=lambda candidate: candidate[0])
    return ServerReply(text=f"{' '.join(sentence.split()).rstrip('.')} [{number}].")


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) >= _SHORT}
