"""Token counts without network: estimated, or exact with a tokenizer of the user's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_nscale._requests import convert_messages

CHARACTERS_PER_TOKEN = 4
# As in langchain-core's `count_tokens_approximately`, for a picture of usual size.
_IMAGE_TOKENS = 85
# The marks of role and end that chat templates put around a message.
_MESSAGE_TOKENS = 4


@lru_cache(maxsize=8)
def _from_file(path: str) -> Any:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  # in an extra
    except ImportError:
        msg = (
            "`tokenizer` is a file, which needs the package tokenizers: "
            "pip install 'langchain-nscale[tokenizers]'."
        )
        raise ImportError(msg) from None
    return Tokenizer.from_file(path)


def encoder(tokenizer: object) -> Callable[[str], list[int]]:
    """What turns a text into token ids.

    Args:
        tokenizer: The path of a `tokenizer.json`, a `tokenizers.Tokenizer`, or a
            tokenizer of transformers.

    Raises:
        ImportError: It is a path, and tokenizers isn't installed.
        ValueError: There is no such file.
    """
    if isinstance(tokenizer, (str, Path)):
        if not Path(tokenizer).is_file():
            msg = (
                f"`tokenizer` is {str(tokenizer)!r}, and there is no such file: give the "
                "path of a model's tokenizer.json."
            )
            raise ValueError(msg)
        tokenizer = _from_file(str(tokenizer))
    encode: Any = tokenizer.encode  # type: ignore[attr-defined]  # as the docstring says

    def ids(text: str) -> list[int]:
        encoded = encode(text, add_special_tokens=False)
        return list(getattr(encoded, "ids", encoded))

    return ids


def count_messages(
    messages: Sequence[BaseMessage],
    tools: Sequence[Mapping[str, Any]],
    count: Callable[[str], int],
) -> int:
    """Tokens of a conversation: exact texts, with an allowance for marks and images."""
    total = sum(count(json.dumps(tool, ensure_ascii=False)) for tool in tools)
    for message in convert_messages(messages) if messages else []:
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
