from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from langchain_nscale._cli.display import MarkdownDisplay, complete_blocks


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("One paragraph that", ""),
        ("One.\n\n", ""),  # an indented line may still follow
        ("One.\n\nT", "One.\n\n"),
        ("One.\n\nTwo.\n\nT", "One.\n\nTwo.\n\n"),
        ("- a\n\n  still a\n\nb", "- a\n\n  still a\n\n"),
        ("```\na\n\nb", ""),
        ("```\na\n\nb\n```\n\nc", "```\na\n\nb\n```\n\n"),
        ("x\n\n~~~py\na\n\n```\n\nb\n", "x\n\n"),
    ],
)
def test_complete_blocks(text: str, whole: str) -> None:
    assert text[: complete_blocks(text)] == whole


PIECES = st.lists(
    st.sampled_from(
        ["a", " ", "\n", "\n\n", "```", "- ", "**", "# ", "1. ", "~~~", "  "]
    ),
    max_size=40,
)


@given(PIECES)
def test_what_is_whole_stays_whole(pieces: list[str]) -> None:
    text = ""
    before = ""
    for piece in pieces:
        text += piece
        whole = text[: complete_blocks(text)]
        assert whole.startswith(before)
        before = whole


def test_all_that_comes_is_shown() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=40, color_system=None)
    display: Any = MarkdownDisplay(reasoning=False, console=console)
    words = [f"word{n} " + ("\n\n" if n % 5 == 0 else "") for n in range(40)]
    for word in words:
        display.text(word)
    display.close()
    display.close()
    final = out.getvalue()
    assert all(f"word{n}" in final for n in range(40))
