"""The files of a batch: finished lines survive whatever stops the program.

Every result is in an SQLite database, `OUT.jsonl.db`, before its slot is reused.
`OUT.jsonl` and `OUT.jsonl.failed` are exports of it that grow while a batch runs, and are
repaired from it when a run begins and ends. What they have and the database lacks, it
takes over: the files may come from another machine, or be left by a power failure.

Each record begins with the number and the hash of its input line. They show that a file
is ours: one with other content is never opened for writing.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import Any

import click

try:
    import sqlite3
except ImportError:  # some builds of Python leave it out
    _msg = "This Python was built without sqlite3, which `batch` needs. Use another one."
    raise click.ClickException(_msg) from None

_HASH = 8  # hexadecimal digits
_OURS = re.compile(
    rb'\{"line": ([1-9]\d{0,8}), "input_hash": "([0-9a-f]{%d})"[,}]' % _HASH
)
_HEAD = b'{"line": 1, "input_hash": "%s",' % (b"0" * _HASH)
_LONGEST_HEAD = len(_HEAD) + 8  # of a number with nine digits
_STEP = 65_536  # bytes
_END = 10**10  # above every number of a line
_PRIVATE = 0o600  # prompts and answers are for the user alone
_APPLICATION_ID = 0x4E53434C  # at bytes 68 to 71 of the database
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
CREATE TABLE IF NOT EXISTS settings (hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS result (
    place INTEGER PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    hash TEXT NOT NULL,
    failed INTEGER NOT NULL,
    record BLOB NOT NULL
)"""
_HAS = "SELECT 1 FROM result WHERE number = ? AND failed <= ?"
_ROWS = "SELECT number, record FROM result WHERE failed = ? AND number > ? AND number < ?"


