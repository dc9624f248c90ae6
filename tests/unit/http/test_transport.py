from __future__ import annotations

import asyncio
import errno
import pickle
import threading
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import httpx2
import pytest
from pydantic import SecretStr

from langchain_nscale import ChatNscale, __version__
from langchain_nscale.errors import (
    NscaleConnectionError,
    NscaleError,
    NscaleInsufficientCreditError,
    NscaleMalformedResponseError,
    NscaleRateLimitError,
    NscaleTimeoutError,
)
from tests.unit.service import Service as Answering
from tests.unit.service import chat, completion

CREDIT = {"error": {"message": "none", "error_type": "INSUFFICIENT_CREDIT"}}


class Service(Answering):
    """Also records how long retries wait."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call a service, sync or async, without ever sleeping."""

    def run(service: Service, **settings: Any) -> Any:
        given = {"base_url": "https://x/v1", "service_token": "s3cret", **settings}
        model = chat(service, **given)
        monkeypatch.setattr("time.sleep", service.waits.append)
        monkeypatch.setattr("asyncio.sleep", service.sleep)
        if request.param == "sync":
            return model.invoke("Hi")
        return asyncio.run(model.ainvoke("Hi"))

    return run


def ok(_: Any = None) -> httpx2.Response:
    return httpx2.Response(200, json=completion())


