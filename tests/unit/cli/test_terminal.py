"""Text from models, servers and files cannot control a terminal."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from langchain_nscale._cli.display import MarkdownDisplay
from langchain_nscale._cli.terminal import harmless, text_for

SEQUENCES = {
    "OSC 52, the clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "OSC 0, the title": "\x1b]0;evil\x07",
    "OSC 8, a link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "CSI 2J, clear": "\x1b[2J",
    "CSI 8m, hide": "\x1b[8m",
    "C1 CSI": "\x9b31m",
    "DCS": "\x1bP+q\x1b\\",
    "overwrite the line": "good\rbad",
    "backspace": "good\x08\x08\x08\x08bad",
    "delete": "\x7f",
    "right to left": "\u202egpj.exe",
}
any_text = st.text() | st.text(
    st.sampled_from("\x1b]52;c\x07\x9b\x9d\r\n\t\x08[mJ`*&#%()")
)


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_sequences(sequence: str) -> None:
    shown = harmless(f"a{sequence}z\n\t")
    assert not {"\x1b", "\x07", "\x08", "\x7f", "\x9b", "\r", "\u202e"} & set(shown)
    assert shown.startswith(("a", "agood"))
    assert shown.endswith("z\n\t")


@given(any_text)
def test_only_controls_change(text: str) -> None:
    shown = harmless(text)
    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
    assert harmless(shown) == shown
    if text.isprintable():
        assert shown == text


@given(any_text, any_text)
def test_pieces_are_like_the_whole(first: str, second: str) -> None:
    assert harmless(first) + harmless(second) == harmless(first + second)


def test_pipes_get_everything() -> None:
    assert text_for(io.StringIO(), "\x1b[2J") == "\x1b[2J"


@given(st.lists(any_text))
@example(["```\n", *SEQUENCES.values(), "\n```\n"])
@example(["&#27;]0;evil&#7; &#155;2J"])
@example(["<https://evil.example/%1b]0;evil%07%C2%9B2J>"])
@example(["[x](https://evil.example/%1b%5D0;evil%07)"])
@example(["# \x1b]0;evil\x07\n\n| a |\n|---|\n| \x1b[8m |\n"])
def test_markdown(pieces: list[str]) -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None, no_color=True)
    display = MarkdownDisplay(reasoning=False, console=console)
    for piece in pieces:
        display.text(piece)
    display.close()
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}


def test_links_show_their_address() -> None:
    console = Console(file=io.StringIO(), width=80)
    display = MarkdownDisplay(reasoning=False, console=console)
    display.text("[your bank](https://evil.example/)")
    display.close()
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "https://evil.example/" in shown
