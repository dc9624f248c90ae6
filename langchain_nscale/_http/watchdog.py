"""Ends reads of a response whose reply has ended, or whose time is up.

Some servers keep the connection open after the reply has ended. Once the model has
finished, at most usage is still to come, so a read that takes longer is ended by shutting
down the socket: a blocking read has no other way to be interrupted.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_nscale._response import Response


class _Timer:
    """A function to call later, or `None` once it is canceled."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Do not call the function."""
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
        timer = _Timer(function)
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
                function = timer.function
            if function is not None:
                function()


_watchdog = _Watchdog()


def _forget() -> None:
    # A forked child has neither the thread nor, perhaps, a lock that is free.
    global _watchdog  # noqa: PLW0603  # process-wide state
    _watchdog = _Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def end_reads_after(response: Response, seconds: float) -> Callable[[], None]:
    """End the reads of a response after some seconds; return a function to cancel that.

    Works for sync responses, and for async responses on the running event loop.
    """
    sock = _socket_of(response)
    if sock is None:
        return lambda: None

    def shut_down() -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    if _is_async(response):
        with suppress(RuntimeError):  # an event loop that is not asyncio's
            return asyncio.get_running_loop().call_later(seconds, shut_down).cancel
    return _watchdog.schedule(seconds, shut_down).cancel


def _socket_of(response: Any) -> Any:
    stream = getattr(response, "extensions", {}).get("network_stream")
    return None if stream is None else stream.get_extra_info("socket")


def _is_async(response: Any) -> bool:
    stream = response.extensions["network_stream"]
    return hasattr(stream, "aclose")
