"""Who and where: token, address, retries, shared HTTP clients. The only module with I/O.

Requests go through httpx2, the HTTP library of the OpenAI SDK. The SDK itself isn't used
to send: it reads OPENAI_* variables, adds headers that aren't Nscale's business, and
repeats requests that no credit can pay for.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import os
import random
import sys
import threading
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Mapping,
)
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from pydantic import SecretStr

from langchain_nscale._pools import LIMITS, make_async_client
from langchain_nscale._responses import StreamReader, is_event_stream
from langchain_nscale._version import __version__
from langchain_nscale.errors import (
    NscaleConflictError,
    NscaleConnectionError,
    NscaleError,
    NscaleRateLimitError,
    NscaleServerError,
    NscaleTimeoutError,
    advice,
    public_request,
    status_error,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")
Token = SecretStr | Callable[[], str] | Callable[[], Awaitable[str]]

USER_AGENT = f"langchain-nscale/{__version__}"
# Seconds: connect, read, write, pool. Long answers take minutes; connecting doesn't.
DEFAULT_TIMEOUT = (10.0, 600.0, 600.0, 600.0)
DEFAULT_MAX_RETRIES = 2

_FIRST_DELAY = 0.5  # seconds; doubled for each further retry
_MAX_DELAY = 8.0
_MAX_RETRY_AFTER = 60.0  # a server that asks for more gets an error to its caller
# Errors after which the same request may succeed at once.
_REPEATED = (
    NscaleConflictError,
    NscaleConnectionError,
    NscaleRateLimitError,
    NscaleServerError,
    NscaleTimeoutError,
)
_REPEATED_STATUSES = {None, 408, 409, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Transport:
    """Sends request bodies to one address with one token.

    Attributes:
        base_url: Without a trailing slash.
        token: The service token, or what returns it; asked anew for each attempt.
        timeout: Seconds for connect, read, write and pool.
        max_retries: How often a failed request is repeated.
        headers: Sent with every request.
        query: Added to every address.
        client: The user's own httpx or httpx2 client, else a shared one is used.
        async_client: Likewise for async calls.
    """

    base_url: str
    token: Token
    timeout: tuple[float | None, ...] = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES
    headers: Mapping[str, str] | None = None
    query: Mapping[str, object] | None = None
    client: Any = None
    async_client: Any = None

    def send(
        self, path: str, body: bytes | None, *, stream: bool = False
    ) -> tuple[Any, int]:
        """POST a body, or GET without one; return the response and the retries' number.

        Args:
            path: Appended to `base_url`.
            body: JSON, or `None` to GET.
            stream: Whether a stream of events is asked for, which comes back unread, to
                be read and closed by the caller. Any other response has been read.

        Raises:
            NscaleError: The service answered with an error, or not at all.
        """
        client = self.client or shared_client()
        for attempt in range(self.max_retries + 1):
            request = self._request(client, path, body, self._resolve(), stream=stream)
            try:
                response = client.send(request, stream=True, follow_redirects=False)
                if response.is_success and stream and is_event_stream(response):
                    return response, attempt
                content = response.read()
                if response.is_success:
                    return response, attempt
                raise status_error(response, content, attempt)
            except http_errors(client) as error:
                failure = network_error(error, request, attempt)
            except NscaleError as error:
                failure = error
            time.sleep(self._delay(failure, attempt))
        raise AssertionError  # the last attempt returns or raises

    async def asend(
        self, path: str, body: bytes | None, *, stream: bool = False
    ) -> tuple[Any, int]:
        """The async twin of `send`."""
        client = self.async_client or await shared_async_client()
        for attempt in range(self.max_retries + 1):
            token = await self._aresolve()
            request = self._request(client, path, body, token, stream=stream)
            try:
                response = await client.send(request, stream=True, follow_redirects=False)
                if response.is_success and stream and is_event_stream(response):
                    return response, attempt
                content = await response.aread()
                if response.is_success:
                    return response, attempt
                raise status_error(response, content, attempt)
            except http_errors(client) as error:
                failure = network_error(error, request, attempt)
            except NscaleError as error:
                failure = error
            await asyncio.sleep(self._delay(failure, attempt))
        raise AssertionError  # the last attempt returns or raises

    def _request(
        self,
        client: Any,
        path: str,
        body: bytes | None,
        token: SecretStr,
        *,
        stream: bool,
    ) -> Any:
        return client.build_request(
            "GET" if body is None else "POST",
            self.base_url + path,
            content=body,
            params=self.query,
            timeout=self.timeout,
            headers={
                "User-Agent": USER_AGENT,
                "Accept": "text/event-stream" if stream else "application/json",
                **({} if body is None else {"Content-Type": "application/json"}),
                **(self.headers or {}),
                "Authorization": f"Bearer {token.get_secret_value()}",
            },
        )

    def _resolve(self) -> SecretStr:
        if isinstance(self.token, SecretStr):
            return self.token
        value = self.token()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            msg = (
                "`service_token` is an async callable, which works with ainvoke, astream "
                "and abatch only. For invoke, stream and batch give a sync one."
            )
            raise TypeError(msg)
        return check_token(value)

    async def _aresolve(self) -> SecretStr:
        if isinstance(self.token, SecretStr):
            return self.token
        value = self.token()
        return check_token(await value if inspect.isawaitable(value) else value)

    def _delay(self, failure: NscaleError, attempt: int) -> float:
        """Seconds to wait before the request is repeated.

        Raises:
            NscaleError: The failure, where repeating it won't help or isn't wanted.
        """
        passing = isinstance(failure, _REPEATED)
        if not passing or failure.status_code not in _REPEATED_STATUSES:
            raise failure
        delay = failure.retry_after
        if attempt >= self.max_retries or (delay or 0) > _MAX_RETRY_AFTER:
            raise failure
        if delay is None:
            limit = min(_FIRST_DELAY * 2**attempt, _MAX_DELAY)
            delay = random.uniform(0, limit)  # noqa: S311  # spreads load, hides nothing
        logger.info(
            "Retry %d of %d in %.2f s after %s",
            attempt + 1,
            self.max_retries,
            delay,
            type(failure).__name__,
        )
        return delay


def read_stream(response: Any, reader: StreamReader[T]) -> Generator[T, None, None]:
    """What the reader makes of a streamed response, which is closed however this ends.

    Raises:
        NscaleError: The stream failed, after all that had arrived has been yielded.
    """
    _limit_reads(response, reader)
    cause = None
    try:
        try:
            for data in response.iter_bytes():
                yield from reader.feed(data)
        except stream_errors(response) as error:
            cause = network_error(error, response.request)
        yield from reader.close(cause)
    finally:
        response.close()


async def aread_stream(response: Any, reader: StreamReader[T]) -> AsyncGenerator[T, None]:
    """The async twin of `read_stream`."""
    _limit_reads(response, reader)
    cause = None
    try:
        try:
            async for data in response.aiter_bytes():
                for chunk in reader.feed(data):
                    yield chunk
        except stream_errors(response) as error:
            cause = network_error(error, response.request)
        for chunk in reader.close(cause):
            yield chunk
    finally:
        await response.aclose()


def _limit_reads(response: Any, reader: StreamReader[Any]) -> None:
    # The extension is httpx's documented place for a request's timeouts. The first
    # answer may take long; once it has come, silence means a stalled stream.
    timeouts = response.request.extensions.get("timeout")
    if timeouts is not None and reader.stall_after:
        read = timeouts.get("read")
        limit = reader.stall_after
        timeouts["read"] = limit if read is None else min(read, limit)


def check_token(token: object) -> SecretStr:
    """A token as a secret.

    Raises:
        ValueError: It is empty, or can't be part of a header.
    """
    if isinstance(token, SecretStr):
        token = token.get_secret_value()
    if not isinstance(token, str) or not token.strip():
        msg = (
            "The service token is empty: give `service_token`, or set "
            "NSCALE_SERVICE_TOKEN. Tokens are made in Nscale's console."
        )
        raise ValueError(msg)
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        msg = (
            "The service token has characters that no token has (spaces, line ends or "
            "non-ASCII): check `service_token` or NSCALE_SERVICE_TOKEN."
        )
        raise ValueError(msg)
    return SecretStr(token)


def library(client: object) -> Any:
    """The HTTP library that a client comes from: httpx2, or httpx for older code.

    Raises:
        TypeError: It comes from neither.
    """
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in ("httpx2", "httpx"):
            return sys.modules[name]
    msg = (
        "`http_client` and `http_async_client` take a client of httpx2 or httpx, not "
        f"{type(client).__name__}."
    )
    raise TypeError(msg)


def http_errors(client: object) -> tuple[type[Exception], ...]:
    """What a client raises when a request fails on the way."""
    return _errors_of(library(client))


def stream_errors(response: object) -> tuple[type[Exception], ...]:
    """What reading a client's response raises when the connection fails."""
    return _errors_of(library(response))


