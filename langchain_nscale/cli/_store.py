"""The files of a batch: finished lines survive whatever stops the program.

Every result is on disk before its slot is reused. `OUT.jsonl` and `OUT.jsonl.failed` have
a line for each finished line of the input. If the order is kept, early results wait in
`OUT.jsonl.journal`, which is empty at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import click

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]  # then there is no locking


class Bits:
    """A set of small integers that uses one bit for each."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, number: int) -> None:
        """Add a number."""
        place, bit = divmod(number, 8)
        if place >= len(self._bytes):
            self._bytes.extend(bytes(place + 1 - len(self._bytes)))
        self._bytes[place] |= 1 << bit

    def __contains__(self, number: int) -> bool:
        place, bit = divmod(number, 8)
        return place < len(self._bytes) and bool(self._bytes[place] >> bit & 1)


class Store:
    """Stores results by the number of their line, counted from 1."""

    def __init__(
        self, target: Path, *, ordered: bool, retry_failed: bool = False
    ) -> None:
        """Open the files of an earlier run, or create new ones.

        Raises:
            click.ClickException: Another run has them open, or they have another form.
        """
        self.next = 1  # the first unfinished line
        self.written = 0
        self.failed = 0
        self._ordered = ordered
        self._done = Bits()
        self._early: dict[int, bytes] = {}
        self.failed_path = target.with_name(target.name + ".failed")
        self._out = _open(target)
        if retry_failed:
            self.failed_path.unlink(missing_ok=True)
        self._failed = _open(self.failed_path)
        self._journal_path = target.with_name(target.name + ".journal")
        self._journal = _open(self._journal_path)

    def load(self) -> Iterator[dict[str, Any]]:
        """Load the results of an earlier run, and yield them."""
        for number, record, _ in _records(self._out):
            self._done.add(number)
            self.written += 1
            yield record
        for number, _, _ in _records(self._failed):
            self._done.add(number)
            self.failed += 1
        for number, record, raw in _records(self._journal):
            if number not in self._done:
                self._done.add(number)
                self._early[number] = raw
                yield record
        self._advance()

    def __contains__(self, number: int) -> bool:
        """Whether a line is finished."""
        return number in self._done

    def add(self, number: int, record: Mapping[str, Any]) -> None:
        """Store the result of a line."""
        raw = _encoded(number, record)
        self._done.add(number)
        if self._ordered and number != self.next:
            self._journal.write(raw)
            self._early[number] = raw
            return
        self._out.write(raw)
        self.written += 1
        self._advance()

    def fail(self, number: int, record: Mapping[str, Any]) -> None:
        """Store the failure of a line."""
        self._failed.write(_encoded(number, record))
        self.failed += 1
        self.skip(number)

    def skip(self, number: int) -> None:
        """Mark a line as finished without a result."""
        self._done.add(number)
        self._advance()

    def _advance(self) -> None:
        while self.next in self._done:
            raw = self._early.pop(self.next, None)
            if raw is not None:
                self._out.write(raw)
                self.written += 1
            self.next += 1
        if not self._early and self._journal.tell():
            self._journal.truncate(0)
            self._journal.seek(0)

    def close(self) -> None:
        """Close the files, and remove empty ones."""
        for file in (self._out, self._failed, self._journal):
            empty = file is not self._out and file.seek(0, 2) == 0
            file.close()
            if empty:
                Path(file.name).unlink(missing_ok=True)


def _open(path: Path) -> FileIO:
    """Open a file to append lines to, removing an incomplete last line."""
    file = path.open("a+b", buffering=0)
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            msg = f"Another run is writing {path}."
            raise click.ClickException(msg) from None
    end = file.seek(0, 2)
    complete = _last_line_end(file, end)
    if complete != end:
        file.truncate(complete)
    file.seek(0)
    return file


_STEP = 65_536


def _last_line_end(file: Any, end: int) -> int:
    """Return the position after the last line end before `end`, or 0."""
    while end:
        start = max(0, end - _STEP)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0


def _records(file: Any) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """Yield number, object and bytes of each line; leave the file at its end."""
    file.seek(0)
    with open(file.fileno(), "rb", closefd=False) as lines:
        for raw in lines:
            try:
                record = json.loads(raw)
                number = record["line"]
                if not isinstance(number, int):
                    raise TypeError  # noqa: TRY301  # one message for all problems
            except (ValueError, TypeError, KeyError):
                msg = f"{file.name} has a line not written by `batch`: {raw[:80]!r}"
                raise click.ClickException(msg) from None
            yield number, record, raw
    file.seek(0, 2)


def _encoded(number: int, record: Mapping[str, Any]) -> bytes:
    line = {"line": number, **record}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
