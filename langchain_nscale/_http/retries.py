"""Decides whether a failed request is retried, and after how long."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_nscale.errors import NscaleError

logger = logging.getLogger(__name__)

_FIRST_DELAY = 0.5  # seconds; doubled with each retry
_MAX_DELAY = 8.0
_MAX_RETRY_AFTER = 60.0  # a longer wait is left to the caller
_PERMANENT_STATUSES = {501, 505}  # server errors that no retry can fix


class Retries:
    """The attempts of one request; drives sync and async senders alike.

    Iterate for the number of each attempt, and pass every failure to `delay`.
    """

    def __init__(self, limit: int, start: int = 0) -> None:
        """Allow one attempt and at most `limit` retries, `start` of which are used up."""
        self._limit = limit
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, max(self._limit, self._start) + 1))

    def delay(self, error: NscaleError, *, in_stream: bool = False) -> float | None:
        """Return the seconds to wait before the next attempt.

        `None` means that the error is final: its class or status is not retried, no
        attempts are left, or the service asks for a longer wait than is sensible.

        Args:
            error: The error, which has the number of retries before it.
            in_stream: Whether a stream failed before its first token, so that a new
                request is safe for every error that may not happen again.
        """
        attempt = error.retries
        is_retried = error.is_retryable if in_stream else error.is_retried
        if not is_retried or error.status_code in _PERMANENT_STATUSES:
            return None
        if attempt >= self._limit or (error.retry_after or 0) > _MAX_RETRY_AFTER:
            return None
        seconds = error.retry_after
        if seconds is None:
            limit = min(_FIRST_DELAY * 2**attempt, _MAX_DELAY)
            seconds = random.uniform(0, limit)  # noqa: S311  # spreads load; not for secrets
        logger.info(
            "Retry %d of %d in %.2f s after %s",
            attempt + 1,
            self._limit,
            seconds,
            type(error).__name__,
        )
        return seconds