def failed(status: int, body: Any = None, **headers: str) -> partial[httpx2.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return partial(new_response, status, body or {}, named)


def new_response(status: int, body: Any, headers: Any, _: Any) -> httpx2.Response:
    """A response for one request: it can be read once, sync or async."""
    return httpx2.Response(status, json=body, headers=headers)


def name_of(answer: Any) -> str:
    return str(answer.args[0]) if isinstance(answer, partial) else type(answer).__name__


def test_what_is_sent(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.setenv(f"OPENAI_{name}", "https://evil.example")
    service = Service(ok)
    call(service, default_headers={"X-Mine": "1"}, default_query={"q": "1"})
    (request,) = service.requests
    assert str(request.url) == "https://x/v1/chat/completions?q=1"
    assert request.method == "POST"
    messages = b'"messages":[{"role":"user","content":"Hi"}]'
    assert request.content == b'{%s,"model":"m"}' % messages
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["user-agent"] == f"langchain-nscale/{__version__}"
    assert request.headers["x-mine"] == "1"
    assert set(request.headers) == {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-mine",
    }


def test_users_headers_cannot_replace_the_token(call: Any) -> None:
    service = Service(ok)
    call(service, default_headers={"User-Agent": "mine"})
    with pytest.raises(ValueError, match="service_token"):
        call(service, default_headers={"Authorization": "other"})
    assert service.requests[0].headers["user-agent"] == "mine"
    assert service.requests[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    "answer",
    [
        *[failed(status) for status in (408, 409, 429, 500, 502, 503, 504)],
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("cut"),
    ],
    ids=name_of,
)
def test_passing_faults_are_repeated(call: Any, answer: Any) -> None:
    service = Service(answer, answer, ok)
    assert call(service).response_metadata["retries"] == 2
    assert len(service.requests) == 3
    assert 0 <= service.waits[0] <= 0.5
    assert 0 <= service.waits[1] <= 1.0


@pytest.mark.parametrize(
    "answer",
    [
        *[failed(status) for status in (400, 401, 403, 404, 413, 422, 501)],
        failed(429, CREDIT, retry_after="1"),
        failed(302, location="https://elsewhere"),
        failed(503, retry_after="3600"),
    ],
    ids=name_of,
)
def test_other_faults_are_not_repeated(call: Any, answer: Any) -> None:
    service = Service(answer)
    with pytest.raises(NscaleError) as caught:
        call(service)
    assert len(service.bodies) == 1
    assert service.waits == []
    assert caught.value.status_code == answer.args[0]


def test_credit_is_told_from_rate(call: Any) -> None:
    with pytest.raises(NscaleInsufficientCreditError):
        call(Service(failed(429, CREDIT)))
    with pytest.raises(NscaleRateLimitError) as caught:
        call(Service(*[failed(429)] * 3))
    assert caught.value.retries == 2


def test_no_retries_means_one_request(call: Any) -> None:
    service = Service(httpx2.ConnectError("refused"))
    with pytest.raises(NscaleConnectionError):
        call(service, max_retries=0)
    assert len(service.requests) == 1


def test_the_service_says_how_long_to_wait(call: Any, caplog: Any) -> None:
    caplog.set_level("INFO", logger="langchain_nscale")
    service = Service(failed(429, retry_after="7"), ok)
    call(service)
    assert 7.0 <= service.waits[0] <= 9.5
    assert f"Retry 1 of 2 in {service.waits[0]:.2f} s after" in caplog.text


def test_waits_grow_up_to_8_seconds(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    service = Service(*[failed(503)] * 6, ok)
    call(service, max_retries=6)
    assert service.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_callers_who_are_told_the_same_time_do_not_return_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(*[failed(429, retry_after="1"), ok] * 500)
    monkeypatch.setattr("time.sleep", service.waits.append)
    for _ in range(500):
        chat(service).invoke("Hi")
    assert len(service.waits) == 500
    assert min(service.waits) >= 1.0
    assert max(service.waits) - min(service.waits) > 1.0


@pytest.mark.parametrize(
    ("status", "wish", "requests"),
    [(503, "false", 1), (400, "true", 2), (503, "maybe", 2), (501, "true", 2)],
)
def test_the_service_says_whether_to_retry(
    call: Any, status: int, wish: str, requests: int
) -> None:
    service = Service(failed(status, x_should_retry=wish), ok)
    if requests == 1:
        with pytest.raises(NscaleError):
            call(service)
    else:
        call(service)
    assert len(service.requests) == requests


def test_a_rejected_token_is_asked_for_once_more(call: Any) -> None:
    tokens = iter(["old-token", "new-token", "third-token"])
    service = Service(failed(401), ok)
    call(service, service_token=lambda: next(tokens), max_retries=0)
    sent = [request.headers["authorization"] for request in service.requests]
    assert sent == ["Bearer old-token", "Bearer new-token"]
    assert service.waits == [0.0]

    service = Service(failed(401), failed(401), ok)
    with pytest.raises(NscaleError):
        call(service, service_token=lambda: "same-token")
    assert len(service.requests) == 2
    service = Service(failed(401), ok)
    with pytest.raises(NscaleError):
        call(service)  # a token that isn't a callable stays as it is
    assert len(service.requests) == 1


async def test_a_token_that_blocks_does_not_hold_up_the_loop() -> None:
    released = threading.Event()

    def token() -> str:
        assert released.wait(10)
        return "t"

    async def release() -> None:
        released.set()

    await asyncio.gather(chat(service_token=token).ainvoke("Hi"), release())


@pytest.mark.parametrize("library_", [httpx2, httpx])
def test_network_faults_are_typed_and_name_what_to_change(
    call: Any, library_: Any
) -> None:
    def slow(_: Any) -> Any:
        msg = "slow"
        raise library_.ReadTimeout(msg)

    mock = library_.MockTransport(slow)
    clients = {
        "http_client": library_.Client(transport=mock),
        "http_async_client": library_.AsyncClient(transport=mock),
    }
    with pytest.raises(NscaleTimeoutError, match="Raise `timeout`") as caught:
        call(Service(), max_retries=0, **clients)
    assert isinstance(caught.value.__cause__, library_.ReadTimeout)
    with pytest.raises(NscaleConnectionError, match="`base_url`"):
        call(Service(httpx2.ConnectError("no")), max_retries=0)


def test_a_body_that_breaks_off_is_repeated(call: Any) -> None:
    class Broken(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"{"
            msg = "cut"
            raise httpx2.ReadError(msg)

        async def __aiter__(self) -> Any:
            yield b"{"
            msg = "cut"
            raise httpx2.ReadError(msg)

    def broken(_: Any) -> httpx2.Response:
        return httpx2.Response(200, stream=Broken())

    assert call(Service(broken, ok)).response_metadata["retries"] == 1
    # Each answer is paid for, so it is not asked for again and again.
    service = Service(broken, broken, ok)
    with pytest.raises(NscaleConnectionError):
        call(service, max_retries=5)
    assert len(service.requests) == 2


class Endless(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body without an end; counts what was read of it."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.read < 100_000_000:
            self.read += 10_000
            yield b"x" * 10_000

    async def __aiter__(self) -> Any:
        for piece in self:
            yield piece


def test_nothing_reads_a_body_without_end(call: Any) -> None:
    body = Endless()
    service = Service(lambda _: httpx2.Response(200, stream=body))
    limit = pytest.raises(NscaleMalformedResponseError, match="max_response_bytes")
    with limit as caught:
        call(service, max_response_bytes=50_000)
    assert body.read <= 60_000
    assert not caught.value.is_retryable
    assert len(service.requests) == 1

    body = Endless()
    with pytest.raises(NscaleError, match="Nscale answered 400") as rejected:
        call(Service(lambda _: httpx2.Response(400, stream=body)))
    assert body.read <= 2_000_000
    assert len(str(rejected.value)) < 1_000


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
def test_a_client_of_httpx_reads_no_compressed_body(
    call: Any, status: int, coding: str
) -> None:
    """It decompresses each piece as a whole, whatever the limit is."""
    asked = []

    class Untouched(httpx.SyncByteStream, httpx.AsyncByteStream):
        pass  # raises if it is read

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["accept-encoding"])
        headers = {"content-encoding": coding}
        return httpx.Response(status, headers=headers, stream=Untouched())

    mock = httpx.MockTransport(respond)
    clients = {
        "http_client": httpx.Client(transport=mock),
        "http_async_client": httpx.AsyncClient(transport=mock),
    }
    with pytest.raises(NscaleError) as caught:
        call(Service(), max_retries=0, **clients)
    assert asked == ["identity"]
    assert caught.value.status_code == status
    assert status == 500 or "a client of httpx2" in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_server_that_echoes_the_request_does_not_show_the_token(
    call: Any, status: int
) -> None:
    def echo(_: Any) -> httpx2.Response:
        headers = dict(service.requests[-1].headers)
        return httpx2.Response(
            status,
            json={"error": {"message": "no", "code": headers, "param": [headers]}},
            headers={"x-echo": headers["authorization"], "x-request-id": "r"},
        )

    service = Service(echo)
    token = SecretStr("s3cret-token")
    with pytest.raises(NscaleError) as caught:
        call(service, service_token=token, max_retries=0)
    error = caught.value
    shown = [str(error), repr(vars(error)), str(error.response.headers)]
    assert "s3cret-token" not in "".join(shown)
    assert b"s3cret-token" not in pickle.dumps(error)
    assert b"s3cret-token" not in error.response.content


def test_no_error_shows_the_query(call: Any) -> None:
    with pytest.raises(NscaleError) as caught:
        call(Service(failed(400)), default_query={"key": "s3cret"})
    assert "s3cret" not in str(caught.value.request.url) + repr(vars(caught.value))


def test_too_many_open_files_are_not_taken_for_a_network_fault(call: Any) -> None:
    fault = httpx2.ConnectError("All connection attempts failed")
    fault.__cause__ = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(NscaleConnectionError, match="ulimit -n"):
        call(Service(fault), max_retries=0)


def test_a_client_of_another_loop_is_told_from_other_faults() -> None:
    for said, kind, shown in (
        ("a Future attached to a different loop", ValueError, "another event loop"),
        ("Cannot send, the client has been closed", ValueError, "has been closed"),
        ("a bug", RuntimeError, "a bug"),
    ):
        with pytest.raises(kind, match=shown) as caught:
            asyncio.run(chat(Service(RuntimeError(said))).ainvoke("Hi"))
        assert type(caught.value) is kind


def test_a_refused_connection_is_not_taken_for_too_many_open_files(call: Any) -> None:
    fault = httpx2.ConnectError("All connection attempts failed")
    fault.__cause__ = OSError(errno.ECONNREFUSED, "Connection refused")
    with pytest.raises(
        NscaleConnectionError, match=r"connection to x.* failed"
    ) as caught:
        call(Service(fault), max_retries=0)
    assert "ulimit" not in str(caught.value)


@pytest.mark.parametrize("problem", ["CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER"])
def test_what_no_repetition_can_mend_is_sent_once(call: Any, problem: str) -> None:
    service = Service(httpx2.ConnectError(f"[SSL: {problem}] no"))
    with pytest.raises(NscaleConnectionError) as caught:
        call(service, max_retries=2)
    assert len(service.requests) == 1
    assert not caught.value.is_retryable


@pytest.mark.parametrize("value", ["t1", SecretStr("t1")])
def test_a_token_may_be_a_callable(call: Any, value: Any) -> None:
    asked = []

    def token() -> Any:
        asked.append(1)
        return value

    service = Service(failed(503), ok)
    call(service, service_token=token)
    assert service.requests[0].headers["authorization"] == "Bearer t1"
    assert len(asked) == 2  # once for each attempt: a token may have expired


def test_an_async_token_works_in_async_calls_only() -> None:
    async def token() -> str:
        return "t2"

    service = Service(ok)
    model = chat(service, service_token=token)
    asyncio.run(model.ainvoke("Hi"))
    assert service.requests[0].headers["authorization"] == "Bearer t2"
    with pytest.raises(TypeError, match="use a sync callable"):
        model.invoke("Hi")


@pytest.mark.parametrize("bad", ["", "  ", None, 3, "a b", "a\nb", "é", SecretStr("")])
def test_tokens_that_cannot_be(call: Any, bad: Any) -> None:
    with pytest.raises(
        ValueError, match=r"NSCALE_SERVICE_TOKEN|`service_token`"
    ) as caught:
        ChatNscale(model="m", service_token=bad)
    assert "a b" not in str(caught.value)
    with pytest.raises(ValueError, match="NSCALE_SERVICE_TOKEN"):
        call(Service(), service_token=lambda: bad)


def test_a_token_loses_the_line_end_of_its_file() -> None:
    service = Service()
    chat(service, service_token=" abc\n").invoke("Hi")
    assert service.requests[0].headers["authorization"] == "Bearer abc"


def test_no_traceback_shows_the_token(call: Any) -> None:
    with pytest.raises(NscaleConnectionError) as caught:
        call(Service(httpx2.ConnectError("refused")), max_retries=0)
    shown: Any = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    frames = []
    while shown is not None:
        frames += [frame for frame in shown.stack if frame.filename != __file__]
        shown = shown.__cause__ or shown.__context__
    assert any("langchain_nscale" in frame.filename for frame in frames)
    assert "s3cret" not in str([(frame.line, frame.locals) for frame in frames])
    assert b"s3cret" not in pickle.dumps(caught.value)
    # Whoever keeps the cause (as Dask's pickles do) gets no token by its request.
    cause: Any = caught.value.__cause__
    assert "authorization" not in cause.request.headers
    assert str(cause.request.url) == str(caught.value.request.url)
