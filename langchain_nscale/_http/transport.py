"""Sends requests: authentication, retries, shared clients.

Uses httpx2, the HTTP library of the OpenAI SDK. The SDK itself is not used to send: it
reads OPENAI_* variables, sends telemetry headers, and retries requests that failed for
lack of credit.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import httpx2

from langchain_nscale._failures import network_error, status_error, unusable_client
from langchain_nscale._http.attempts import Attempt, call_within
from langchain_nscale._http.bodies import aread_body, read_body
from langchain_nscale._http.clients import shared_async_client, shared_client
from langchain_nscale._http.headers import merge_headers
from langchain_nscale._http.libraries import http_errors, library
from langchain_nscale._http.retries import Retries
from langchain_nscale._http.token import Token, aresolve_token, resolve_token
from langchain_nscale._json import encode
from langchain_nscale._response import ReadResponse, Response, Sent
from langchain_nscale._version import __version__

if TYPE_CHECKING:
    from pydantic import SecretStr

USER_AGENT = f"langchain-nscale/{__version__}"
# Seconds: connect, read, write, pool. A long answer takes minutes; connecting does not.
DEFAULT_TIMEOUT = (10.0, 600.0, 600.0, 600.0)
DEFAULT_MAX_RETRIES = 2
DEFAULT_MAX_RESPONSE_BYTES = 256 * 2**20
_UNAUTHORIZED = 401

_headers_of_clients: dict[str, str] = {}  # those of all shared clients


@dataclass(eq=False, repr=False)  # not frozen: created for each call
class Transport:
    """Sends request bodies to one address with one token.

    Attributes:
        base_url: Address without a trailing slash.
        token: The service token, or a callable that is called for each attempt.
        timeout: Seconds to connect, read, write and wait for a pool.
        max_retries: Maximum number of retries of a request.
        total_timeout: Seconds for the whole call, retries and waits included.
        max_response_bytes: Largest size of a response's body.
        headers: Headers sent with every request.
        query: Query parameters added to every request.
        client: The user's own httpx or httpx2 client; the shared one if `None`.
        async_client: The user's own async client, for async calls.
    """

    base_url: str
    token: Token
    timeout: tuple[float | None, ...] = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES
    total_timeout: float | None = None
    max_response_bytes: int | None = DEFAULT_MAX_RESPONSE_BYTES
    headers: Mapping[str, str] | None = None
    query: Mapping[str, object] | None = None
    client: Any = None
    async_client: Any = None

    def send(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        stream: bool = False,
        retries: Retries | None = None,
    ) -> Sent:
        """POST a body, or GET without one.

        Args:
            path: Appended to `base_url`.
            body: The object to send as JSON, or `None` for a GET.
            stream: Whether a stream is requested; its body is left for the caller to
                read and close. Any other body has been read.
            retries: The attempts of the call, if some have been made before.

        Raises:
            ValueError: The body has no JSON form.
            NscaleError: The service answered with an error or not at all.
        """
        client = self.client or shared_client(self.base_url)
        content = None if body is None else encode(body)
        retries = retries or self.retries()
        while True:
            token = resolve_token(self.token)
            attempt = Attempt(self.timeout, retries.remaining)
            request = self._request(client, path, content, token, attempt, stream=stream)
            exchange = partial(self._exchange, client, request, attempt, stream=stream)
            try:
                response = call_within(retries.remaining, exchange)
                if response.is_success:
                    return Sent(response, retries.attempt)
                error = status_error(response, response.content, retries.attempt)
                is_free = self._may_renew(response)
            except http_errors(client) as fault:
                error = network_error(fault, request, retries.attempt)
                is_free = attempt.lost_on_reused_connection(fault)
            except RuntimeError as fault:  # a client that is closed, or of another loop
                raise unusable_client(fault, self.client is not None) from None
            except (TimeoutError, concurrent.futures.TimeoutError):
                raise retries.overdue(request) from None
            delay = retries.delay(error, is_free=is_free, is_paid=attempt.is_answered)
            if delay is None:
                raise retries.overdue(request) if retries.is_over else error
            time.sleep(delay)

    async def asend(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        stream: bool = False,
        retries: Retries | None = None,
    ) -> Sent:
        """Async version of `send`; `token` can also be an async callable."""
        client = self.async_client or await shared_async_client(self.base_url)
        content = None if body is None else encode(body)
        retries = retries or self.retries()
        while True:
            token = await aresolve_token(self.token)
            attempt = Attempt(self.timeout, retries.remaining)
            request = self._request(client, path, content, token, attempt, stream=stream)
            exchange = self._aexchange(client, request, attempt, stream=stream)
            try:
                response = await (
                    exchange
                    if retries.deadline is None
                    else asyncio.wait_for(exchange, retries.remaining)
                )
                if response.is_success:
                    return Sent(response, retries.attempt)
                error = status_error(response, response.content, retries.attempt)
                is_free = self._may_renew(response)
            except http_errors(client) as fault:
                error = network_error(fault, request, retries.attempt)
                is_free = attempt.lost_on_reused_connection(fault)
            except RuntimeError as fault:  # a client that is closed, or of another loop
                raise unusable_client(fault, self.async_client is not None) from None
            except (TimeoutError, asyncio.TimeoutError):
                raise retries.overdue(request) from None
            delay = retries.delay(error, is_free=is_free, is_paid=attempt.is_answered)
            if delay is None:
                raise retries.overdue(request) if retries.is_over else error
            await asyncio.sleep(delay)

    def retries(self) -> Retries:
        """Return the attempts of a new call."""
        return Retries(self.max_retries, self.total_timeout)

    def _exchange(
        self, client: Any, request: Any, attempt: Attempt, *, stream: bool
    ) -> Response:
        response = client.send(request, stream=True, follow_redirects=False)
        if response.is_success:
            attempt.is_answered = True
            if stream:
                return response  # type: ignore[no-any-return]  # of either library
        return ReadResponse.of(response, read_body(response, self.max_response_bytes))

    async def _aexchange(
        self, client: Any, request: Any, attempt: Attempt, *, stream: bool
    ) -> Response:
        response = await client.send(request, stream=True, follow_redirects=False)
        if response.is_success:
            attempt.is_answered = True
            if stream:
                return response  # type: ignore[no-any-return]  # of either library
        content = await aread_body(response, self.max_response_bytes)
        return ReadResponse.of(response, content)

    def _may_renew(self, response: Response) -> bool:
        """Return whether a rejected token may only have expired."""
        return response.status_code == _UNAUTHORIZED and callable(self.token)

    def _request(
        self,
        client: Any,
        path: str,
        content: bytes | None,
        token: SecretStr,
        attempt: Attempt,
        *,
        stream: bool,
    ) -> Any:
        is_own = client is self.client or client is self.async_client
        # A user's client may add headers, parameters and cookies. The shared ones only
        # add headers that never change; merging them again takes 40 µs.
        build: Any = client.build_request if is_own else httpx2.Request
        return build(
            "GET" if content is None else "POST",
            _url(library(client), self.base_url + path),
            content=content,
            params=self.query,
            headers=merge_headers(
                None if is_own else _shared_headers(client),
                {
                    "User-Agent": USER_AGENT,
                    "Accept": "text/event-stream" if stream else "application/json",
                    **({} if content is None else {"Content-Type": "application/json"}),
                },
                self.headers,
                {"Authorization": f"Bearer {token.get_secret_value()}"},
            ),
            extensions={"timeout": attempt},
        )


def _shared_headers(client: httpx2.Client | httpx2.AsyncClient) -> dict[str, str]:
    """Return the headers of a shared client, which are the same for all of them."""
    if not _headers_of_clients:
        raw = client.headers.raw
        _headers_of_clients.update({k.decode(): v.decode() for k, v in raw})
    return _headers_of_clients


@lru_cache(maxsize=64)
def _url(module: Any, address: str) -> Any:
    """Parse an address once, not with each request."""
    return module.URL(address)
