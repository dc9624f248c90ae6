"""The bytes of HTTP/1.1, compared with what httpx2 makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import httpcore2
import httptools
import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_nscale._http.client import Request
from langchain_nscale._http.wire import Parser, decoded, encoded

Outcome = tuple[int, dict[str, str], bytes] | None  # None: a fault
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def read_by_httpx2(pieces: list[bytes]) -> Outcome:
    """Return status, headers and body of a response, as httpx2 reads it."""
    network = httpcore2.MockBackend([*pieces, b""])
    with httpcore2.ConnectionPool(network_backend=network) as pool:
        try:
            response = pool.request("GET", "http://x/")
        except httpcore2.ProtocolError:
            return None
    return response.status, comparable(httpx2.Headers(response.headers)), response.content


def read_by_us(pieces: list[bytes]) -> Outcome:
    parser = Parser()
    body = b""
    try:
        for piece in pieces:
            if not parser.is_done:
                body += parser.feed(piece)
        if not parser.is_done:
            parser.end()
    except httpx2.RemoteProtocolError:
        return None
    return parser.status, comparable(decoded(parser.headers)), body


def comparable(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers without the one that httpx2 changes to lower case."""
    return {k: v for k, v in headers.items() if k != "transfer-encoding"}


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


# What both read alike; each is also cut at every byte, and at random places.
RESPONSES = {
    "a length": OK + b"content-length: 2\r\n\r\nok",
    "blanks around a length": OK + b"content-length: \t 2 \t\r\n\r\nok",
    "no body": OK + b"content-length: 0\r\n\r\n",
    "until the end": OK + b"\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "HTTP/1.0 that is kept": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n"
    b"content-length: 2\r\n\r\nok",
    "HTTP/1.0 with chunks": b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n0\r\n\r\n",
    "connection: close": OK + b"connection: close\r\ncontent-length: 2\r\n\r\nok",
    "close among others": OK + b"connection: x, Close\r\ncontent-length: 2\r\n\r\nok",
    "chunks": CHUNKED + b"2\r\nok\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
    "chunks, capitals": OK
    + b"Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "a blank after chunked": OK + b"transfer-encoding: chunked \r\n\r\n0\r\n\r\n",
    "leading zeros": CHUNKED + b"0002\r\nok\r\n000\r\n\r\n",
    "chunk extensions": CHUNKED + b'2;a=b;c="d e"\r\nok\r\n0;x\r\n\r\n',
    "blanks after a size": CHUNKED + b"2  \r\nok\r\n0 \r\n\r\n",
    "trailers": CHUNKED + b"2\r\nok\r\n0\r\nx-sum: 1\r\nx: 2\r\n\r\n",
    "chunks and a length": OK + b"content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n0\r\n\r\n",
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok",
    "102 and 103 before": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
    b"link: </x>\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204 with a length": b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
    "304 with a length": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    "empty reason": b"HTTP/1.1 503 \r\ncontent-length: 2\r\n\r\nok",
    "reason in UTF-8": b"HTTP/1.1 400 \xc3\xa9\r\ncontent-length: 2\r\n\r\nok",
    "unknown status": b"HTTP/1.1 799 Odd\r\ncontent-length: 2\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "an empty header": OK + b"x-empty:\r\ncontent-length: 2\r\n\r\nok",
    "Latin-1": OK + b"x-name: \xe9\r\ncontent-length: 2\r\n\r\nok",
    "UTF-8": OK + b"x-name: \xc3\xa9\r\ncontent-length: 2\r\n\r\nok",
    "a header twice": OK + b"x-a: 1\r\nX-A: 2\r\ncontent-length: 2\r\n\r\nok",
    "more than its length": OK + b"content-length: 2\r\n\r\nokHTTP",
    "another response": (OK + b"content-length: 2\r\n\r\nok") * 2,
    "a line end too many": OK + b"content-length: 2\r\n\r\nok\r\n",
    "garbage after close": OK + b"connection: close\r\ncontent-length: 2\r\n\r\nokno",
}
# What neither reads.
BROKEN = {
    "nothing": b"",
    "not HTTP": b"hello\r\n\r\n",
    "HTML": b"<html><body>502</body></html>",
    "half a head": OK + b"content-le",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "lower case": b"http/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "a blank first": b" HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "two blanks": b"HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\nok",
    "status of two digits": b"HTTP/1.1 99 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 1000 OK\r\n\r\n",
    "status 0": b"HTTP/1.1 000 OK\r\ncontent-length: 2\r\n\r\nok",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"
    b"upgrade: x\r\n\r\nzz",
    "a header without a colon": OK + b"foo\r\ncontent-length: 2\r\n\r\nok",
    "a blank before the colon": OK + b"foo : a\r\ncontent-length: 2\r\n\r\nok",
    "a header without a name": OK + b": a\r\ncontent-length: 2\r\n\r\nok",
    "a name with brackets": OK + b"f(o): a\r\ncontent-length: 2\r\n\r\nok",
    "a continuation at the start": OK + b" x: a\r\ncontent-length: 2\r\n\r\nok",
    "NUL": OK + b"x: a\0b\r\ncontent-length: 2\r\n\r\nok",
    "a bare carriage return": OK + b"x: a\rb\r\ncontent-length: 2\r\n\r\nok",
    "negative length": OK + b"content-length: -2\r\n\r\nok",
    "signed length": OK + b"content-length: +2\r\n\r\nok",
    "hexadecimal length": OK + b"content-length: 0x2\r\n\r\nok",
    "empty length": OK + b"content-length:\r\n\r\nok",
    "huge length": OK + b"content-length: 99999999999999999999999\r\n\r\nok",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "less than its length": OK + b"content-length: 5\r\n\r\nok",
    "a cut chunk": CHUNKED + b"5\r\nok",
    "a cut size": CHUNKED + b"2\r\nok\r\n1",
    "no last chunk": CHUNKED + b"2\r\nok\r\n",
    "cut in the last chunk": CHUNKED + b"2\r\nok\r\n0\r\n",
    "negative size": CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",
    "size with 0x": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "huge size": CHUNKED + b"fffffffffffffffffffff\r\nok\r\n0\r\n\r\n",
    "empty size": CHUNKED + b"\r\nok\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"2\r\nokX\r\n0\r\n\r\n",
    "a chunk that has lost a byte": CHUNKED + b"a\r\n012345678\r\n0\r\n\r\n",
    "bare line feeds in chunks": CHUNKED + b"2\nok\n0\n\n",
    "a blank before an extension": CHUNKED + b"2 ; a\r\nok\r\n0\r\n\r\n",
    "gzip as coding": OK
    + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "identity as coding": OK + b"transfer-encoding: identity\r\n\r\nok",
    "chunked twice": OK + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings": OK
    + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n"
    b"0\r\n\r\n",
}
# What only httpx2 reads: llhttp is stricter, and so are nginx and Node.js.
STRICTER = {
    "folded header": OK + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
    "control character": OK + b"x: a\x01b\r\ncontent-length: 2\r\n\r\nok",
    "the same length twice": OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "a list of lengths": OK + b"content-length: 2, 2\r\n\r\nok",
    "an empty chunk extension": CHUNKED + b"2;\r\nok\r\n0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nok",
}
named = pytest.mark.parametrize