class Store:
    """Stores results by the number of their line, counted from 1.

    Methods that write raise an OSError if that fails: if the disk is full, for example.

    Attributes:
        done: Number of lines with a result.
        failed: Number of lines that failed.
        failed_path: The file of the failed lines.
    """

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
            click.UsageError: A file has content that `batch` did not write.
            click.ClickException: Another run is writing the files.
            OSError: A file can't be written.
        """
        self._is_ordered = ordered
        self._retry_failed = retry_failed
        self._in_flight: dict[int, None] = {}  # lines that have begun, in order
        self._begun = 0  # the last of them
        self._is_late = False  # whether the file must be sorted
        text = json.dumps(settings or {}, sort_keys=True, default=str)
        self._settings = _hash(text.encode())
        out, self.failed_path, self._path = output_paths(target)
        self._last = _check_files(out, self.failed_path, self._path)
        _make_private(self._path)  # SQLite gives its side files the same mode
        self._db = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            with _faults(self._path):
                _prepare(self._db)
            self._out, self._failed = map(_open, (out, self.failed_path))
            self._query("BEGIN")
            self._adopt(out, failed=False)
            self._adopt(self.failed_path, failed=True)
            self._query("COMMIT")
            self._export_results()
        except BaseException:
            self._db.close()
            raise
        query = "SELECT COUNT(*), COUNT(NULLIF(failed, 0)) FROM result"
        ((lines, failures),) = self._query(query)
        self.done, self.failed = lines - failures, 0 if retry_failed else failures

    def _adopt(self, path: Path, *, failed: bool) -> None:
        """Take over the records that the database lacks.

        Raises:
            click.UsageError: One of them is not JSON.
        """
        with path.open("rb") as file:
            for raw in file:
                found = _OURS.match(raw)
                if not found or not raw.endswith(b"\n"):
                    continue  # cut off
                number = int(found[1])
                if self._query(_HAS, number, failed):
                    continue
                try:
                    settings = json.loads(raw).get("settings_hash")
                except (ValueError, RecursionError):
                    raise _foreign(path) from None
                self._insert(number, found[2].decode(), raw, failed=failed)
                if settings and not self._query("SELECT 1 FROM settings"):
                    self._query("INSERT INTO settings VALUES (?)", settings)

    def _insert(self, number: int, line_hash: str, raw: bytes, *, failed: bool) -> None:
        row = (number, line_hash, failed, zlib.compress(raw, 1))
        self._query("INSERT OR REPLACE INTO result VALUES (NULL, ?, ?, ?, ?)", *row)

    def check(self, source: Path) -> None:
        """Check that earlier results belong to the same input and settings.

        Raises:
            click.UsageError: A line has changed since its result was written, or the
                settings have, and failed lines are not to be retried.
        """
        stored = self._query("SELECT hash FROM settings")
        if stored and not self._retry_failed and stored != [(self._settings,)]:
            msg = (
                f"{self._path.stem} contains results for other settings. Use the model, "
                "system message, schema and sampling settings of the first run, or write "
                "the results to another file."
            )
            raise click.UsageError(msg)
        self._query("DELETE FROM settings")
        self._query("INSERT INTO settings VALUES (?)", self._settings)
        known = "SELECT number, hash FROM result WHERE failed <= ? ORDER BY number"
        with source.open("rb") as file, _faults(self._path):
            lines = enumerate(file, 1)
            for number, old in self._db.execute(known, (not self._retry_failed,)):
                raw = next((raw for at, raw in lines if at == number), None)
                if raw is not None and _input_hash(raw) != old:
                    msg = (
                        f"Line {number} of {source} has changed since its result was "
                        "written. Write the results of the changed input to another file."
                    )
                    raise click.UsageError(msg)

    def paid(self) -> Iterator[dict[str, Any]]:
        """Yield the model and usage of every attempt of earlier runs, if known."""
        with _faults(self._path):
            for (record,) in self._db.execute("SELECT record FROM result"):
                yield from _attempts(record)

    def unfinished(self, source: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """Yield number and text of the lines to send; `add` or `fail` has to end each."""
        for number, raw in enumerate(source, 1):
            self._begun = number
            if raw.strip() and not self._query(_HAS, number, not self._retry_failed):
                self._in_flight[number] = None
                yield number, raw
        self._begun = _END

    @property
    def next(self) -> int:
        """The first line that may be unfinished."""
        return next(iter(self._in_flight), self._begun + 1)

    def add(self, number: int, record: Mapping[str, Any], line: bytes = b"") -> None:
        """Store the result of an input line."""
        raw = self._store(number, record, line, failed=False)
        self.done += 1
        self._is_late |= number < self._last
        if not self._is_ordered:
            _append(self._out, raw)
        self._write_waiting()

    def fail(self, number: int, record: Mapping[str, Any], line: bytes = b"") -> None:
        """Store the failure of an input line."""
        _append(self._failed, self._store(number, record, line, failed=True))
        self.failed += 1
        self._write_waiting()

    def _store(
        self, number: int, record: Mapping[str, Any], line: bytes, *, failed: bool
    ) -> bytes:
        earlier = self._query("SELECT record FROM result WHERE number = ?", number)
        calls = [call for (old,) in earlier for call in _attempts(old)]
        mark = {
            "line": number,
            "input_hash": _input_hash(line),
            "settings_hash": self._settings,
        }
        more = {"earlier_attempts": calls} if calls else {}
        text = json.dumps({**mark, **record, **more, **mark}, ensure_ascii=False)
        raw = text.encode("utf-8", "replace") + b"\n"
        self._insert(number, _input_hash(line), raw, failed=failed)
        del self._in_flight[number]
        return raw

    def _write_waiting(self) -> None:
        """Write the results that no unfinished line comes before any more."""
        if self._is_ordered and self.next > self._last + 1:
            for number, raw in self._rows(after=self._last, before=self.next):
                _append(self._out, raw)
                self._last = number

    def _rows(
        self, *, failed: bool = False, after: int = 0, before: int = _END
    ) -> Iterator[tuple[int, bytes]]:
        """Yield number and record of lines in the order of the file."""
        query = f"{_ROWS} ORDER BY {'number' if self._is_ordered else 'place'}"
        with _faults(self._path):
            for number, raw in self._db.execute(query, (failed, after, before)):
                yield number, zlib.decompress(raw)

    def _export_results(self) -> None:
        """Repair the file of results, which may have been cut off."""
        end = self._last + 1 if self._is_ordered else _END
        _export(self._out, self._rows(before=end))
        self._is_late = False

    def finish(self) -> None:
        """Put retried lines in their places, and drop failures that were resolved."""
        self._write_waiting()
        if self._is_late:
            self._export_results()
        _export(self._failed, self._rows(failed=True))

    def close(self) -> None:
        """Close the files, and remove that of the failed lines if it is empty."""
        self._out.close()
        self._failed.close()
        if not self.failed_path.stat().st_size:
            self.failed_path.unlink()
        self._db.close()

    def _query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with _faults(self._path):
            return self._db.execute(statement, values).fetchall()


def output_paths(target: Path) -> tuple[Path, Path, Path]:
    """Return the files that a run writes: results, failures and the database."""
    if target.is_symlink():  # one database for one file
        target = target.resolve()
    return target, _beside(target, ".failed"), _beside(target, ".db")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()[:_HASH]


def _input_hash(line: bytes) -> str:
    return _hash(line.rstrip(b"\r\n"))


def _attempts(stored: bytes) -> Iterator[dict[str, Any]]:
    """Yield the model and usage of every attempt at a line, if known."""
    record = json.loads(zlib.decompress(stored))
    yield from record.get("earlier_attempts", ())
    if "usage" in record:
        yield {"model": record.get("model", ""), "usage": record["usage"]}


# --- files that are ours ----------------------------------------------------------------


def _check_files(out: Path, failed: Path, database: Path) -> int:
    """Check, without opening any for writing, that all files are new or written by us.

    Returns:
        The number of the last line in the file of results, or 0.

    Raises:
        click.UsageError: One of them was not.
    """
    last = {path: _last_line(path) for path in (out, failed)}
    foreign = [path for path, number in last.items() if number is None]
    if database.exists():
        foreign += [] if _is_our_database(database) else [database]
    else:
        sides = (_beside(database, suffix) for suffix in ("-journal", "-wal"))
        foreign += [path for path in sides if path.exists()]
    if foreign:
        raise _foreign(foreign[0])
    return last[out] or 0


def _foreign(path: Path) -> click.UsageError:
    msg = f"{path} was not written by `batch`. Write the results to another file."
    return click.UsageError(msg)


def _last_line(path: Path) -> int | None:
    """Return the number of the last whole record, or `None` if a line isn't ours."""
    last = number = 0
    begins_line = True
    if not path.exists():
        return 0
    if not path.is_file():
        return None
    with path.open("rb") as file:
        while piece := file.readline(_STEP):
            if begins_line:
                if not (found := _OURS.match(piece)):
                    return last if _is_cut_off(piece) else None
                number = int(found[1])
            begins_line = piece.endswith(b"\n")
            last = number if begins_line else last
    return last


