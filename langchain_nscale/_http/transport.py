"""Sends requests: authentication, retries, shared clients.

Uses httpx2, the HTTP library of the OpenAI SDK. The SDK itself is not used to send: it
reads OPENAI_* variables, sends telemetry headers, and retries requests that failed for
lack of credit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_nscale._failures import (
    http_errors,
    network_error,
    status_error,
    unusable_client,
)
from langchain_nscale._http.clients import shared_async_client, shared_client
from langchain_nscale._http.retries import Retries
from langchain_nscale._http.token import Token, aresolve_token, resolve_token
from langchain_nscale._json import encode
from langchain_nscale._response import Sent
from langchain_nscale._version import __version__

if TYPE_CHECKING:
    from pydantic import SecretStr

USER_AGENT = f"langchain-nscale/{__version__}"
# Seconds: connect, read, write, pool. A long answer takes minutes; connecting does not.
DEFAULT_TIMEOUT = (10.0, 600.0, 600.0, 600.0)
DEFAULT_MAX_RETRIES = 2


@dataclass(frozen=True)
class Transport:
    """Sends request bodies to one address with one token.

    Attributes:
        base_url: Address without a trailing slash.
        token: The service token, or a callable that is called for each attempt.
        timeout: Seconds to connect, read, write and wait for a pool.
        max_retries: Maximum number of retries of a request.
        headers: Headers sent with every request.
        query: Query parameters added to every request.
        client: The user's own httpx or httpx2 client; the shared one if `None`.
        async_client: The user's own async client, for async calls.
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
        self,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        stream: bool = False,
        first_attempt: int = 0,
    ) -> Sent:
        """POST a body, or GET without one.

        Args:
            path: Appended to `base_url`.
            body: The object to send as JSON, or `None` for a GET.
            stream: Whether a stream is requested; its body is left for the caller to
                read and close. Any other body has been read.
            first_attempt: Number of the first attempt, if earlier ones failed.

        Raises:
            ValueError: The body has no JSON form.
            NscaleError: The service answered with an error or not at all.
        """
        client = self.client or shared_client(self.base_url)
        content = None if body is None else encode(body)
        retries = Retries(self.max_retries, first_attempt)
        for attempt in retries:
            token = resolve_token(self.token)
            request = self._request(client, path, content, token, stream=stream)
            try:
                response = client.send(request, stream=True, follow_redirects=False)
                if stream and response.is_success:
                    return Sent(response, attempt)
                data = response.read()
                if response.is_success:
                    return Sent(response, attempt)
                error = status_error(response, data, attempt)
            except http_errors(client) as fault:
                error = network_error(fault, request, attempt)
            except RuntimeError as fault:  # a client that is closed, or of another loop
                raise unusable_client(fault, self.client is not None) from None
            delay = retries.delay(error)
            if delay is None:
                raise error
            time.sleep(delay)
        raise AssertionError  # the last attempt returns or raises

    async def asend(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        stream: bool = False,
        first_attempt: int = 0,
    ) -> Sent:
        """Async version of `send`; `token` can also be an async callable."""
        client = self.async_client or await shared_async_client(self.base_url)
        content = None if body is None else encode(body)
        retries = Retries(self.max_retries, first_attempt)
        for attempt in retries:
            token = await aresolve_token(self.token)
            request = self._request(client, path, content, token, stream=stream)
            try:
                response = await client.send(request, stream=True, follow_redirects=False)
                if stream and response.is_success:
                    return Sent(response, attempt)
                data = await response.aread()
                if response.is_success:
                    return Sent(response, attempt)
                error = status_error(response, data, attempt)
            except http_errors(client) as fault:
                error = network_error(fault, request, attempt)
            except RuntimeError as fault:  # a client that is closed, or of another loop
                raise unusable_client(fault, self.async_client is not None) from None
            delay = retries.delay(error)
            if delay is None:
                raise error
            await asyncio.sleep(delay)
        raise AssertionError  # the last attempt returns or raises

    def _request(
        self,
        client: Any,
        path: str,
        content: bytes | None,
        token: SecretStr,
        *,
        stream: bool,
    ) -> Any:
        return client.build_request(
            "GET" if content is None else "POST",
            self.base_url + path,
            content=content,
            params=self.query,
            timeout=self.timeout,
            headers=merge_headers(
                {
                    "User-Agent": USER_AGENT,
                    "Accept": "text/event-stream" if stream else "application/json",
                    **({} if content is None else {"Content-Type": "application/json"}),
                },
                self.headers,
                {"Authorization": f"Bearer {token.get_secret_value()}"},
            ),
        )


def merge_headers(*sources: Mapping[str, str] | None) -> dict[str, str]:
    """Merge headers; later ones replace earlier ones, whatever their letter case."""
    merged: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, value in (source or {}).items():
            merged[name.lower()] = (name, value)
    return dict(merged.values())
