"""Counts tokens without network access: estimated, or exact with a user's tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

CHARACTERS_PER_TOKEN = 4
# As in langchain-core's `count_tokens_approximately`, for an image of typical size.
_IMAGE_TOKENS = 85
# Allowance for the role and end-of-turn markers that chat templates add.
_MESSAGE_TOKENS = 4


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
    return Tokenizer.from_file(path)


def encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """Return a function that turns a text into token IDs.

    Args:
        tokenizer: The path of a `tokenizer.json`, a `tokenizers.Tokenizer`, or a
            tokenizer of the package transformers.

    Raises:
        ImportError: It is a path, and the package tokenizers is not installed.
        ValueError: The file does not exist, or it is something else.
    """
    if isinstance(tokenizer, (str, Path)):
        if not Path(tokenizer).is_file():
            msg = (
                f"`tokenizer` is {str(tokenizer)!r}, but there is no such file: use the "
                "path of a model's tokenizer.json."
            )
            raise ValueError(msg)
        tokenizer = _from_file(str(tokenizer))
    encode = getattr(tokenizer, "encode", None)
    if not callable(encode):
        msg = (
            f"`tokenizer` is of type {type(tokenizer).__name__}: use the path of a "
            "model's tokenizer.json, or a tokenizer of tokenizers or transformers."
        )
        raise ValueError(msg)  # noqa: TRY004  # like every other invalid setting

    def token_ids(text: str) -> list[int]:
        encoded: Any = encode(text, add_special_tokens=False)
        return list(getattr(encoded, "ids", encoded))

    return token_ids


def count_messages(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    count: Callable[[str], int],
) -> int:
    """Count the tokens of a conversation in the API's form.

    Texts are counted exactly by `count`; each message and image adds an allowance.
    """
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
