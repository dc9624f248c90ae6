"""Ends reads of a response whose reply has ended, or whose time is up.

vllm-mlx 0.2.5, for one, keeps the connection open after a reply has ended (its issue
101). Once the model has finished, at most usage is still to come, so a read that takes
longer is ended by shutting down the socket: a blocking read has no other way to be
interrupted.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_nscale._response import Response


class _Timer:
    """A function to call later, or `None` once it is canceled."""

    def __init__(self, function: Callable[[], None], lock: threading.Condition) -> None:
        self.function: Callable[[], None] | None = function
        self._lock = lock

    def cancel(self) -> None:
        """Do not call the function; if it is being called, wait for it."""
        with self._lock:
            self.function = None


class _Watchdog:
    """Calls functions at their time, in one thread for the whole process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def schedule(self, seconds: float, function: Callable[[], None]) -> _Timer:
        """Call a function after some seconds, unless its timer is canceled."""
        timer = _Timer(function, self._condition)
        with self._condition:
            number = next(self._numbers)
            heapq.heappush(self._queue, (time.monotonic() + seconds, number, timer))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="nscale-watchdog", daemon=True
                )
                self._thread.start()
            elif self._queue[0][1] == number:
                self._condition.notify()
        return timer

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._queue:
                    self._thread = None
                    return
                due, _, timer = self._queue[0]
                wait = due - time.monotonic()
                if wait > 0 and timer.function is not None:
                    self._condition.wait(wait)
                    continue
                heapq.heappop(self._queue)
                # Under the lock, so that a timer that was canceled has not begun either.
                if timer.function is not None:
                    timer.function()


_watchdog = _Watchdog()


def _forget() -> None:
    # A forked child has neither the thread nor, perhaps, a lock that is free.
    global _watchdog  # noqa: PLW0603  # process-wide state
    _watchdog = _Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def call_later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function after some seconds, in the watchdog's thread."""
    # No thread can be started during interpreter shutdown, and none is needed.
    if not sys.is_finalizing():
        _watchdog.schedule(seconds, function)


def end_reads_after(response: Response, seconds: float) -> Callable[[], None]:
    """End the reads of a response after some seconds; return a function to cancel that.

    Works for sync responses, and for async responses on the running event loop.
    """
    # A response of a user's client has the stream as an extension of httpx.
    stream = getattr(response, "extensions", {}).get("network_stream", response)
    end: Any = getattr(stream, "end_reads", None)
    if end is None and stream is not response:
        end = partial(_shut_down, response, stream.get_extra_info("socket"))
    if end is None:
        return lambda: None
    if hasattr(stream, "aclose"):
        with suppress(RuntimeError):  # an event loop that is not asyncio's
            return asyncio.get_running_loop().call_later(seconds, end).cancel
    return _watchdog.schedule(seconds, end).cancel


def _shut_down(response: Any, sock: socket.socket) -> None:
    # A response that is closed has given its connection to the next request.
    if not response.is_closed:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
