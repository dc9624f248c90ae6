"""Checks texts to embed, adds instructions to queries, and splits texts into batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from langchain_nscale._model_facts import facts


def check_texts(texts: Iterable[str], instead_of_empty: str | None = None) -> list[str]:
    """Return texts as a list, with another text in place of empty ones if given."""
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

    A text of more than `max_bytes` (UTF-8) forms a batch of one.
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

    It is a sentence, sent in the format of the Qwen3 models; or a template with
    `{query}`; an empty string for none; `None` for the model's default.
    """
    if instruction is None:
        instruction = facts(model).query_instruction
    if "{query}" in instruction:
        return instruction.replace("{query}", text)
    return f"Instruct: {instruction}\nQuery:{text}" if instruction else text