@named("data", RESPONSES.values(), ids=RESPONSES)
def test_what_httpx2_reads_is_read_alike_wherever_it_is_cut(data: bytes) -> None:
    expected = read_by_httpx2([data])
    assert expected is not None
    assert read_by_us([data]) == expected
    assert read_by_us([data[at : at + 1] for at in range(len(data))]) == expected
    for cut in range(1, len(data)):
        assert read_by_us([data[:cut], data[cut:]]) == expected


@named("data", BROKEN.values(), ids=BROKEN)
def test_what_httpx2_refuses_is_refused_wherever_it_is_cut(data: bytes) -> None:
    assert read_by_httpx2([data]) is None
    assert read_by_us([data]) is None
    assert read_by_us([data[at : at + 1] for at in range(len(data))]) is None


@named("data", STRICTER.values(), ids=STRICTER)
def test_what_is_refused_although_httpx2_reads_it(data: bytes) -> None:
    assert read_by_httpx2([data]) is not None
    assert read_by_us([data]) is None


@given(
    st.sampled_from([*RESPONSES.values(), *BROKEN.values()]),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_random_splits_change_nothing(data: bytes, cuts: list[int]) -> None:
    pieces = split(data, cuts)
    assert read_by_us(pieces) == read_by_httpx2(pieces)


@given(
    st.sampled_from([*RESPONSES.values(), *BROKEN.values()]),
    st.integers(0, 500),
    st.binary(max_size=3) | st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b":", b" "]),
    st.integers(0, 3),
)
@example(RESPONSES["chunks"], 60, b"\r", 0)
def test_damaged_responses_are_never_read_otherwise(
    data: bytes, at: int, inserted: bytes, dropped: int
) -> None:
    """What both read they read alike; what only we read is odd in a status line."""
    at %= len(data) + 1
    damaged = data[:at] + inserted + data[at + dropped :]
    ours, theirs = read_by_us([damaged]), read_by_httpx2([damaged])
    if ours is not None and theirs is not None:
        assert ours[0] == theirs[0]
        assert ours[2] == theirs[2]
    elif ours is not None:
        line = damaged[:at].rpartition(b"\n")[2][:5]
        assert line == b"HTTP/"[: len(line)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 9))
