"""The files of a batch: finished lines survive whatever stops the program.

Every result is on disk before its slot is reused. `OUT.jsonl` and `OUT.jsonl.failed` have
a line for each finished line of the input. If the order is kept, early results wait in
`OUT.jsonl.journal`, which is empty at the end.

Results of retried lines wait there too, until the end, when they are merged into
`OUT.jsonl`.

Each record begins with the number and the hash of its input line. They show that a file
is ours: one with other content is never opened for writing.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any

import click
import portalocker

_HASH = 8  # hexadecimal digits; 4 bytes of memory per line
_OURS = re.compile(rb'\{"line": [1-9]\d{0,8}, "input_hash": "[0-9a-f]{%d}"[,}]' % _HASH)
_HEAD = b'{"line": 1, "input_hash": "%s",' % (b"0" * _HASH)


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
        self,
        target: Path,
        *,
        ordered: bool,
        retry_failed: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the files of an earlier run, or create new ones.

        Args:
            target: The file of results.
            ordered: Whether results keep the order of the input.
            retry_failed: Whether lines that failed are unfinished again.
            settings: Everything beside the input that decides what a result is.

        Raises:
            click.UsageError: One of the files has content that `batch` did not write.
            click.ClickException: Another run is writing the files.
        """
        self.next = 1  # the first unfinished line
        self.written = 0
        self.failed = 0
        self._ordered = ordered
        self._done = Bits()
        self._hashes = array("I")  # of the input lines; 0 if unknown
        self._last = 0  # the last line in the file of results
        self._early: dict[int, bytes] = {}  # results in the journal
        self._failures: dict[int, bytes] = {}  # the last record of each failed line
        self._failed_now: set[int] = set()
        self._retry_failed = retry_failed
        self._has_old_failures = False
        self._settings = settings_hash(settings or {})
        paths = output_paths(target)
        self.failed_path = paths[1]
        for path in paths:  # all of them before any is changed
            _check_is_ours(path)
        self._out, self._failed, self._journal = map(_open, paths)

    def load(self) -> Iterator[dict[str, Any]]:
        """Load the records of an earlier run, and yield them.

        Raises:
            click.UsageError: The results belong to other settings.
        """
        for number, record, _ in _records(self._out):
            self._finish(number, record)
            self._last = max(self._last, number)
            self.written += 1
            yield record
        for number, record, raw in _records(self._journal):
            if number not in self._done:
                self._finish(number, record)
                self._early[number] = raw
                yield record
        for number, record, raw in _records(self._failed):
            if number in self._done:  # retried since, by a run that was stopped
                self._has_old_failures = True
                continue
            self._has_old_failures |= number in self._failures
            self._failures[number] = raw
            self._check_settings(record)
            yield record
        if not self._retry_failed:
            for number, raw in self._failures.items():
                self._finish(number, json.loads(raw))
            self.failed = len(self._failures)
        self._advance()

    def _check_settings(self, record: Mapping[str, Any]) -> None:
        if self._retry_failed:  # with other settings, perhaps
            return
        if record.get("settings_hash", self._settings) != self._settings:
            msg = (
                f"{self._out.name} has results of other settings. Use the model, system "
                "message, schema and sampling settings of the first run, or write the "
                "results to another file."
            )
            raise click.UsageError(msg)

    def _finish(self, number: int, record: Mapping[str, Any]) -> None:
        self._check_settings(record)
        self._done.add(number)
        if number >= len(self._hashes):
            missing = number + 1 - len(self._hashes)
            self._hashes.frombytes(bytes(missing * self._hashes.itemsize))
        self._hashes[number] = int(record["input_hash"], 16)

    def check_input(self, source: Path) -> None:
        """Check that the loaded results belong to the input.

        Raises:
            click.UsageError: A line has changed since its result was written.
        """
        if not self._hashes:
            return
        with source.open("rb") as file:
            for known, (number, raw) in zip(
                self._hashes[1:], enumerate(file, 1), strict=False
            ):
                if known and known != int(input_hash(raw), 16):
                    msg = (
                        f"Line {number} of {source} has changed since its result was "
                        "written. Write the results of the changed input to another file."
                    )
                    raise click.UsageError(msg)

    def __contains__(self, number: int) -> bool:
        """Return whether a line is finished."""
        return number in self._done

    def add(self, number: int, record: Mapping[str, Any], line: bytes = b"") -> None:
        """Store the result of an input line."""
        raw = self._encoded(number, record, line)
        if not self._ordered:
            _append(self._out, raw)
            self.written += 1
        elif number == self.next and number > self._last:
            _append(self._out, raw)
            self._last = number
            self.written += 1
        else:
            _append(self._journal, raw)
            self._early[number] = raw
        self._done.add(number)
        self._advance()

    def fail(self, number: int, record: Mapping[str, Any], line: bytes = b"") -> None:
        """Store the failure of an input line."""
        raw = self._encoded(number, record, line)
        _append(self._failed, raw)
        self._has_old_failures |= number in self._failures
        self._failures[number] = raw
        self._failed_now.add(number)
        self.failed += 1
        self.skip(number)

    def skip(self, number: int) -> None:
        """Mark a line as finished without a result."""
        self._done.add(number)
        self._advance()

    def _advance(self) -> None:
        while self.next in self._done:
            raw = self._early.get(self.next)
            if raw is not None:
                self.written += 1
                if self.next > self._last:  # others are merged at the end
                    _append(self._out, raw)
                    self._last = self.next
                    del self._early[self.next]
            self.next += 1
        if not self._early and self._journal.tell():
            self._journal.truncate(0)
            self._journal.seek(0)

    def _encoded(self, number: int, record: Mapping[str, Any], line: bytes) -> bytes:
        mark = {
            "line": number,
            "input_hash": input_hash(line),
            "settings_hash": self._settings,
        }
        if number in self._failures:
            calls = list(paid(json.loads(self._failures[number])))
            record = {**record, "earlier_attempts": calls} if calls else record
        text = json.dumps({**mark, **record, **mark}, ensure_ascii=False)
        return text.encode("utf-8", "replace") + b"\n"

    def finish(self) -> None:
        """Put retried lines in their places, and drop failures that were resolved."""
        late = {n: raw for n, raw in self._early.items() if n < self.next}
        if late:
            rest = (late[number] for number in sorted(late))
            with open(self._out.fileno(), "rb", closefd=False) as out:
                out.seek(0)
                _replace(self._out, heapq.merge(out, rest, key=_number))
            for number in late:
                del self._early[number]
            if not self._early:
                self._journal.truncate(0)
        if self._retry_failed:
            self._failures = {
                number: raw
                for number, raw in self._failures.items()
                if number not in self._done or number in self._failed_now
            }
        if self._has_old_failures or self._retry_failed:
            _replace(self._failed, self._failures.values())

    def close(self) -> None:
        """Close the files, and remove empty ones."""
        for file in (self._out, self._failed, self._journal):
            path = Path(os.fsdecode(file.name))
            file.close()
            if file is not self._out and path.exists() and not path.stat().st_size:
                path.unlink()


