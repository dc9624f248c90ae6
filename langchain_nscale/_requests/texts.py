"""Checks texts to embed, adds instructions to queries, and splits texts into batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from langchain_nscale._model_facts import facts


def check_texts(texts: Iterable[str], instead_of_empty: str | None = None) -> list[str]:
    """Return texts as a list, with another text in place of empty ones if given.

    Raises:
        TypeError: A text is not a string, or `texts` is not a collection of texts.
        ValueError: A text is empty, so there is nothing to embed.
    """
    if isinstance(texts, str):
        msg = "`texts` is a string: pass a list of strings, or call `embed_query`."
        raise TypeError(msg)
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        msg = f"`texts` is of type {type(texts).__name__}: pass a list of strings."
        raise TypeError(msg)
    checked = list(texts)
    for number, text in enumerate(checked):
        if not text or not isinstance(text, str):
            checked[number] = check_text(text, f"texts[{number}]", instead_of_empty)
    return checked


def check_text(text: str, name: str = "text", instead_of_empty: str | None = None) -> str:
    """Return a text that can be embedded; raises the same errors as `check_texts`."""
    if not isinstance(text, str):
        msg = f"`{name}` is of type {type(text).__name__}: it must be a string."
        raise TypeError(msg)
    if not (text or instead_of_empty):
        msg = (
            f"`{name}` is empty: there is nothing to embed. Leave it out, or set "
            "`empty_text`, the text to embed instead."
        )
        raise ValueError(msg)
    return text or instead_of_empty or ""


def split_texts(texts: Sequence[str], max_count: int, max_bytes: int) -> list[range]:
    """Split texts into batches, one for each request; return the indexes of each batch.

    Args:
        texts: All texts.
        max_count: Maximum number of texts per request.
        max_bytes: Maximum number of bytes of text (UTF-8) per request; a longer text
            forms a batch of one.
    """
    batches = []
    start = size = 0
    for number, text in enumerate(texts):
        length = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        is_full = number - start == max_count or size + length > max_bytes
        if number > start and is_full:
            batches.append(range(start, number))
            start, size = number, 0
        size += length
    if texts:
        batches.append(range(start, len(texts)))
    return batches


def instructed_query(model: str, instruction: str | None, text: str) -> str:
    """Add an instruction to a query, for models trained with one.

    Args:
        model: ID of the model.
        instruction: A sentence, sent in the format of the Qwen3 models; or a template
            with `{query}`; an empty string for none; `None` for the model's default.
        text: The query.
    """
    if instruction is None:
        instruction = facts(model).query_instruction
    if "{query}" in instruction:
        return instruction.replace("{query}", text)
    return f"Instruct: {instruction}\nQuery:{text}" if instruction else text
