from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
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


# The first article of the Universal Declaration of Human Rights, and emojis, with their
# tokens in the vocabularies of Llama 3, Llama 4, Mistral (tekken, 2024-09), DeepSeek V3.
SCRIPTS = json.loads(Path(__file__).with_name("scripts.json").read_text("utf-8"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_other_scripts(script: str) -> None:
    # With 4 characters a token, Chinese had a quarter of its tokens: nothing was trimmed.
    text, measured = SCRIPTS[script]["text"], SCRIPTS[script]["tokens"]
    estimated = model().get_num_tokens(text)
    assert estimated >= 0.75 * median(measured)
    assert estimated <= 2.2 * median(measured)


@pytest.mark.parametrize("script", SCRIPTS)
def test_messages_in_other_scripts(script: str) -> None:
    text = SCRIPTS[script]["text"]
    counted, tokens = model(), model().get_num_tokens(text)
    call = {"name": "add", "args": {"text": text}, "id": "1"}
    for message in (
        HumanMessage(text),
        HumanMessage([{"type": "text", "text": text}]),
        AIMessage("", tool_calls=[call]),
    ):
        count = counted.get_num_tokens_from_messages([message])
        assert tokens <= count <= 2 * tokens + 40
    history: list[Any] = [("user", text), ("ai", text), ("user", text)]
    kept = trim_messages(history, max_tokens=tokens + 10, token_counter=counted)
    assert len(kept) == 1


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


LONG = "Hello world " * 1000
LIMITS: dict[str, Callable[[Any], Any]] = {
    "truncation": lambda tokenizer: tokenizer.enable_truncation(512),
    "padding": lambda tokenizer: tokenizer.enable_padding(length=128),
    "both": lambda tokenizer: (
        tokenizer.enable_truncation(512, stride=10),
        tokenizer.enable_padding(length=512),
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("form", ["file", "object"])
def test_limits_saved_by_a_trainer(limit: str, form: str, tmp_path: Path) -> None:
    limited = Tokenizer.from_str(WORDS.to_str())
    LIMITS[limit](limited)
    limited.save(str(tmp_path / "tokenizer.json"))
    before = limited.to_str()
    counted = model(tokenizer=limited if form == "object" else tmp_path)
    for _ in "12":
        assert counted.get_num_tokens(LONG) == 2000
        assert counted.get_num_tokens("Hello") == 1
    assert limited.to_str() == before  # the user's own object is as it was


def test_tiktokens_encodings() -> None:
    class Encoding:  # as in tiktoken 0.12, without its download
        def encode(self, text: str, *, disallowed_special: Any = "all") -> list[int]:
            raise ValueError(text, disallowed_special)

        def encode_ordinary(self, text: str) -> list[int]:
            return [1] * len(text)

    assert model(tokenizer=Encoding()).get_num_tokens("<|endoftext|>") == 13


def test_half_an_emoji_is_counted() -> None:
    assert model(tokenizer=WORDS).get_num_tokens("Hello \ud83d") == 2
    assert model().get_num_tokens("Hello \ud83d") > 0


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"",
        b'{"config": {"pattern": "x"}, "vocab": []}',  # Mistral's tekken.json
        b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02",  # SentencePiece
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_files_of_other_tokenizers(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`tokenizer` is .* not a tokenizer\.json"):
        model(tokenizer=path)


def test_objects_that_cannot_encode() -> None:
    class Other:
        def encode(self, text: str) -> list[int]:
            raise AssertionError(text)

    with pytest.raises(ValueError, match=r"`tokenizer` .* `custom_get_token_ids`"):
        model(tokenizer=Other())
    with pytest.raises(ValueError, match=r"`tokenizer` is of type dict"):
        model(tokenizer={})


def test_what_is_no_tokenizer_is_refused_at_once(
    monkeypatch: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no such file"):
        model(tokenizer="no/where.json")
    with pytest.raises(ValueError, match="no such file"):
        model(tokenizer=tmp_path)  # a folder without one
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"langchain-nscale\[tokenizers\]"):
        model(tokenizer=path)
