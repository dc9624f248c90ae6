from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.tools import tool
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from langchain_nscale import ChatNscale

VOCABULARY = {"[UNK]": 0, "Hello": 1, "world": 2}
WORDS = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
WORDS.pre_tokenizer = Whitespace()


def model(**settings: Any) -> ChatNscale:
    return ChatNscale(model="m", api_key="t", **settings)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_without_a_tokenizer_counts_are_estimates() -> None:
    messages = [SystemMessage("Be brief."), HumanMessage("Hello world")]
    assert model().get_num_tokens("Hello world") == 3
    count = model().get_num_tokens_from_messages(messages)
    assert count == count_tokens_approximately(messages)
    assert model().get_num_tokens_from_messages(messages, [add]) > count
    with pytest.raises(NotImplementedError, match="`tokenizer`"):
        model().get_token_ids("Hello")


def test_a_tokenizer_object_or_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    WORDS.save(str(path))
    for given in (WORDS, path, str(path)):
        counted = model(tokenizer=given)
        assert counted.get_token_ids("Hello world") == [1, 2]
        assert counted.get_num_tokens("Hello big world") == 3
    assert model(custom_get_token_ids=lambda _: [7]).get_token_ids("Hello") == [7]


def test_a_tokenizer_that_returns_a_list() -> None:
    class Listed:
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            assert not add_special_tokens
            return [1] * len(text)

    assert model(tokenizer=Listed()).get_num_tokens("abc") == 3


def test_messages_are_counted_exactly_but_for_marks_and_images() -> None:
    counted = model(tokenizer=WORDS)
    assert counted.get_num_tokens_from_messages([]) == 0
    assert counted.get_num_tokens_from_messages([HumanMessage("Hello world")]) == 2 + 4
    image: dict[str, Any] = {"type": "image", "url": "https://example.org/a.png"}
    pictured = HumanMessage([{"type": "text", "text": "Hello"}, image])
    assert counted.get_num_tokens_from_messages([pictured]) == 1 + 85 + 4
    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "1"}])
    answer = ToolMessage("Hello", tool_call_id="1")
    whole = counted.get_num_tokens_from_messages([call, answer])
    assert whole == counted.get_num_tokens('add {"a":1}') + 4 + 1 + 4
    assert counted.get_num_tokens_from_messages([answer], [add]) > 1 + 4


def test_messages_are_trimmed_by_the_count() -> None:
    messages = [HumanMessage("Hello " * 10), AIMessage("world"), HumanMessage("Hello")]
    kept = trim_messages(messages, max_tokens=12, token_counter=model(tokenizer=WORDS))
    assert kept == messages[1:]


def test_what_is_no_tokenizer_is_refused_at_once(
    monkeypatch: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no such file"):
        model(tokenizer="no/where.json")
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"langchain-nscale\[tokenizers\]"):
        model(tokenizer=path)
