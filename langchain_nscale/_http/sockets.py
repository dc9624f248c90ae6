"""Sockets: their options, how many there may be, whether a kept one is still open."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

try:
    import resource
except ImportError:  # Windows, which has no limit on sockets
    resource = None  # type: ignore[assignment]

T = TypeVar("T")

KEEPALIVE = 30.0  # seconds after which idle connections are closed
# Seconds after which a further address of a host is tried beside the first (RFC 8305).
_NEXT_ADDRESS = 0.25


def socket_options() -> list[tuple[int, int, int]]:
    """Return options that notice dead connections after about two minutes."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPALIVE", 60),  # the same on macOS
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 120_000),  # milliseconds
    ):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def max_connections() -> int:
    """Return how many connections may be open: 3/4 of the limit on open files."""
    if resource is None:
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(limit * 3 // 4, 1)


def has_input(sock: socket.socket) -> bool:
    """Return whether a socket has something to read, if only its end."""
    # An idle connection with input can't be reused: the server has closed it, or has sent
    # something unrequested, such as a late 408.
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


async def open_socket(host: str, port: int) -> socket.socket:
    """Connect to a host, by whichever of its addresses answers first."""
    # uvloop has no `happy_eyeballs_delay`, which does the same in asyncio.
    loop = asyncio.get_running_loop()
    addresses = await _addresses(loop, host, port)
    tasks: list[asyncio.Task[socket.socket]] = []
    try:
        for left, address in zip(range(len(addresses))[::-1], addresses, strict=True):
            tasks.append(loop.create_task(_connect(loop, *address)))
            while pending := [task for task in tasks if not task.done()]:
                limit = _NEXT_ADDRESS if left else None
                first = asyncio.FIRST_COMPLETED
                done, _ = await asyncio.wait(pending, timeout=limit, return_when=first)
                for task in done:
                    if task.exception() is None:
                        tasks.remove(task)
                        return task.result()
                if left:
                    break
        return tasks[0].result()  # raises
    finally:
        for task in tasks:
            discard(task, socket.socket.close)


async def _addresses(loop: Any, host: str, port: int) -> list[Any]:
    """Return the addresses of a host; those of its two families take turns."""
    numeric = socket.AI_NUMERICHOST
    try:  # an address needs no thread; bytes need no import
        return socket.getaddrinfo(
            host.encode(), port, type=socket.SOCK_STREAM, flags=numeric
        )
    except socket.gaierror:
        found = await loop.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    turns: Counter[int] = Counter()

    def turn(entry: Any) -> int:
        turns[entry[0]] += 1
        return turns[entry[0]]

    return sorted(found, key=turn)


async def _connect(
    loop: Any, family: int, kind: int, protocol: int, _: str, address: Any
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        for option in socket_options():
            sock.setsockopt(*option)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def result_of(
    task: asyncio.Task[T], limit: float | None, close: Callable[[T], object]
) -> T:
    """Wait for a task; on a timeout or a cancellation, discard it and its result."""
    try:
        await asyncio.wait([task], timeout=limit)
    except BaseException:
        discard(task, close)
        raise
    if not task.done():
        discard(task, close)
        msg = f"over {limit} s"
        raise TimeoutError(msg)
    return task.result()


def discard(task: asyncio.Task[T], close: Callable[[T], object]) -> None:
    """Cancel a task; if it has a result already, close that."""

    def close_result(ended: asyncio.Task[T]) -> None:
        if not ended.cancelled() and ended.exception() is None:
            close(ended.result())

    task.cancel()
    task.add_done_callback(close_result)
