"""Connections are kept for the next request, and closed once they are idle."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from langchain_nscale._http.kept import Pool, Received


class Connection:
    """A connection that can always be used again."""

    origin: Any = "https://x"
    parser: Any = SimpleNamespace(status=200, headers=[], is_done=False)
    is_new = True
    is_usable = is_reusable = True
    idle_since = 0.0
    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class OnePool(Pool[Any]):
    """Lets one request through at a time, and notes what it wants to do later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []
        super().__init__({}, ssl.create_default_context, self._note)
        self._turns = threading.BoundedSemaphore(1)

    def _note(self, seconds: float, function: Callable[[], None]) -> None:
        self.later.append((seconds, function))

    def use(self) -> Connection:
        """Use a connection for a request."""
        self._turns.acquire()
        connection: Connection = self.take("https://x") or self.add(Connection())  # type: ignore[arg-type]
        self.release(connection)
        return connection


def test_connections_are_kept_and_closed_once_they_are_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pool = OnePool()
    connection = pool.use()
    assert pool.use() is connection
    [(seconds, on_time)] = pool.later
    assert seconds == 30
    now = 120.0
    assert pool.use() is connection
    now = 130.0
    on_time()
    assert not connection.is_closed  # it has been used since
    assert pool.later[-1][0] == 20
    now = 150.0
    pool.later[-1][1]()
    assert connection.is_closed
    assert len(pool.later) == 2  # nothing is left to wait for
    assert pool.use() is not connection
    assert len(pool.later) == 3


@pytest.mark.parametrize(("limit", "is_closed"), [(1, True), (2, False)])
def test_idle_connections_to_other_servers_make_room(limit: int, is_closed: bool) -> None:
    pool = OnePool()
    pool.limit = limit
    other = pool.use()
    elsewhere: Any = "https://y"
    assert pool.take(elsewhere) is None
    assert other.is_closed is is_closed


def test_a_body_can_not_be_read_once_its_connection_is_given_back() -> None:
    released: list[Any] = []
    request: Any = SimpleNamespace(method="POST", url="https://x")
    response = Received(released.append, Connection(), request, b"")
    assert response._reading() is not None
    response._close()
    response._close()
    assert len(released) == 1  # it counts once
    with pytest.raises(httpx2.StreamClosed):
        response._reading()
