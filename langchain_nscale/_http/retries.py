"""Decides whether a failed request is retried, and after how long."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from langchain_nscale._failures import overdue_call

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_nscale.errors import NscaleError

logger = logging.getLogger(__name__)

_FIRST_DELAY = 0.5  # seconds; doubled with each retry
_MAX_DELAY = 8.0
_MAX_SPREAD = 2.0  # seconds added to a wait that the service asks for
_MAX_RETRY_AFTER = 60.0  # a longer wait is left to the caller
_MAX_FREE_RETRIES = 5
_PERMANENT_STATUSES = {501, 505}  # server errors that no retry can fix
_UNAUTHORIZED = 401


class Retries:
    """The attempts of one request; drives sync and async senders alike.

    Attributes:
        attempt: Number of retries before the current attempt.
        deadline: When the call has to end, by the monotonic clock; `None` for never.
    """

    def __init__(self, limit: int, total_timeout: float | None = None) -> None:
        """Allow one attempt and at most `limit` retries, within some seconds."""
        self.attempt = 0
        self.deadline = None if total_timeout is None else monotonic() + total_timeout
        self._total_timeout = total_timeout
        self._limit = limit
        self._free = 0
        self._has_new_token = False
        self._has_paid = False

    @property
    def remaining(self) -> float | None:
        """Seconds until the call has to end; `None` for no limit."""
        return None if self.deadline is None else max(self.deadline - monotonic(), 0.001)

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and monotonic() >= self.deadline

    def delay(
        self,
        error: NscaleError,
        *,
        in_stream: bool = False,
        is_free: bool = False,
        is_paid: bool = False,
    ) -> float | None:
        """Return the seconds to wait before the next attempt.

        `None` means that the error is final: its class or status is not retried, no
        attempts or time are left, or the service asks for a longer wait than is sensible.

        Args:
            error: The error, which has the number of retries before it.
            in_stream: Whether a stream failed before its first token, so that a new
                request is safe for every error that may not happen again.
            is_free: Whether the service can't have worked on the request, because it was
                lost on a reused connection or its token was rejected and another one can
                be asked for. Such a retry is immediate and isn't counted.
            is_paid: Whether the service had answered, and only the answer was lost. This
                is retried once.
        """
        self.attempt = error.retries
        if is_free and self._takes_free_retry(error):
            return 0.0
        if not self._may_retry(error, in_stream=in_stream) or (
            is_paid and self._has_paid
        ):
            return None
        if self.attempt >= self._limit or (error.retry_after or 0) > _MAX_RETRY_AFTER:
            return None
        self._has_paid = is_paid
        seconds = self._seconds(error)
        if self.deadline is not None and monotonic() + seconds >= self.deadline:
            return None
        self.attempt += 1
        logger.info(
            "Retry %d of %d in %.2f s after %s",
            self.attempt,
            self._limit,
            seconds,
            type(error).__name__,
        )
        return seconds

    def overdue(self, request: Any, partial: AIMessage | None = None) -> NscaleError:
        """Return the error for a call that has not ended in time."""
        return overdue_call(self._total_timeout, request, partial, self.attempt)

    def _takes_free_retry(self, error: NscaleError) -> bool:
        if self.is_over:
            return False
        if error.status_code == _UNAUTHORIZED:
            has_had_it, self._has_new_token = self._has_new_token, True
            return not has_had_it
        self._free += 1
        return self._free <= _MAX_FREE_RETRIES

    @staticmethod
    def _may_retry(error: NscaleError, *, in_stream: bool) -> bool:
        headers: Mapping[str, str]
        headers = {} if error.response is None else error.response.headers
        # The OpenAI SDK obeys this header too.
        wish = headers.get("x-should-retry", "").lower()
        if wish in ("true", "false"):
            return wish == "true"
        if error.status_code in _PERMANENT_STATUSES:
            return False
        return error.is_retryable if in_stream else error.is_retried

    def _seconds(self, error: NscaleError) -> float:
        spread = min(_FIRST_DELAY * 2**self.attempt, _MAX_DELAY)
        wait = error.retry_after or 0.0
        # Callers who were told the same time must not all come back at once.
        return wait + random.uniform(0, spread + min(wait, _MAX_SPREAD))  # noqa: S311  # spreads load