def _errors_of(origin: Any) -> tuple[type[Exception], ...]:
    return (origin.HTTPError, origin.StreamError)


def network_error(error: Exception, request: Any, retries: int = 0) -> NscaleError:
    """The typed error for a request that failed on the way."""
    _forget_token(error)
    timeout = "Timeout" in type(error).__name__
    what = f"{type(error).__name__}: {error}".rstrip(": .")
    if timeout:
        cls: type[NscaleError] = NscaleTimeoutError
        said = f"No answer from {request.url.host} in time ({what})."
    else:
        cls = NscaleConnectionError
        said = f"The connection to {request.url.host} failed ({what})."
    failure = cls(
        f"{said} {advice(cls)}", request=public_request(request), retries=retries
    )
    failure.__cause__ = error
    return failure


def _forget_token(error: BaseException | None) -> None:
    """Drop what holds the token in an HTTP library's error and its causes.

    That are the variables of its frames, and the request's headers: whoever pickles
    causes too, as Dask does, would take them along.
    """
    while error is not None:
        error.__traceback__ = None
        if getattr(error, "_request", None) is not None:
            error.request = public_request(error.request)  # type: ignore[attr-defined]  # it has one
        error = error.__cause__ or error.__context__


class _Clients:
    """The shared clients: one for sync calls, one for each event loop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sync: httpx2.Client | None = None
        self.by_loop: dict[
            asyncio.AbstractEventLoop,
            tuple[httpx2.AsyncClient, AsyncGenerator[None, None]],
        ] = {}


_clients = _Clients()


def _forget_clients() -> None:
    # A forked child must not use its parent's connections, nor say goodbye on them.
    global _clients  # noqa: PLW0603  # the state of the process
    _clients = _Clients()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_clients)


def shared_client() -> httpx2.Client:
    """The process's client. Made at the first call: an SSL context takes 30 ms."""
    client = _clients.sync
    if client is None or client.is_closed:
        with _clients.lock:
            client = _clients.sync
            if client is None or client.is_closed:
                client = _clients.sync = httpx2.Client(limits=LIMITS)
    return client


