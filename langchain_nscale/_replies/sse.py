"""Server-sent events: bytes in, the data of complete events out.

Follows the WHATWG specification: lines end in LF, CRLF or CR; a leading BOM, comments
and unknown fields are ignored; several data lines form one event. Beyond it, JSON
objects on lines of their own are events too, because some servers send newline-delimited
JSON, or an error after a stream, without `data:`.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class ErrorEvent(bytes):
    """The data of an event that the server marked as an error."""


class SSEDecoder:
    """Incremental decoder. Cost is linear in the bytes, however they are split."""

    __slots__ = ("_data", "_is_error", "_line", "_started")

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of a line whose end has not arrived
        self._data: list[bytes] = []  # data lines of an event whose end has not arrived
        self._is_error = False  # whether that event is an error
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the data of each event that they complete."""
        if b"\n" not in chunk and b"\r" not in chunk:
            self._line.append(chunk)
            return []
        if self._line:
            self._line.append(chunk)
            chunk = b"".join(self._line)
            self._line = []
        if not self._started:
            self._started = True
            chunk = chunk.removeprefix(_BOM)
        lines = chunk.splitlines(keepends=True)
        # A CR at the very end may be half of a CRLF, so that line has to wait.
        if not lines[-1].endswith(b"\n"):
            self._line.append(lines.pop())
        return self._events(lines)

    def flush(self) -> list[bytes]:
        """Return the data of an event that the end of the stream completes."""
        # The specification discards it, but some servers end without an empty line.
        rest = b"".join(self._line).removeprefix(b"" if self._started else _BOM)
        self._line = []
        return self._events([*rest.splitlines(keepends=True), b"\n"])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[6 if line[5:6] == b" " else 5 :].rstrip(b"\r\n"))
            elif line in (b"\n", b"\r\n", b"\r"):
                if data:
                    event = data[0] if len(data) == 1 else b"\n".join(data)
                    events.append(ErrorEvent(event) if self._is_error else event)
                    data.clear()
                self._is_error = False
            elif line.startswith(b"{"):
                events.append(line.strip())
            elif line.startswith(b"error:"):
                events.append(ErrorEvent(line[6:].strip()))
            elif line.startswith(b"event:"):
                self._is_error = line[6:].strip() == b"error"
            elif b'"choices"' in line and not line.startswith(b":"):
                events.append(line.strip())  # to be read or reported, not to be skipped
        return events