def output_paths(target: Path) -> tuple[Path, Path, Path]:
    """Return the files that a run writes: results, failures and early results."""
    failed, journal = (
        target.with_name(target.name + suffix) for suffix in (".failed", ".journal")
    )
    return target, failed, journal


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return a short hash of settings."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:_HASH]


def input_hash(line: bytes) -> str:
    """Return a short hash of an input line, without its line end; 0 if it is empty."""
    content = line.rstrip(b"\r\n")
    return sha256(content).hexdigest()[:_HASH] if content else "0" * _HASH


def _check_is_ours(path: Path) -> None:
    """Check, without opening it for writing, that a file is new or was written by us.

    Raises:
        click.UsageError: It was not.
    """
    if not path.exists():
        return
    if not path.is_file() or not _is_ours(path):
        msg = f"{path} was not written by `batch`. Write the results to another file."
        raise click.UsageError(msg)


def _is_ours(path: Path) -> bool:
    begins_line = True
    with path.open("rb") as file:
        for piece in iter(lambda: file.readline(_STEP), b""):
            if begins_line and not _OURS.match(piece) and not _is_cut_off(piece):
                return False
            begins_line = piece.endswith(b"\n")
    return True


def _is_cut_off(line: bytes) -> bool:
    """Return whether a line is a record of ours that was cut off in its first part."""
    if line.endswith(b"\n") or len(line) > _LONGEST_HEAD:
        return False
    number = re.match(rb'\{"line": ([1-9]\d*)', line)
    if number is None:
        return _HEAD.startswith(line)
    rest = re.sub(rb"[0-9a-f]", b"0", line[number.end() :])
    return re.sub(rb"[0-9a-f]", b"0", _HEAD[len(b'{"line": 1') :]).startswith(rest)


def _open(path: Path) -> FileIO:
    """Open a file of ours to append lines to, removing an incomplete last line."""
    # Prompts and answers are for the user alone.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    file = FileIO(path, "a+", opener=lambda name, _: os.open(name, flags, 0o600))
    try:
        portalocker.lock(file, portalocker.LOCK_EX | portalocker.LOCK_NB)
    except portalocker.LockException:
        file.close()
        msg = f"Another run is writing {path}."
        raise click.ClickException(msg) from None
    end = file.seek(0, 2)
    complete = _last_line_end(file, end)
    if complete != end:
        file.truncate(complete)
    file.seek(0)
    return file


_STEP = 65_536  # bytes
_LONGEST_HEAD = 60  # bytes; a number of any realistic length fits


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


def _append(file: FileIO, line: bytes) -> None:
    """Append a line completely, or not at all.

    Raises:
        OSError: The disk is full, for example.
    """
    start = file.seek(0, os.SEEK_END)
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(start)
        raise


def _replace(file: FileIO, lines: Iterable[bytes]) -> None:
    """Replace the content of a file of ours; it stays as it is if that fails."""
    path = Path(os.fsdecode(file.name)).resolve()
    with tempfile.NamedTemporaryFile(
        prefix=f".{path.name}.", dir=path.parent, delete=False
    ) as new:
        temporary = Path(new.name)
        try:
            new.writelines(lines)
            new.flush()
            os.fsync(new.fileno())
            shutil.copymode(path, temporary)
        except BaseException:
            temporary.unlink()
            raise
    temporary.replace(path)


def _number(line: bytes) -> int:
    """Return the number of the input line that a record of ours belongs to."""
    return int(line[len(b'{"line": ') : line.index(b",")])


def paid(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the model and usage of every attempt at a line, if known."""
    yield from record.get("earlier_attempts", ())
    if "usage" in record:
        yield {"model": record.get("model", ""), "usage": record["usage"]}
