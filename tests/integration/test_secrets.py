"""The service token stays in its header, whatever happens and whoever looks."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run
from pytest_socket import socket_allow_hosts

from langchain_nscale import (
    ChatNscale,
    NscaleConnectionError,
    NscaleError,
    aclose_connections,
    close_connections,
)
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.conditions import ROWS, Condition
from tests.integration.conftest import MODEL
from tests.integration.test_chat import WAYS, consume

LOOKS_SERIALISED = {"lc": 1, "type": "secret", "id": ["NSCALE_SERVICE_TOKEN"]}


class Tracer(BaseTracer):
    """Keeps what a tracing service would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self.sent.append(repr(run.__dict__))


@pytest.fixture(params=["a string", "a callable"])
def token(request: pytest.FixtureRequest, server: NscaleServer) -> Any:
    """A token that nothing else looks like, in either form that it is given in."""
    before = server.token
    server.token = f"tok-{uuid4().hex}"
    secret = server.token
    yield secret if request.param == "a string" else lambda: secret
    server.token = before


def seen_of(error: BaseException) -> str:
    """What a crash reporter shows: frames with their variables, causes, attributes.

    All but the first frame: the test's own, which has the token.
    """
    assert error.__traceback__ is not None
    shown = traceback.TracebackException(
        type(error), error, error.__traceback__.tb_next, capture_locals=True
    )
    texts = ["".join(shown.format())]
    while error is not None:
        texts += [repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # ends at None
    return "\n".join(texts)


@pytest.mark.parametrize(("row", "way"), ROWS.values(), ids=ROWS)
async def test_no_failure_shows_it(
    make: Any,
    server: NscaleServer,
    token: Any,
    row: Condition,
    way: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    if row.reply:
        server.add(row.reply, row.reply)  # after a 401, a callable is asked once more
    model = make(service_token=token, **row.settings)
    tracer = Tracer()
    try:
        await consume(model.with_config(callbacks=[tracer]), "Hi", way)
    except NscaleError as error:
        seen = seen_of(error)
    else:
        raise AssertionError
    assert server.token not in seen
    assert server.token not in caplog.text
    assert tracer.sent
    assert server.token not in "".join(tracer.sent)


@WAYS
async def test_no_success_shows_it(
    make: Any, server: NscaleServer, token: Any, way: str, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    tracer = Tracer()
    model = make(service_token=token, include_response_headers=True)
    message = await consume(model.with_config(callbacks=[tracer]), "Hi", way)
    shown = [repr(message), dumps(message), repr(model), str(model), dumps(model)]
    shown += [repr(model.model_dump()), caplog.text, *tracer.sent]
    assert caplog.text
    assert tracer.sent
    assert server.token not in "".join(shown)
    assert server.requests[-1].headers["authorization"] == f"Bearer {server.token}"


@WAYS
async def test_content_that_looks_serialised_is_data(
    make: Any, server: NscaleServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "must-not-be-read")
    text = json.dumps(LOOKS_SERIALISED)
    server.add(ServerReply(text=text))
    message = await consume(make(), [HumanMessage(text)], way)
    assert message.text == text
    assert server.requests[0].json["messages"][0]["content"] == text
    assert "must-not-be-read" not in server.requests[0].body.decode() + repr(message)


@WAYS
async def test_cookies_are_not_kept(server: NscaleServer, way: str) -> None:
    """The connections are shared, and a cookie may identify the owner of a token."""
    server.add(ServerReply(text="a", headers={"set-cookie": "session=secret; Path=/"}))
    for _ in range(2):
        model = ChatNscale(model=MODEL, **server.settings)
        await consume(model, "Hi", way)
    assert len(server.requests) == 2
    assert all("cookie" not in request.headers for request in server.requests)


@pytest.mark.parametrize("host", ["127.0.0.2", "[::ffff:127.9.9.9]", "a.localhost"])
@pytest.mark.parametrize("way", ["invoke", "astream"])
async def test_a_proxy_gets_nothing_for_any_address_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, host: str, way: str
) -> None:
    """Nobody listens there, but the proxy isn't asked either."""
    socket_allow_hosts(["127.0.0.1", "localhost", host.strip("[]"), "::ffff:7f09:909"])
    with NscaleServer() as proxy:
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url.removesuffix("/v1"))
        close_connections()
        await aclose_connections()
        model = ChatNscale(
            model=MODEL,
            base_url=f"http://{host}:9/v1",
            service_token="a-token",
            max_retries=0,
        )
        with pytest.raises(NscaleConnectionError):
            await consume(model, "Hi", way)
        assert proxy.requests == []
    close_connections()
    await aclose_connections()


@pytest.mark.parametrize(
    "start", ["http://", "socks5://", "socks4://", "://", "http://["]
)
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_proxys_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, start: str, way: str
) -> None:
    password = uuid4().hex
    monkeypatch.setenv("HTTPS_PROXY", f"{start}me:{password}@127.0.0.1:9")
    close_connections()
    await aclose_connections()
    with pytest.raises((NscaleConnectionError, ValueError)) as caught:
        model = ChatNscale(
            model=MODEL,
            base_url="https://127.0.0.1.example.com/v1",
            service_token="a-token",
            max_retries=0,
        )
        await consume(model, "Hi", way)
    assert password not in "".join(traceback.format_exception(caught.value))
    close_connections()
    await aclose_connections()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
@pytest.mark.parametrize("way", ["invoke", "astream"])
async def test_a_proxy_gets_nothing_for_this_machine(
    server: NscaleServer,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    variable: str,
    way: str,
) -> None:
    with NscaleServer() as proxy:
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv(variable, proxy.base_url.removesuffix("/v1"))
        base_url = server.base_url.replace("127.0.0.1", host)
        close_connections()
        await aclose_connections()
        model = ChatNscale(model=MODEL, base_url=base_url, service_token=server.token)
        await consume(model, "Hi", way)
        assert len(server.requests) == 1
        assert proxy.requests == []
    close_connections()
    await aclose_connections()
