"""Counts tokens without network access: estimated, or exact with a user's tokenizer."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import convert_to_messages, count_tokens_approximately

# As in langchain-core's `count_tokens_approximately`, for an image of typical size.
_IMAGE_TOKENS = 85
# Allowance for the role and end-of-turn markers that chat templates add.
_MESSAGE_TOKENS = 4

# A Latin letter takes a quarter of a token; characters from each of these code points
# onwards take this number of further quarters. Measured with the vocabularies of Llama 3,
# Llama 4, Mistral (tekken, 2024-09) and DeepSeek V3 on the first article of the Universal
# Declaration of Human Rights: see `test_other_scripts`.
_FURTHER_QUARTERS = (
    ("\u0370", 1),  # Greek, Cyrillic, Hebrew, Arabic: 2 to 4 characters a token
    ("\u0900", 2),  # Devanagari, Thai, Hangul, kana, Han and others: 0.5 to 2.5
    ("\U00010000", 4),  # emojis: 0.3 to 0.5
)


# --- with a tokenizer -------------------------------------------------------------------


@lru_cache(maxsize=8)
def _from_file(path: str) -> Any:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  # an optional dependency
    except ImportError:
        msg = (
            "`tokenizer` is a file, which needs the package tokenizers: "
            "pip install 'langchain-nscale[tokenizers]'."
        )
        raise ImportError(msg) from None
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # noqa: BLE001  # the Rust library raises no other
        msg = (
            f"`tokenizer` is {path!r}, which is not a tokenizer.json ({error}). "
            "Mistral's tekken.json and SentencePiece's tokenizer.model are other "
            "formats: use the tokenizer.json that most models have beside them."
        )
        raise ValueError(msg) from None


def _file_at(path: str | Path) -> str:
    file = Path(path)
    if file.is_dir():
        file /= "tokenizer.json"
    if not file.is_file():
        msg = (
            f"`tokenizer` is {str(path)!r}, but there is no such file: use the path of a "
            "model's tokenizer.json."
        )
        raise ValueError(msg)
    return str(file)


def _unlimited(tokenizer: Any) -> Any:
    """Return a tokenizer that neither truncates nor pads."""
    # Trainers save both settings in `tokenizer.json`. With them, every long text has 512
    # tokens and every short one 128. Users' own objects are copied, once.
    is_limited = getattr(tokenizer, "truncation", None) or getattr(
        tokenizer, "padding", None
    )
    is_own = is_limited and hasattr(tokenizer, "no_truncation")
    return _unlimited_copy(tokenizer) if is_own else tokenizer


# Not weakly: before 0.23, tokenizers has no weak references.
@lru_cache(maxsize=4)
def _unlimited_copy(tokenizer: Any) -> Any:
    unlimited = copy.deepcopy(tokenizer)
    unlimited.no_truncation()
    unlimited.no_padding()
    return unlimited


def encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """Return a function that turns a text into token IDs.

    A tokenizer is the path of a `tokenizer.json` or of its folder, a
    `tokenizers.Tokenizer`, a `tiktoken.Encoding`, or one of the package transformers.
    """
    if isinstance(tokenizer, (str, Path)):
        tokenizer = _from_file(_file_at(tokenizer))
    if callable(encode_ordinary := getattr(tokenizer, "encode_ordinary", None)):
        return cast("Callable[[str], list[int]]", encode_ordinary)  # tiktoken
    encode = getattr(_unlimited(tokenizer), "encode", None)
    if not callable(encode):
        msg = (
            f"`tokenizer` is of type {type(tokenizer).__name__}: use the path of a "
            "model's tokenizer.json, or a tokenizer of tokenizers, tiktoken or "
            "transformers."
        )
        raise ValueError(msg)  # noqa: TRY004  # like every other invalid setting

    def token_ids(text: str) -> list[int]:
        # tokenizers accepts no half of an emoji, which a truncated text can end with.
        whole = text if text.isascii() else text.encode(errors="replace").decode()
        encoded: Any = encode(whole, add_special_tokens=False)
        return list(getattr(encoded, "ids", encoded))

    return token_ids


def check_tokenizer(tokenizer: Any) -> None:
    """Count a text with a tokenizer, to reject one that can't."""
    token_ids = encoder(tokenizer)
    try:
        token_ids("Hello")
    except Exception as error:  # whatever a foreign `encode` raises
        msg = (
            f"`tokenizer` is of type {type(tokenizer).__name__}, whose `encode` failed "
            f"({type(error).__name__}: {error}). For a tokenizer of another kind, pass a "
            "function from a text to token IDs as `custom_get_token_ids`."
        )
        raise ValueError(msg) from error


def count_messages(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    count: Callable[[str], int],
) -> int:
    """Count the tokens of texts by `count`, with an allowance for messages and images."""
    total = sum(count(json.dumps(tool, ensure_ascii=False)) for tool in tools)
    for message in messages:
        content = message["content"]
        parts = (
            content if isinstance(content, list) else [{"type": "text", "text": content}]
        )
        total += _MESSAGE_TOKENS
        for part in parts:
            is_text = part.get("type") == "text"
            total += count(part["text"] or "") if is_text else _IMAGE_TOKENS
        for call in message.get("tool_calls", []):
            function = call["function"]
            total += count(function["name"]) + count(function["arguments"])
    return total


# --- without one ------------------------------------------------------------------------


def estimate(text: str) -> int:
    """Estimate the tokens of a text by its length and its scripts."""
    return -(-(len(text) + _further_quarters(text)) // 4)


def estimate_messages(messages: Sequence[BaseMessage], tools: list[Any] | None) -> int:
    """Estimate as langchain-core does, and add what other scripts than Latin take."""
    further = 0
    for message in convert_to_messages(messages):
        quarters = _further_quarters(message.text)
        if isinstance(message, AIMessage):
            quarters += _further_quarters(str(message.tool_calls))
        further += -(-quarters // 4)
    return count_tokens_approximately(messages, tools=tools) + further


def _further_quarters(text: str) -> int:
    if text.isascii():
        return 0
    return sum(
        quarters * sum(character >= first for character in text)
        for first, quarters in _FURTHER_QUARTERS
    )
