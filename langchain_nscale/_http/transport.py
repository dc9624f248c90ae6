"""Makes a call: one loop over its attempts, sync and async.

The OpenAI SDK is not used to send: it reads OPENAI_* variables, sends telemetry headers,
and retries requests that failed for lack of credit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_nscale._http.attempts import Attempts, Stage
from langchain_nscale._http.bodies import ErrorReader, WholeReader, unlimited_body
from langchain_nscale._http.client import Request, UsersClient
from langchain_nscale._http.clients import shared_async_client, shared_client
from langchain_nscale._http.headers import merge_headers
from langchain_nscale._http.inner import Inner
from langchain_nscale._http.limits import (
    DEFAULT_LIMITS,
    Limits,
    ReadLimits,
    call_within,
    within,
)
from langchain_nscale._http.streams import Reader, aread_stream, read_stream
from langchain_nscale._http.token import Token, aresolve_token, resolve_token
from langchain_nscale._json import encode
from langchain_nscale._response import AskAgainError, Sent
from langchain_nscale._version import __version__
from langchain_nscale.errors import NscaleError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from langchain_nscale._http.client import Client
    from langchain_nscale._requests.exchange import Exchange
    from langchain_nscale._response import Response

USER_AGENT = f"langchain-nscale/{__version__}"
DEFAULT_MAX_RETRIES = 2
DEFAULT_MAX_RESPONSE_BYTES = 256 * 2**20

R = TypeVar("R")
T = TypeVar("T")
Body = Mapping[str, Any] | None
Bodies = Callable[[], Mapping[str, Any]]  # returns the body of the current attempt


@dataclass(eq=False, repr=False)  # not frozen: created for each call
class Transport:
    """Sends request bodies to one address with one token."""

    base_url: str
    token: Token
    limits: Limits = DEFAULT_LIMITS
    max_retries: int = DEFAULT_MAX_RETRIES
    max_response_bytes: int | None = DEFAULT_MAX_RESPONSE_BYTES
    headers: Mapping[str, str] | None = None
    query: Mapping[str, object] | None = None
    client: Any = None  # the user's own client of httpx or httpx2
    async_client: Any = None
    advisor: Any = None  # completes final errors, as `_model_list.SimilarModels` does
    exchange: Exchange | None = None  # changes a rejected request, once in each call

    def call(self, path: str, body: Body | Bodies, read: Callable[[Sent], R]) -> R:
        """POST a body, or GET without one; return what the reply contains.

        A body that is callable is called for each attempt. `read` converts the response,
        whose body has been read; if it raises a retryable error, the request is sent once
        more. A ValueError says that the body has no JSON form.
        """
        [result] = self.stream(path, body, partial(WholeReader, read))
        return result

    async def acall(self, path: str, body: Body | Bodies, read: Callable[[Sent], R]) -> R:
        """Async version of `call`; `token` can also be an async callable."""
        result: Any = None
        async for item in self.astream(path, body, partial(WholeReader, read)):
            result = item
        return cast("R", result)

    def stream(
        self, path: str, body: Body | Bodies, new_reader: Callable[[Sent], Reader[T]]
    ) -> Generator[T, None, None]:
        """Send a request, as `call` does; yield what a reader makes of the reply.

        The reply is a stream if the body has `"stream"`, else one item. A stream that
        fails before its first item is requested again.
        """
        client: Client[Response] = (
            UsersClient(self.client) if self.client else shared_client(self.base_url)
        )
        with self._attempts(client) as attempts:
            while True:
                token = resolve_token(self.token)
                current = body() if callable(body) else body
                request = self._request(attempts, path, current, token)
                try:
                    response = self._send(attempts, client, request)
                    reading = self._reading(attempts, request, response, new_reader)
                    self._report_revision(attempts, response)
                    for item in read_stream(response, *reading, client.faults):
                        attempts.stage = Stage.DELIVERED
                        yield item
                except NscaleError as error:
                    delay = self._delay(attempts, error)
                    if delay is None:
                        if self.advisor is not None:
                            self.advisor.advise(self, current, error)
                        raise
                except AskAgainError:
                    continue
                else:
                    return
                time.sleep(delay)

    async def astream(
        self, path: str, body: Body | Bodies, new_reader: Callable[[Sent], Reader[T]]
    ) -> AsyncGenerator[T, None]:
        """Async version of `stream`; `token` can also be an async callable."""
        client: Client[Awaitable[Response]] = (
            UsersClient(self.async_client)
            if self.async_client
            else await shared_async_client(self.base_url)
        )
        with self._attempts(client) as attempts:
            while True:
                token = await aresolve_token(self.token)
                current = body() if callable(body) else body
                request = self._request(attempts, path, current, token)
                try:
                    response = await self._asend(attempts, client, request)
                    reading = self._reading(attempts, request, response, new_reader)
                    self._report_revision(attempts, response)
                    inner = aread_stream(response, *reading, client.faults)
                    async with Inner(inner) as items:
                        async for item in items:
                            attempts.stage = Stage.DELIVERED
                            yield item
                except NscaleError as error:
                    delay = self._delay(attempts, error)
                    if delay is None:
                        if self.advisor is not None:
                            await self.advisor.aadvise(self, current, error)
                        raise
                except AskAgainError:
                    continue
                else:
                    return
                await asyncio.sleep(delay)

    def _attempts(self, client: Client[object]) -> Attempts:
        renews = callable(self.token)
        return Attempts(client, self.limits, self.max_retries, renews_token=renews)

    def _delay(self, attempts: Attempts, error: NscaleError) -> float | None:
        """Return the seconds to wait before the next attempt; `None` for no other."""
        delay = attempts.delay(error)
        if delay is not None or self.exchange is None or not attempts.may_revise(error):
            return delay
        if not self.exchange.revise(error):
            return None
        attempts.begin_revision(error)
        return 0.0

    def _report_revision(self, attempts: Attempts, response: Response) -> None:
        if attempts.rejection and self.exchange and response.is_success:
            self.exchange.accept()

    @staticmethod
    def _send(attempts: Attempts, client: Client[Response], request: Request) -> Response:
        """Send a request; return its response, whose body has not been read."""
        try:
            exchange = partial(client.send, request)
            response = call_within(attempts.time.remaining, exchange)
        except Exception as fault:  # noqa: BLE001  # any other is raised as it is
            raise attempts.error_of(fault, request)  # noqa: B904  # it has its cause
        if error := unlimited_body(response):
            response.close()
            raise error
        return response

    @staticmethod
    async def _asend(
        attempts: Attempts, client: Client[Awaitable[Response]], request: Request
    ) -> Response:
        """Async version of `_send`."""
        try:
            response = await within(attempts.time.remaining, client.send(request))
        except Exception as fault:  # noqa: BLE001  # any other is raised as it is
            raise attempts.error_of(fault, request)  # noqa: B904  # it has its cause
        if error := unlimited_body(response):
            await response.aclose()
            raise error
        return response

    def _reading(
        self,
        attempts: Attempts,
        request: Request,
        response: Response,
        new_reader: Callable[[Sent], Reader[T]],
    ) -> tuple[Reader[T], ReadLimits]:
        """Return a reader for a response, and the limits for reading it."""
        time = attempts.time
        if not response.is_success:
            failed = cast("Reader[T]", ErrorReader(response))  # yields nothing
            return failed, ReadLimits(time, response, failed)
        attempts.stage = Stage.STREAMING if request.is_stream else Stage.ANSWERED
        reader = new_reader(Sent(response, attempts.retries))
        silence = time.limit_silence(request.timeouts) if request.is_stream else None
        limits = ReadLimits(
            time,
            response,
            reader,
            max_bytes=self.max_response_bytes,
            silence=silence,
            address=self.base_url,
        )
        return reader, limits

    def _request(
        self, attempts: Attempts, path: str, body: Body, token: SecretStr
    ) -> Request:
        content = None if body is None else encode(body)
        is_stream = "stream" in (body or ())
        return Request(
            method="GET" if content is None else "POST",
            url=self.base_url + path,
            query=self.query,
            headers=merge_headers(
                attempts.client.headers,
                {
                    "User-Agent": USER_AGENT,
                    "Accept": "text/event-stream" if is_stream else "application/json",
                    **({} if content is None else {"Content-Type": "application/json"}),
                },
                self.headers,
                {"Authorization": f"Bearer {token.get_secret_value()}"},
            ),
            content=content,
            timeouts=attempts.begin(),
            is_stream=is_stream,
        )
