"""Counts what some work does, to see how it grows: lines of Python and calls into C.

Counts are the same on every machine and under any load, unlike times.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any


def operations(work: Callable[[], Any], within: str = "") -> int:
    """Return how many lines of Python and calls into C some work takes, in this thread.

    Args:
        work: What to do.
        within: Count only what is done by files with this in their path.
    """
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:  # noqa: ARG001  # interface
        nonlocal count
        count += within in frame.f_code.co_filename
        return trace

    def profile(frame: Any, event: str, arg: Any) -> None:  # noqa: ARG001  # interface
        nonlocal count
        count += event == "c_call" and within in frame.f_code.co_filename

    before = sys.gettrace(), sys.getprofile()
    gc.disable()  # finalizers of other work would be counted
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
        gc.enable()
    return count


def growth(
    work: Callable[[int], Callable[[], Any]], size: int, within: str = ""
) -> float:
    """Return how much more each further unit costs when the size has doubled.

    1 is linear, 2 is quadratic: the second doubling adds twice as many units as the
    first, and if each cost the same, it would cost twice as much.
    """
    for _ in range(2):  # imports, caches
        work(size)()
    once, twice, four = (operations(work(size * n), within) for n in (1, 2, 4))
    return (four - twice) / (twice - once) / 2
