"""The service token stays in its header, whatever happens and whoever looks."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run
from pytest_socket import socket_allow_hosts

from langchain_nscale import (
    ChatNscale,
    NscaleConnectionError,
    NscaleEmbeddings,
    NscaleError,
    aclose_connections,
    alist_models,
    close_connections,
    list_models,
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


OFF = "http://127.0.0.1:9/v1"
ENTRIES: dict[str, Callable[[Any], Any]] = {
    "list_models": lambda token: list_models(service_token=token, base_url=OFF),
    "alist_models": lambda token: asyncio.run(
        alist_models(service_token=token, base_url=OFF)
    ),
    "list_models, by alias": lambda token: list_models(api_key=token, base_url=OFF),
    "list_models, unknown setting": lambda token: list_models(api_key=token, nope=1),
    "chat": lambda token: chat(token).invoke("Hi"),
    "async chat": lambda token: asyncio.run(chat(token).ainvoke("Hi")),
    "stream": lambda token: list(chat(token).stream("Hi")),
    "in time": lambda token: chat(token, total_timeout=5).invoke("Hi"),
    "own client": lambda token: chat(token, http_client=httpx2.Client()).invoke("Hi"),
    "bound": lambda token: chat(token).bind(nope=1).invoke("Hi"),
    "embeddings": lambda token: NscaleEmbeddings(
        model="m", service_token=token, base_url=OFF, max_retries=0
    ).embed_query("Hi"),
    "unknown setting": lambda token: ChatNscale(model="m", service_token=token, nope=1),  # type: ignore[call-overload]
    "wrong setting": lambda token: chat(token, timeout="x"),
}
BAD_TOKENS: dict[str, Callable[[str], Any]] = {
    "spaces inside": lambda secret: f"{secret} {secret}",
    "quotes": lambda secret: f'"{secret}"',
    "bytes": str.encode,
    "a list": lambda secret: [secret],
}


def chat(token: Any, **settings: Any) -> ChatNscale:
    fixed: dict[str, Any] = {"model": "m", "base_url": OFF, "max_retries": 0}
    return ChatNscale(**fixed, service_token=token, **settings)


def frames_of_ours(error: BaseException) -> str:
    """What a crash reporter shows of the package's own frames."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    own = [frame for frame in shown.stack if "langchain_nscale" in frame.filename]
    return repr([frame.locals for frame in own]) + str(error) + repr(vars(error))


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("form", ["text", "callable"])
def test_no_frame_of_an_entry_point_has_it(entry: Any, form: str) -> None:
    secret = f"tok-{uuid4().hex}"
    token: Any = secret if form == "text" else lambda: secret
    with pytest.raises((NscaleError, ValueError, TypeError)) as caught:
        entry(token)
    assert secret not in frames_of_ours(caught.value)


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
@pytest.mark.parametrize("form", ["value", "callable", "async callable"])
def test_no_frame_has_a_token_that_cannot_be(bad: Any, form: str) -> None:
    secret = f"tok-{uuid4().hex}"

    async def later() -> Any:
        return bad(secret)

    token = {"value": bad(secret), "callable": lambda: bad(secret)}.get(form, later)
    with pytest.raises((ValueError, TypeError)) as caught:
        if form == "async callable":
            asyncio.run(chat(token).ainvoke("Hi"))
        else:
            chat(token).invoke("Hi")
    assert secret not in frames_of_ours(caught.value)
