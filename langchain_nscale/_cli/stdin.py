"""Standard input: read where it is meant for this command, and never silently waited for.

Many programs start others with an open input and never write to it (pi#5571,
codex#20919). In a `while read` loop over a file, the input belongs to the loop.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from time import monotonic

from langchain_nscale._cli.commands import BEGAN
from langchain_nscale._cli.terminal import echo

_NOTE_AFTER = 1.0  # seconds of waiting
_LONGEST_SILENCE = 3.0  # seconds since this command began
_SHORTEST_WAIT = 0.5  # seconds, if the command itself was slow to begin


def piped_text(*, is_needed: bool) -> str:
    """Return what is piped in; a terminal or another device is not read.

    Args:
        is_needed: Whether the prompt can only come from there. Otherwise the input is
            ignored if another program has begun to read it, or if it stays silent.
    """
    try:
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):  # not a file
        return "" if sys.stdin.isatty() else read_text()
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return ""
    if not is_needed and (reason := _reason_against(descriptor, mode)):
        echo(reason, err=True)
        return ""
    return read_text()


def read_text() -> str:
    """Read standard input to its end."""
    with waiting_noted(" (--no-stdin leaves it out)"):
        try:
            if not isinstance(sys.stdin, io.TextIOWrapper):
                return sys.stdin.read()
            data = sys.stdin.buffer.read()
        except (OSError, ValueError):  # closed
            return ""
    return decoded(data, sys.stdin.encoding)


def decoded(data: bytes, encoding: str = "utf-8") -> str:
    """Decode text; a byte order mark takes precedence over an encoding.

    Raises:
        UnicodeDecodeError: It is in another encoding.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"  # as Windows PowerShell writes files
    elif data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    return data.decode(encoding).replace("\r\n", "\n")


@contextmanager
def waiting_noted(hint: str = "") -> Iterator[None]:
    """Say after a second that standard input is being read."""
    text = f"Reading standard input until it ends{hint}."
    note = Timer(_NOTE_AFTER, echo, [text], {"err": True})
    note.daemon = True
    note.start()
    try:
        yield
    finally:
        note.cancel()


def _reason_against(descriptor: int, mode: int) -> str | None:
    """Say why an input is not read, or return `None` if it is."""
    if stat.S_ISREG(mode):
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        if 0 < place < os.fstat(descriptor).st_size:
            return "Standard input is left to the program that has begun to read it."
    elif stat.S_ISSOCK(mode) or _is_written_by_parent(descriptor):
        wait = max(_LONGEST_SILENCE - (monotonic() - BEGAN), _SHORTEST_WAIT)
        ready, _, _ = select.select([descriptor], [], [], wait)
        if not ready:
            return (
                "Nothing came from standard input so far: asking without it. "
                "--no-stdin asks at once."
            )
    return None


def _is_written_by_parent(descriptor: int) -> bool:
    """Return whether the program that started this one keeps the other end of a pipe.

    A shell does not: its pipelines connect two other programs, and the first may take its
    time. Only Linux tells; elsewhere the pipe is read, however long it takes.
    """
    try:
        pipe = Path(f"/proc/self/fd/{descriptor}").readlink()
        return any(
            end.readlink() == pipe and end.lstat().st_mode & stat.S_IWUSR
            for end in Path(f"/proc/{os.getppid()}/fd").iterdir()
        )
    except OSError:
        return False
