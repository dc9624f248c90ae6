"""Tells a service outage from a line that cannot succeed."""

from __future__ import annotations

import math
from time import monotonic

from langchain_nscale import errors

FAIL, STOP = -1.0, math.inf  # instead of seconds to wait: fail the line, stop the run
_LONGEST_PAUSE = 15.0  # seconds between attempts while nothing succeeds
_MAX_GIVEN_UP = 5  # lines in a row
_PASSING = (
    errors.NscaleConnectionError,
    errors.NscaleRateLimitError,
    errors.NscaleServerError,
    errors.NscaleTimeoutError,
)


class Outage:
    """Distinguishes a service that is down from a line that it can't process.

    Attributes:
        waiting: Number of lines that wait for the service.
        successes: Number of lines that have succeeded.
    """

    def __init__(self, max_wait: float) -> None:
        """Wait at most `max_wait` seconds while every request fails."""
        self.waiting = self.successes = 0
        self._max_wait = max_wait
        self._since: float | None = None  # when the first failure without success was
        self._given_up = 0

    def succeeded(self) -> None:
        """Note that a line has succeeded."""
        self.successes += 1
        self._since = None
        self._given_up = 0

    def judge(self, error: Exception, successes: int, attempts: int) -> float:
        """Return the seconds to wait before the next attempt, or `FAIL` or `STOP`.

        Args:
            error: Why the line failed, in spite of the request's own retries.
            successes: The number of successes when the attempt began.
            attempts: Number of attempts at this line, this one included.
        """
        if not isinstance(error, _PASSING) or not error.is_retryable:
            return FAIL
        if self.successes > successes and attempts > 1:
            return FAIL  # others succeed, so it is the line
        now = monotonic()
        if self._since is None:
            self._since = now
        pause = min(2.0 ** (attempts - 1), _LONGEST_PAUSE)
        pause = max(getattr(error, "retry_after", None) or 0.0, pause)
        return pause if now - self._since + pause <= self._max_wait else STOP

    def give_up(self) -> bool:
        """Give up a line although nothing has succeeded; return whether that is allowed.

        A service that answers other requests may only be unable to process the line, or
        refuse it, but not one line after another.
        """
        self._given_up += 1
        self._since = None
        return self._given_up <= _MAX_GIVEN_UP