def test_bodies_of_any_bytes(chunks: list[bytes], step: int) -> None:
    data = (
        CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    )
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    outcome = read_by_us(pieces)
    assert outcome is not None
    assert outcome[2] == b"".join(chunks)


@pytest.mark.parametrize(
    "endless",
    [OK + b"x: ", OK + b"a: b\r\n" * 3, CHUNKED + b"0\r\nx: ", CHUNKED + b"1;", b"\r\n"],
)
def test_no_head_and_no_trailers_are_read_without_end(endless: bytes) -> None:
    parser = Parser()
    fed = 0
    with pytest.raises(httpx2.RemoteProtocolError):
        parser.feed(endless)
        while fed < 10_000_000:
            parser.feed(b"a: b\r\n" * 100 if endless.endswith(b"\n") else b"x" * 600)
            fed += 600
    assert fed < 200_000


def test_interim_responses_do_not_go_on_without_end() -> None:
    parser = Parser()
    with pytest.raises(httpx2.RemoteProtocolError):
        for _ in range(100_000):
            parser.feed(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a length", True),
        ("chunks", True),
        ("204", True),
        ("HTTP/1.0 that is kept", True),
        ("HTTP/1.0", False),
        ("connection: close", False),
        ("close among others", False),
        ("until the end", False),
        ("chunks and a length", False),
        ("more than its length", False),
        ("another response", False),
        ("garbage after close", False),
    ],
)
def test_which_connections_can_be_used_again(name: str, kept: bool) -> None:
    parser = Parser()
    parser.feed(RESPONSES[name])
    if not parser.is_done:
        parser.end()
    assert parser.is_reusable is kept
    if kept:
        parser.begin()
        assert parser.feed(RESPONSES["chunks"]) == b"ok0123456789abcdef"
        assert decoded(parser.headers) == {"transfer-encoding": "chunked"}


# --- requests ---------------------------------------------------------------------------

NAMES = st.text("abcXYZ-", min_size=1, max_size=4).map("X-{}".format)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5)


def sent_by_httpx2(request: Request) -> httpx2.Request:
    return httpx2.Request(
        request.method,
        request.url,
        params=request.query,
        headers=request.headers,
        content=request.content,
    )


@given(
    st.dictionaries(NAMES | st.sampled_from(["host", "user-agent"]), VALUES),
    st.none() | st.dictionaries(st.text(), st.text() | st.integers()),
    st.sampled_from(
        [
            "https://x/v1",
            "http://10.0.0.1:80/a b/v1",
            "https://ü.example/%2F/é",
            "http://[::1]:8000/v1",
            "https://x:443",
        ]
    ),
    st.none() | st.binary(max_size=20),
)
def test_requests_are_those_that_httpx2_sends(
    headers: dict[str, str],
    query: dict[str, Any] | None,
    url: str,
    content: bytes | None,
) -> None:
    method = "GET" if content is None else "POST"
    request = Request(method, url, query, headers, content, {})
    expected = sent_by_httpx2(request)
    origin, data = encoded(request)
    seen: list[tuple[bytes, bytes]] = []
    path: list[bytes] = []
    body: list[bytes] = []

    class Seen:
        on_url: Callable[[bytes], None] = path.append
        on_body: Callable[[bytes], None] = body.append

        def on_header(self, name: bytes, value: bytes) -> None:
            seen.append((name.lower(), value))

    parser = httptools.HttpRequestParser(Seen())
    parser.feed_data(data)
    assert parser.get_method().decode() == expected.method
    assert b"".join(path) == expected.url.raw_path
    assert b"".join(body) == expected.content
    wanted = [(name.lower(), value) for name, value in expected.headers.raw]
    assert sorted(seen) == sorted(wanted)
    assert origin.host == expected.url.raw_host.decode()
    assert origin.is_tls == (expected.url.scheme == "https")
    assert origin.port == (expected.url.port or (443 if origin.is_tls else 80))


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
def test_no_header_adds_another(value: str) -> None:
    request = Request("GET", "http://x/", None, {"x": value}, None, {})
    with pytest.raises(ValueError, match="line end") as caught:
        encoded(request)
    assert value not in str(caught.value)


def test_no_variable_shows_the_token() -> None:
    headers = {"Authorization": "Bearer s3cret"}
    _, message = encoded(Request("POST", "http://x/", None, headers, b"{}", {}))
    assert message.count(b"s3cret") == 1
    assert "s3cret" not in repr(message)