def _is_cut_off(line: bytes) -> bool:
    """Return whether a line is the beginning of a record of ours."""
    return len(line) <= _LONGEST_HEAD and any(
        _OURS.match(line + _HEAD[end:]) for end in range(1, len(_HEAD))
    )


def _is_our_database(path: Path) -> bool:
    """Return whether a file is a database of ours, or one that was only just created."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(72)
    mark = _APPLICATION_ID.to_bytes(4, "big")
    return not head or (head.startswith(b"SQLite format 3\0") and head.endswith(mark))


def _prepare(database: sqlite3.Connection) -> None:
    """Lock a database of ours until it is closed, and create its tables."""
    database.execute("PRAGMA locking_mode=EXCLUSIVE")
    for statement in ("BEGIN EXCLUSIVE", *_SCHEMA.split(";"), "COMMIT"):
        database.execute(statement)
    # Commits need not wait for the disk with a write-ahead log, which needs no memory
    # shared by processes if the lock is exclusive: network file systems have none. Where
    # it fails, SQLite keeps its rollback journal: slower, but as safe.
    with suppress(sqlite3.OperationalError):
        database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("PRAGMA wal_autocheckpoint=100")  # pages; 400 kB


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Raise errors of a database as those of a file.

    Raises:
        click.ClickException: Another run has locked it.
        OSError: The disk is full, for example.
    """
    try:
        yield
    except sqlite3.Error as error:
        if "locked" in str(error):
            msg = f"Another run is writing {path.stem}."
            raise click.ClickException(msg) from None
        msg = f"{path}: {error}"
        raise OSError(msg) from None


def _make_private(path: Path) -> None:
    """Create a file that only its owner can read, or make it one."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE))
    path.chmod(_PRIVATE)


def _open(path: Path) -> FileIO:
    """Open a file of ours to append lines to."""
    _make_private(path)
    return FileIO(path, "a+")


def _export(file: FileIO, rows: Iterator[tuple[int, bytes]]) -> None:
    """Make a file consist of records, without writing again what it has of them."""
    place = 0
    rest: Iterable[tuple[int, bytes]] = ()
    with Path(file.name).open("rb") as old:
        for number, raw in rows:
            if old.read(len(raw)) != raw:
                rest = chain([(number, raw)], rows)
                break
            place += len(raw)
    file.truncate(place)
    for _, raw in rest:
        _append(file, raw)


def _append(file: FileIO, line: bytes) -> None:
    """Append a line completely, or not at all."""
    start = file.seek(0, os.SEEK_END)
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(start)
        raise
