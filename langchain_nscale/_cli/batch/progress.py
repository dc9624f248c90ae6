"""Reports the progress of a batch on standard error."""

from __future__ import annotations

import sys
from pathlib import Path
from time import monotonic

from typing_extensions import Self

from langchain_nscale._cli.terminal import echo

_INTERVAL = 10.0  # seconds between lines of progress


def progress(kind: str, source: Path) -> Progress:
    """Return what reports progress on standard error."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    kinds = {"bar": ProgressBar, "lines": ProgressLines}
    return kinds.get(kind, Progress)(source)


class Progress:
    """Reports no progress; the base class of those that do."""

    def __init__(self, source: Path) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Report how far the run is."""

    def note(self, text: str) -> None:
        """Report that the run waits."""


class ProgressLines(Progress):
    """Writes a line from time to time."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._total = _count_lines(source)
        self._next = monotonic() + _INTERVAL
        self._note = ""

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Write a line if the last one was long ago."""
        if monotonic() >= self._next:
            self._next = monotonic() + _INTERVAL
            counts = f"{done + failed} of {self._total} lines, {failed} failed"
            echo(f"{counts}, {tokens} tokens, {cost}.", err=True)

    def note(self, text: str) -> None:
        """Write a line if it is not the last one again."""
        if text != self._note:
            echo(text, err=True)
        self._note = text


class ProgressBar(Progress):
    """Shows a bar in a terminal."""

    def __init__(self, source: Path) -> None:
        from rich import progress as rich  # noqa: PLC0415  # slow to import
        from rich.console import Console  # noqa: PLC0415  # slow to import

        super().__init__(source)
        self._bar = rich.Progress(
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[more]}"),
            rich.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=_count_lines(source), more="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Update the bar."""
        more = f"{failed} failed, {tokens:,} tokens, {cost}"
        self._bar.update(self._task, completed=done + failed, more=more)

    def note(self, text: str) -> None:
        """Show that the run waits."""
        self._bar.update(self._task, more=text)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
