"""Reports the progress of a batch on standard error."""

from __future__ import annotations

import sys
from pathlib import Path
from time import monotonic
from typing import Any

from langchain_nscale._cli.terminal import echo

_INTERVAL = 10.0  # seconds between lines of progress


class Progress:
    """Shows a bar, writes a line from time to time, or reports nothing."""

    def __init__(self, kind: str, source: Path) -> None:
        """Report in a form: `auto` is a bar on a terminal and lines elsewhere."""
        if kind == "auto":
            kind = "bar" if sys.stderr.isatty() else "lines"
        self._total = 0 if kind == "none" else _count_lines(source)
        self._bar = _bar(self._total) if kind == "bar" else None
        self._writes_lines = kind == "lines"
        self._next = monotonic() + _INTERVAL
        self._note = ""

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Report how far the run is; as a line, if the last one was long ago."""
        if self._bar is not None:
            more = f"{failed} failed, {tokens:,} tokens, {cost}"
            self._bar.update(self._bar.task_ids[0], completed=done + failed, more=more)
        elif self._writes_lines and monotonic() >= self._next:
            self._next = monotonic() + _INTERVAL
            counts = f"{done + failed} of {self._total} lines, {failed} failed"
            echo(f"{counts}, {tokens} tokens, {cost}.", err=True)

    def note(self, text: str) -> None:
        """Report that the run waits; as a line, if it is not the last one again."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], more=text)
        elif self._writes_lines and text != self._note:
            echo(text, err=True)
        self._note = text

    def close(self) -> None:
        """Leave the terminal to others."""
        if self._bar is not None:
            self._bar.stop()


def _bar(total: int) -> Any:
    from rich import progress  # noqa: PLC0415  # slow to import
    from rich.console import Console  # noqa: PLC0415  # slow to import

    bar = progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        "{task.fields[more]}",
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task("", total=total, more="")
    bar.start()
    return bar


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
