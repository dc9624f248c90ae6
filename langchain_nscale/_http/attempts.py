"""One attempt to send a request: its timeouts and its connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Attempt(dict[str, Any]):
    """The timeouts of one attempt, in the form in which httpcore takes them.

    httpcore looks up `"connect"` when it opens a connection and `"write"` when it sends,
    which tells reused connections from new ones without the cost of its trace events.

    Attributes:
        is_answered: Whether a successful response has begun.
    """

    def __init__(self, timeouts: tuple[float | None, ...], limit: float | None) -> None:
        """Take the timeouts to connect, read, write and wait for a pool.

        Args:
            timeouts: Seconds for each of the four phases.
            limit: Upper limit of each.
        """
        if limit is not None:
            timeouts = tuple(limit if t is None else min(t, limit) for t in timeouts)
        super().__init__(zip(("connect", "read", "write", "pool"), timeouts, strict=True))
        self.is_answered = False
        self._used: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a timeout, and note that it was used."""
        self._used.add(key)
        return super().get(key, default)

    def lost_on_reused_connection(self, fault: Exception) -> bool:
        """Return whether a kept connection was closed before any of the response arrived.

        The server closed it while it was idle, so it has not seen the request.
        """
        if self.is_answered or "write" not in self._used or "connect" in self._used:
            return False
        kind = type(fault).__name__
        if kind == "RemoteProtocolError":
            return "without sending a response" in str(fault)
        return kind in ("ReadError", "WriteError")


def call_within(seconds: float | None, function: Callable[[], T]) -> T:
    """Call a function that blocks, for at most some seconds.

    If its time is limited, the function runs in a separate thread, because sockets only
    limit the time of each read. The thread is abandoned when time is up.

    Raises:
        concurrent.futures.TimeoutError: The function did not return in time.
    """
    if seconds is None:
        return function()
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = function()
        except BaseException as fault:  # noqa: BLE001  # raised in the caller's thread
            future.set_exception(fault)
            return
        future.set_result(result)

    threading.Thread(target=run, name="nscale-call", daemon=True).start()
    try:
        return future.result(seconds)
    except BaseException:
        future.add_done_callback(_close_result)
        raise


def _close_result(future: Future[Any]) -> None:
    """Close the result of a function whose caller has stopped waiting."""
    if future.exception() is None:
        getattr(future.result(), "close", lambda: None)()
