"""Ends reads that nobody needs any more.

Some servers keep the connection open after the reply has ended. Once the model has
finished, at most usage is still to come, so a read that takes longer is ended by shutting
down the socket: a blocking read has no other way to be interrupted.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_nscale._response import Response


class _Watchdog:
    """Calls functions at their time, in one thread for the whole process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def schedule(self, seconds: float, function: Callable[[], None]) -> int:
        """Call a function after some seconds; return a number to cancel it."""
        with self._condition:
            number = next(self._numbers)
            heapq.heappush(self._queue, (time.monotonic() + seconds, number, function))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="nscale-watchdog", daemon=True
                )
                self._thread.start()
            elif self._queue[0][1] == number:
                self._condition.notify()
            return number

    def cancel(self, number: int) -> None:
        """Cancel a function that has not been called."""
        with self._condition:
            self._cancelled.add(number)

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._queue:
                    self._thread = None
                    return
                due, number, function = self._queue[0]
                wait = due - time.monotonic()
                if number in self._cancelled or wait <= 0:
                    heapq.heappop(self._queue)
                    is_cancelled = number in self._cancelled
                    self._cancelled.discard(number)
                else:
                    self._condition.wait(wait)
                    continue
            if not is_cancelled:
                function()


_watchdog = _Watchdog()


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

    with suppress(RuntimeError):
        handle = asyncio.get_running_loop().call_later(seconds, shut_down)
        if _is_async(response):
            return handle.cancel
        handle.cancel()
    number = _watchdog.schedule(seconds, shut_down)
    return lambda: _watchdog.cancel(number)


def _socket_of(response: Any) -> Any:
    stream = getattr(response, "extensions", {}).get("network_stream")
    return None if stream is None else stream.get_extra_info("socket")


def _is_async(response: Any) -> bool:
    stream = response.extensions["network_stream"]
    return hasattr(stream, "aclose")
