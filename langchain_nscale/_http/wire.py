"""HTTP/1.1 on the wire: the bytes of a request, and what the bytes of a response mean.

httptools parses: it wraps llhttp, the parser of Node.js, and uvicorn uses it as well.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import httptools
import httpx2

if TYPE_CHECKING:
    from langchain_nscale._http.client import Request

# Of a head, of the trailers, or of what comes between two pieces of a body.
_MAX_OVERHEAD = 100 * 1024  # as httpcore2
FAULTS = (httpx2.HTTPError, httpx2.StreamError)


class Origin(NamedTuple):
    """The server at the other end of a connection."""

    is_tls: bool
    host: str
    port: int


@lru_cache(maxsize=64)
def _parsed(url: str) -> tuple[Origin, bytes, str]:
    """Return the origin, path and `Host` of an address, which is parsed only once."""
    return _parts(httpx2.URL(url))


def _parts(url: httpx2.URL) -> tuple[Origin, bytes, str]:
    is_tls = url.scheme == "https"
    host = url.raw_host.decode("ascii")
    origin = Origin(is_tls, host, url.port or (443 if is_tls else 80))
    return origin, url.raw_path, url.netloc.decode("ascii")


class RequestBytes(bytes):
    """The bytes of a request, of which a traceback that shows variables shows nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<request of {len(self)} bytes>"


def encoded(request: Request) -> tuple[Origin, RequestBytes]:
    """Return where to send a request, and its bytes."""
    if request.query:
        url = httpx2.URL(request.url, params=dict(request.query))
        origin, path, host = _parts(url)
    else:
        origin, path, host = _parsed(request.url)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    if "host" not in map(str.lower, request.headers):
        lines.insert(0, f"Host: {host}")
    if request.content is not None:
        lines.append(f"Content-Length: {len(request.content)}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        msg = "A header has a line end."  # it may be the token: don't show it
        raise ValueError(msg)
    head = b"%b %b HTTP/1.1\r\n%b\r\n\r\n"
    method = request.method.encode("ascii")
    made = head % (method, path, text.encode("ascii")) + (request.content or b"")
    return origin, RequestBytes(made)


class Parser:
    """Parses the responses of one connection."""

    __slots__ = (
        "_ends_with_connection",
        "_fault",
        "_is_doubtful",
        "_overhead",
        "_parser",
        "_pieces",
        "headers",
        "is_done",
        "is_reusable",
        "status",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # What httpx2 accepts, too: blanks after the size of a chunk, and a length beside
        # chunks, which then counts for nothing.
        self._parser.set_dangerous_leniencies(
            lenient_spaces_after_chunk_size=True, lenient_chunked_length=True
        )
        self._pieces: list[bytes] = []
        self.begin()

    def begin(self) -> None:
        """Expect the response to a request that is sent now."""
        self.status = 0  # until the head has arrived
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_done = self.is_reusable = False
        self._ends_with_connection = self._is_doubtful = False
        self._overhead = 0
        self._fault: httpx2.RemoteProtocolError | None = None
        # Heads may have bare line feeds, as for httpx2. Chunks may not: a body that has
        # lost a byte must not pass.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the part of the body among them.

        What comes before a fault is returned first.
        """
        self.check()
        has_begun = bool(self.status)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self.is_reusable = False
            if not self.is_done:  # else it is what comes after it that is wrong
                msg = f"The response is not valid HTTP: {fault.__context__ or fault}"
                self._fault = httpx2.RemoteProtocolError(msg)
                if has_begun == bool(self.status) and not self._pieces:
                    raise self._fault from fault
        if not self._pieces:
            self._overhead += len(data)
            if self._overhead > _MAX_OVERHEAD and not self.is_done:
                msg = "The response has a head or trailers without end."
                raise httpx2.RemoteProtocolError(msg)
            return b""
        self._overhead = 0
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return body

    def check(self) -> None:
        """Raise the fault that followed the last part of the body, if there was one."""
        if self._fault is not None:
            raise self._fault

    def end(self) -> None:
        """Note that the server has closed the connection; raise if a part is missing."""
        self.is_reusable = False
        self.check()
        if not self.status:
            msg = "Server disconnected without sending a response."
            raise httpx2.RemoteProtocolError(msg)
        if not self.is_done and not self._ends_with_connection:
            msg = "peer closed connection without sending complete message body"
            raise httpx2.RemoteProtocolError(msg)
        self.is_done = True

    # --- called by httptools ------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a response, perhaps after an interim one, or an unrequested one."""
        self.is_reusable = False
        if not self.status:
            self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after the body are dropped."""
        if not self.status:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status, unless it is that of an interim response."""
        if self.is_done:
            return
        status = self._parser.get_status_code()
        if status < 100 or status == 101:  # noqa: PLR2004  # HTTP's
            msg = f"status {status}"
            raise ValueError(msg)
        if status < 200:  # noqa: PLR2004  # HTTP's
            return
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=False)
        names = [name.lower() for name, _ in self.headers]
        self._ends_with_connection = b"content-length" not in names
        if b"transfer-encoding" in names:
            self._is_doubtful = not self._ends_with_connection  # two lengths
            self._ends_with_connection = False
            value = self.headers[names.index(b"transfer-encoding")][1]
            if (
                names.count(b"transfer-encoding") > 1
                or value.strip().lower() != b"chunked"
            ):
                msg = "Transfer-Encoding is not 'chunked'"
                raise ValueError(msg)
        self.status = status

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if not self.is_done:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of the response."""
        if self.status and not self.is_done:
            self.is_done = True
            self.is_reusable = self._parser.should_keep_alive() and not self._is_doubtful


def decoded(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as text, by name in lower case; those of one name are joined."""
    values: dict[str, str] = {}
    for raw_name, raw in headers:
        name = raw_name.decode("ascii").lower()
        try:
            value = raw.strip().decode()
        except UnicodeDecodeError:
            value = raw.strip().decode("latin-1")
        values[name] = f"{values[name]}, {value}" if name in values else value
    return values
