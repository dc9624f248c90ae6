"""Shows an answer while it arrives: as plain text, or as Markdown on a terminal."""

from __future__ import annotations

import os
import sys
from threading import RLock, Timer
from time import monotonic
from typing import TYPE_CHECKING, Any

from langchain_nscale._cli.terminal import echo, harmless, text_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

    from langchain_nscale._cli.inputs import ChatOptions

_DIM, _NORMAL = "\x1b[2m", "\x1b[0m"
_WAITING, _ERASED = "…", "\r\x1b[K"
_FRAMES = 12  # per second


class Display:
    """Writes the answer to standard output as it arrives, reasoning to standard error."""

    def __init__(self, *, reasoning: bool) -> None:
        """Show answers, and reasoning if requested."""
        self._shows_reasoning = reasoning
        self._thinking = False
        self._ends_line = True
        dim = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        self._marks = (_DIM, _NORMAL) if dim else ("", "")

    def wait(self) -> None:
        """Show that the question has been sent; on a terminal only."""

    def note(self, text: str) -> None:
        """Explain a delay."""
        echo(text, err=True)

    def reasoning(self, piece: str) -> None:
        """Show more of the reasoning."""
        if not self._shows_reasoning:
            return
        before = "" if self._thinking else self._marks[0]
        self._thinking = True
        sys.stderr.write(before + text_for(sys.stderr, piece))
        sys.stderr.flush()

    def text(self, piece: str) -> None:
        """Show more of the answer."""
        self._end_reasoning()
        self._ends_line = piece.endswith("\n")
        sys.stdout.write(text_for(sys.stdout, piece))
        sys.stdout.flush()

    def close(self) -> None:
        """Finish the display."""
        self._end_reasoning()
        if not self._ends_line:
            self._ends_line = True
            sys.stdout.write("\n")
            sys.stdout.flush()

    def _end_reasoning(self) -> None:
        if self._thinking:
            self._thinking = False
            sys.stderr.write(f"{self._marks[1]}\n\n")
            sys.stderr.flush()


class Silent(Display):
    """Shows nothing, because the answer is printed as JSON."""

    def __init__(self) -> None:
        """Create a display that shows nothing."""
        super().__init__(reasoning=False)

    def text(self, piece: str) -> None:
        """Ignore the answer."""


class MarkdownDisplay(Display):
    """Renders Markdown: each complete block once, and the last one while it grows.

    All drawing happens under one lock. rich's own refresh thread reads the height of the
    growing block before it renders it: while the first code block imports pygments,
    another thread erased as many lines as were there before, so that on a busy machine
    the part before the code was shown twice (rich 15.0).
    """

    def __init__(self, *, reasoning: bool, console: Console | None = None) -> None:
        """Show answers on a console; defaults to standard output."""
        from rich.console import Console  # noqa: PLC0415  # slow to import

        super().__init__(reasoning=reasoning)
        self._console = console or Console()
        self._live: Any = None
        self._tail = ""
        self._waits = False
        self._lock = RLock()
        self._drawn = 0.0
        self._late: Timer | None = None  # draws what came too soon after the last drawing

    def wait(self) -> None:
        """Show that the question has been sent."""
        self._waits = True
        sys.stdout.write(_WAITING)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Explain a delay."""
        self._end_waiting()
        super().note(text)
        self.wait()

    def reasoning(self, piece: str) -> None:
        """Show more of the reasoning."""
        self._end_waiting()
        super().reasoning(piece)

    def _end_waiting(self) -> None:
        if self._waits:
            self._waits = False
            sys.stdout.write(_ERASED)
            sys.stdout.flush()

    def text(self, piece: str) -> None:
        """Show more of the answer."""
        self._end_waiting()
        self._end_reasoning()
        with self._lock:
            self._tail += harmless(piece)
            if self._live is None:
                from rich.live import Live  # noqa: PLC0415  # slow to import

                self._live = Live(
                    self, console=self._console, auto_refresh=False, transient=True
                )
                self._live.start()
            if cut := complete_blocks(self._tail):
                block, self._tail = self._tail[:cut], self._tail[cut:]
                self._console.print(_Markdown(block))
            self._draw()

    def _draw(self) -> None:
        """Draw the growing block, but not more often than a reader can see."""
        pause = self._drawn + 1 / _FRAMES - monotonic()
        if pause <= 0:
            self._live.refresh()
            self._drawn = monotonic()
        elif self._late is None:
            self._late = Timer(pause, self._draw_late)
            self._late.daemon = True
            self._late.start()

    def _draw_late(self) -> None:
        with self._lock:
            self._late = None
            if self._live is not None:
                self._draw()

    def close(self) -> None:
        """Print the last block."""
        self._end_waiting()
        self._end_reasoning()
        with self._lock:
            if self._late is not None:
                self._late.cancel()
            if self._live is not None:
                tail, self._tail = self._tail, ""
                self._live.stop()
                self._live = None
                if tail.strip():
                    self._console.print(_Markdown(tail))

    def __rich__(self) -> _Markdown:
        """Return the block that is still growing."""
        return _Markdown(self._tail)


class _Markdown:
    """Markdown without control characters, which encoded links can contain too."""

    def __init__(self, text: str) -> None:
        from rich.markdown import Markdown  # noqa: PLC0415  # slow to import

        # A terminal's own links would hide the address.
        self._markdown = Markdown(text, hyperlinks=False)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[Segment]:
        for segment in console.render(self._markdown, options):
            yield segment._replace(text=harmless(segment.text))


def complete_blocks(text: str) -> int:
    """Return the length of the complete blocks at the beginning of a text.

    A block ends with an empty line outside a fence, followed by the beginning of another
    block: an indented line would still belong to it.
    """
    cut = at = 0
    fence = ""
    empty = False
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if empty and bare and not fence and not line.startswith((" ", "\t")):
            cut = at
        mark = bare[:3]
        if mark in ("```", "~~~") and (not fence or (fence == mark and bare == mark)):
            fence = "" if fence else mark
        empty = not bare and not fence
        at += len(line)
    return cut


def display_for(options: ChatOptions) -> Display:
    """Return the display that fits the options and standard output."""
    if options.as_json or options.extract:
        return Silent()
    terminal = sys.stdout.isatty()
    shows_reasoning = terminal if options.reasoning is None else options.reasoning
    return (MarkdownDisplay if terminal else Display)(reasoning=shows_reasoning)