async def shared_async_client() -> httpx2.AsyncClient:
    """The running loop's client. Never used on another loop than that of its making."""
    loop = asyncio.get_running_loop()
    held = _clients.by_loop.get(loop)
    if held is None or held[0].is_closed:
        for other in list(_clients.by_loop):
            if other.is_closed():  # a loop that was stopped without being shut down
                _clients.by_loop.pop(other, None)
        client = make_async_client()
        closer = _close_with_loop(client)
        _clients.by_loop[loop] = held = (client, closer)
        await anext(closer)
    return held[0]


async def _close_with_loop(client: httpx2.AsyncClient) -> AsyncGenerator[None, None]:
    """Close the client when its loop ends: `asyncio.run` finishes open generators."""
    try:
        yield
    finally:
        _clients.by_loop.pop(asyncio.get_running_loop(), None)
        await client.aclose()


def close_connections() -> None:
    """Close the connections that sync calls share; the next call opens new ones.

    At exit this happens by itself.
    """
    client = _clients.sync
    if client is not None:
        client.close()


async def aclose_connections() -> None:
    """Close the connections that async calls on this event loop share.

    When the loop ends this happens by itself.
    """
    held = _clients.by_loop.get(asyncio.get_running_loop())
    if held is not None:
        await held[1].aclose()


atexit.register(close_connections)
