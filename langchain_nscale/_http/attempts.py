"""When a call is repeated: one policy for all calls, sync and async."""

from __future__ import annotations

import logging
import random
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING

from langchain_nscale._failures import network_error, unusable_client
from langchain_nscale._http.address import proxy_for
from langchain_nscale._http.client import UsersClient
from langchain_nscale._http.limits import OVERDUE, CallTime, Clock, Limits

if TYPE_CHECKING:
    from typing_extensions import Self

    from langchain_nscale._http.client import Client, Request, Timeouts
    from langchain_nscale.errors import NscaleError

logger = logging.getLogger(__name__)

_FIRST_DELAY = 0.5  # seconds; doubled with each retry
_MAX_DELAY = 8.0
_MAX_SPREAD = 2.0  # seconds added to a wait that the service asks for
_MAX_RETRY_AFTER = 60.0  # a longer wait is left to the caller
_PERMANENT_STATUSES = {501, 505}  # server errors that no retry can fix
_UNAUTHORIZED = 401


class Stage(Enum):
    """How far an attempt got, which decides what it costs to repeat it.

    | stage | is repeated |
    | --- | --- |
    | `UNSEEN` | at once and once only; this is not counted |
    | `SENT` | if the error is one of those that may pass (`is_retried`) |
    | `STREAMING` | if the error may not happen again (`is_retryable`) |
    | `ANSWERED` | likewise, but only once: the reply was paid for |
    | `DELIVERED` | never: the caller has a part of the reply |
    """

    UNSEEN = "the service has not seen the whole request"
    SENT = "no successful response has begun"
    STREAMING = "a stream has begun, but has had no item"
    ANSWERED = "a complete reply has begun"
    DELIVERED = "the caller has an item"


class Attempts:
    """The attempts of one call: how far the current one got, and what comes next."""

    def __init__(
        self,
        client: Client[object],
        limits: Limits,
        max_retries: int,
        *,
        renews_token: bool = False,
        clock: Clock = monotonic,
    ) -> None:
        """Begin a call; a token that is rejected may be renewed, once."""
        self.stage = Stage.SENT
        self.retries = 0  # requests before the current attempt, free ones included
        self.rejection: NscaleError | None = None  # of a request that was revised
        self.time = CallTime(limits, clock)
        self.client = client
        self._max_retries = max_retries
        self._counted = 0
        self._may_renew = renews_token
        self._may_resend = True
        self._may_pay = True

    def __enter__(self) -> Self:
        """Begin the first attempt."""
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        """Tell the error or cancellation that ends a call how many retries it had."""
        if error is not None:
            vars(error)["retries"] = self.retries

    def begin(self) -> Timeouts:
        """Begin an attempt; return its time limits."""
        self.stage = Stage.SENT
        return self.time.timeouts()

    def error_of(self, fault: Exception, request: Request) -> Exception:
        """Return the error for what a client raised in place of a response."""
        is_users = isinstance(self.client, UsersClient)
        if isinstance(fault, OVERDUE) or self.time.is_over():
            return self.time.overdue(request)
        if isinstance(fault, self.client.faults):
            if getattr(fault, "is_unseen", False):
                self.stage = Stage.UNSEEN
            proxy = None if is_users else proxy_for(str(request.url))
            return network_error(fault, request, proxy)
        if is_users and isinstance(fault, RuntimeError):
            return unusable_client(fault)
        return fault

    def delay(self, error: NscaleError) -> float | None:
        """Return the seconds to wait before the next attempt; `None` for no other."""
        if self._is_free(error):
            self.retries += 1
            return 0.0
        seconds = self._seconds(error)
        if (
            self._counted >= self._max_retries
            or not self._may_repeat(error)
            or (error.retry_after or 0) > _MAX_RETRY_AFTER
            or self.time.is_over(seconds)
        ):
            return None
        self.retries += 1
        self._counted += 1
        logger.info(
            "Retry %d of %d in %.2f s after %s",
            self._counted,
            self._max_retries,
            seconds,
            type(error).__name__,
        )
        return seconds

    def may_revise(self, error: NscaleError) -> bool:
        """Return whether a request may be changed and sent again; only once in a call.

        A second error gets the first one as its context.
        """
        if self.rejection is not None:
            error.__context__ = self.rejection
            return False
        return self.stage is Stage.SENT and not self.time.is_over()

    def begin_revision(self, error: NscaleError) -> None:
        """Count the attempt with the revised request as a retry."""
        self.rejection = error
        self.retries += 1

    def _is_free(self, error: NscaleError) -> bool:
        """Return whether a repetition costs nothing; true once for each reason."""
        if self.time.is_over():
            return False
        if self.stage is Stage.UNSEEN:
            is_free, self._may_resend = self._may_resend, False
            return is_free
        if self.stage is Stage.SENT and error.status_code == _UNAUTHORIZED:
            is_free, self._may_renew = self._may_renew, False
            return is_free
        return False

    def _may_repeat(self, error: NscaleError) -> bool:
        if self.stage is Stage.DELIVERED:
            return False
        if self.stage is Stage.ANSWERED:
            may_pay, self._may_pay = self._may_pay, False
            if not may_pay:
                return False
        # The OpenAI SDK obeys this header too.
        headers = {} if error.response is None else error.response.headers
        wish = headers.get("x-should-retry", "").lower()
        if wish in ("true", "false"):
            return bool(wish == "true")
        if error.status_code in _PERMANENT_STATUSES:
            return False
        has_begun = self.stage in (Stage.STREAMING, Stage.ANSWERED)
        return error.is_retryable if has_begun else error.is_retried

    def _seconds(self, error: NscaleError) -> float:
        spread = min(_FIRST_DELAY * 2**self._counted, _MAX_DELAY)
        wait = error.retry_after or 0.0
        # Spread out callers that received the same `Retry-After`.
        return wait + random.uniform(0, spread + min(wait, _MAX_SPREAD))  # noqa: S311  # spreads load
