"""`python -m scripts.terminal_pictures`: terminals as SVG, for docs/cli.md."""

from __future__ import annotations

import io
import os
import re
from typing import Any

import pyte
from rich.console import Console
from rich.text import Text

from tests.integration.terminal import Terminal
from tests.pages.runner import ROOT, environment

FOLDER = ROOT / "docs" / "pictures"
_FONTS = re.compile(
    r" *@font-face \{.*?\}\n", re.DOTALL
)  # loaded from a third-party server
WIDTH, HEIGHT = 80, 60


def screen(raw: str) -> Text:
    """Return what a terminal shows after some output, with its colors."""
    display = pyte.Screen(WIDTH, HEIGHT)
    pyte.Stream(display).feed(raw)
    text = Text()
    for row in range(HEIGHT):
        for column in range(WIDTH):
            cell = display.buffer[row][column]
            text.append(cell.data, style=_style(cell))
        text.append("\n")
    text.rstrip()
    return text


def _style(cell: Any) -> str:
    color = "default" if cell.fg == "default" else cell.fg.replace("brown", "yellow")
    marks = [name for name in ("bold", "underscore", "reverse") if getattr(cell, name)]
    color = (
        f"#{color}" if len(color) == 6 else color.replace("bright", "bright_")
    )  # RRGGBB
    return " ".join([*marks, color]).replace("underscore", "underline")


def save(name: str, title: str, command: str, *arguments: str) -> None:
    """Run a command and save what the terminal shows."""
    with Terminal(*arguments, COLUMNS=str(WIDTH), LINES=str(HEIGHT)) as terminal:
        terminal.end()
        shown = screen(terminal.raw)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="dim"))
    console.print(shown)
    path = FOLDER / f"{name}.svg"
    # A fixed ID keeps the file unchanged if the picture is; the default is random.
    svg = console.export_svg(title=title, unique_id=name)
    path.write_text(_FONTS.sub("", svg))


def main() -> None:
    """Create all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with environment() as variables:
        os.environ |= variables
        os.environ.pop("NO_COLOR", None)
        question = "What is serverless inference?"
        save("chat", "chat", f'langchain-nscale chat "{question}"', "chat", question)
        save("models", "models", "langchain-nscale models", "models")
        save("doctor", "doctor", "langchain-nscale doctor", "doctor")


if __name__ == "__main__":
    main()
