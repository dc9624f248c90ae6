"""A program in a pseudo-terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType

import pyte
import pytest
from typing_extensions import Self

COMMAND = [sys.executable, "-m", "langchain_nscale"]
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
PATIENCE = 20  # seconds


def plain(text: str) -> str:
    """Text without what moves the cursor or changes colours."""
    return _CODES.sub("", text)


needs_sigint = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="SIGINT is ignored here, as in background jobs",
)


def _take_terminal() -> None:
    import fcntl  # noqa: PLC0415  # POSIX only
    import termios  # noqa: PLC0415

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """Runs `langchain-nscale` with a terminal for input, output and errors."""

    def __init__(
        self, *arguments: str, columns: int = 80, height: int = 24, **variables: str
    ) -> None:
        self.columns, self.height = columns, height
        pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
        self._master, slave = pty.openpty()
        environment: Mapping[str, str] = {
            **os.environ,
            "TERM": "xterm",
            "COLUMNS": str(columns),
            "LINES": str(height),
            "PROMPT_TOOLKIT_NO_CPR": "1",
            **variables,
        }
        self.process = subprocess.Popen(  # noqa: S603  # our own
            [*COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            # Its terminal for good, so that Ctrl-C is a signal there.
            preexec_fn=_take_terminal,  # noqa: PLW1509  # no threads in it
        )
        os.close(slave)
        self.raw = ""
        self._seen = 0

    def expect(self, text: str) -> None:
        """Wait until a text has been shown after what was expected last."""
        while text not in plain(self.raw)[self._seen :]:
            if not self._read():
                msg = f"{text!r} never came; the terminal shows {plain(self.raw)!r}"
                raise AssertionError(msg)
        shown = plain(self.raw)
        self._seen = shown.index(text, self._seen) + len(text)

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    @property
    def shown(self) -> str:
        """All that has been shown, without colours."""
        return plain(self.raw)

    def lines(self) -> list[str]:
        """The lines that are not empty, those that have scrolled off included."""
        screen = pyte.HistoryScreen(self.columns, self.height, history=1000)
        pyte.Stream(screen).feed(self.raw)
        above = [
            "".join(row[column].data for column in range(self.columns))
            for row in screen.history.top
        ]
        return [line.rstrip() for line in (*above, *screen.display) if line.strip()]

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's end of file for a terminal
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
