"""Tells a service outage from a line that cannot succeed."""

from __future__ import annotations

from enum import Enum
from time import monotonic

from langchain_nscale import errors

_LONGEST_PAUSE = 15.0  # seconds between attempts while nothing succeeds
_MAX_GIVEN_UP = 5  # lines in a row


class Verdict(Enum):
    """What to do about a line that failed."""

    FAIL = "fail the line"
    STOP = "stop the run"


class Outage:
    """Distinguishes a service that is down from a line that it can't process.

    Attributes:
        waiting: Number of lines that wait for the service.
    """

    def __init__(self, max_wait: float) -> None:
        """Wait at most `max_wait` seconds while every request fails."""
        self.waiting = 0
        self._max_wait = max_wait
        self._successes = 0
        self._since: float | None = None  # when the first failure without success was
        self._given_up = 0

    def begin(self) -> int:
        """Return a marker for `judge`, in case this attempt fails."""
        return self._successes

    def succeeded(self) -> None:
        """Note that a line has succeeded."""
        self._successes += 1
        self._since = None
        self._given_up = 0

    def judge(self, error: Exception, begun: int, attempts: int) -> Verdict | float:
        """Return the seconds to wait before the next attempt, or what else to do.

        Args:
            error: Why the line failed, in spite of the request's own retries.
            begun: What `begin` returned before the attempt.
            attempts: Number of attempts at this line, this one included.
        """
        if not _may_pass(error):
            return Verdict.FAIL
        if self._successes > begun and attempts > 1:
            return Verdict.FAIL  # others succeed, so it is the line
        now = monotonic()
        if self._since is None:
            self._since = now
        retry_after = getattr(error, "retry_after", None) or 0.0
        pause = max(retry_after, min(2.0 ** (attempts - 1), _LONGEST_PAUSE))
        if now - self._since + pause <= self._max_wait:
            return pause
        return Verdict.STOP

    def give_up(self) -> bool:
        """Give up a line although nothing has succeeded; return whether that is allowed.

        A service that answers other requests may only be unable to process the line, but
        not one line after another.
        """
        self._given_up += 1
        self._since = None
        return self._given_up <= _MAX_GIVEN_UP


def _may_pass(error: Exception) -> bool:
    kinds = (
        errors.NscaleConnectionError,
        errors.NscaleRateLimitError,
        errors.NscaleServerError,
        errors.NscaleTimeoutError,
    )
    return isinstance(error, kinds) and error.is_retryable
