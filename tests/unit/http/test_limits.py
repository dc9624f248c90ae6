from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from langchain_nscale._http import attempts, streams, watchdog
from langchain_nscale._http.limits import CallTime, Limits, ReadLimits
from langchain_nscale._replies.chunks import ChunkWriter
from langchain_nscale._replies.reader import StreamReader
from langchain_nscale.errors import (
    NscaleError,
    NscaleStalledStreamError,
    NscaleTimeoutError,
)
from tests.unit.answers import DONE, FINISH, chunk

PING = b": ping\n\n"
EVENT = chunk({"content": "a"})


class Wire(httpx2.SyncByteStream):
    """A body whose pieces arrive at certain times; keeps the time."""

    def __init__(self, *pieces: tuple[float, bytes]) -> None:
        self.now = 0.0
        self._pieces = pieces

    def clock(self) -> float:
        return self.now

    def __iter__(self) -> Iterator[bytes]:
        for wait, piece in self._pieces:
            self.now += wait
            yield piece


def read(
    wire: Wire, limits: Limits, *, thinks: float = 0.0, address: str = ""
) -> list[str]:
    """Read a stream; the caller takes some time for each chunk."""
    request = httpx2.Request("POST", "https://x/v1/chat/completions")
    response: Any = httpx2.Response(200, stream=wire, request=request)
    stream, time = StreamReader(response, ChunkWriter()), CallTime(limits, wire.clock)
    texts = []
    reading = ReadLimits(time, response, stream, silence=600.0, address=address)
    for piece in streams.read_stream(response, stream, reading, (httpx2.HTTPError,)):
        wire.now += thinks
        texts.append(piece.text)
    return texts


def test_keep_alives_are_no_progress() -> None:
    begin = [(4.0, EVENT)] * 3  # events keep it alive
    limits = Limits(stall=5.0)
    for pings, is_stalled in ((1, False), (2, True)):
        wire = Wire(*begin, *[(4.0, PING)] * pings, (0.5, FINISH))
        if is_stalled:
            with pytest.raises(NscaleStalledStreamError) as caught:
                read(wire, limits)
            assert caught.value.partial is not None
            assert caught.value.partial.text == "aaa"
        else:
            assert read(wire, limits) == ["a", "a", "a", ""]
    assert read(Wire(*begin, *[(4.0, PING)] * 9, (0.5, FINISH)), Limits())


def test_a_slow_caller_is_no_stall() -> None:
    wire = Wire((1.0, EVENT), (1.0, PING), (1.0, EVENT), (1.0, FINISH))
    assert read(wire, Limits(stall=5.0), thinks=60.0) == ["a", "a", ""]


def test_a_slow_caller_uses_up_the_time_of_the_call() -> None:
    wire = Wire((1.0, EVENT), (1.0, EVENT), (1.0, FINISH))
    with pytest.raises(NscaleTimeoutError, match="`total_timeout`"):
        read(wire, Limits(total=50.0), thinks=60.0)


def test_a_call_may_use_all_of_its_time() -> None:
    wire = Wire((4.5, EVENT), (0.4, FINISH))
    assert read(wire, Limits(total=5.0)) == ["a", ""]
    with pytest.raises(NscaleTimeoutError, match="`total_timeout`"):
        read(Wire((4.5, EVENT), (0.6, EVENT), (0.1, FINISH)), Limits(total=5.0))


def test_a_later_timer_does_not_hold_up_an_earlier_one() -> None:
    reached = threading.Event()
    watchdog.call_later(600.0, reached.clear)
    watchdog.call_later(0.0, reached.set)
    assert reached.wait(20.0)


@pytest.mark.parametrize("total", [None, 5.0])
def test_keep_alives_after_the_finish_reason_do_not_delay_the_end(
    total: float | None,
) -> None:
    wire = Wire((1.0, EVENT), (1.0, FINISH), *[(1.5, PING)] * 100)
    assert read(wire, Limits(total=total)) == ["a", ""]
    assert wire.now == 5.0  # 2 s after the finish reason, and the next ping


def test_the_end_of_a_body_is_awaited_until_it_did_not_come_twice() -> None:
    class Counted(Wire):
        taken = 0

        def __iter__(self) -> Iterator[bytes]:
            for piece in super().__iter__():
                self.taken += 1
                yield piece

    def leftover(*after: tuple[float, bytes], now: float = 0.0) -> int:
        wire = Counted((now, EVENT), (1.0, FINISH + DONE), *after)
        assert read(wire, Limits(), address="https://one") == ["a", ""]
        return wire.taken - 2

    endless = [(0.0, PING)] * 100
    assert leftover(*endless) == 16
    assert leftover((0.0, PING)) == 1  # it came, so the next is awaited again
    assert leftover(*endless) == 16
    assert leftover(*endless) == 16
    assert leftover(*endless) == 0
    assert leftover(*endless, now=50.0) == 0
    assert leftover(*endless, now=70.0) == 16  # after a minute, once
    assert leftover(*endless, now=80.0) == 0


def test_the_ends_of_many_bodies_are_awaited_at_the_same_time() -> None:
    taken = []

    class Nested(Wire):
        """A body during the end of which others end."""

        def __init__(self, number: int) -> None:
            super().__init__((1.0, EVENT), (1.0, FINISH + DONE))
            self._number = number

        def __iter__(self) -> Iterator[bytes]:
            yield from super().__iter__()
            if self._number:
                read(Nested(self._number - 1), Limits(), address="https://many")
            taken.append(self._number)

    read(Nested(5), Limits(), address="https://many")
    assert taken == [0, 1, 2, 3, 4, 5]


def test_a_new_token_is_not_sent_once_the_time_is_up() -> None:
    now = 0.0
    rejected = NscaleError("no", status_code=401)

    def begin() -> attempts.Attempts:
        client: Any = None
        limits = Limits(total=1.0)
        return attempts.Attempts(client, limits, 2, renews_token=True, clock=lambda: now)

    assert begin().delay(rejected) == 0.0
    late = begin()
    now = 2.0
    assert late.delay(rejected) is None
