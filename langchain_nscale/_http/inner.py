"""Async generators that may be left unfinished when their event loop ends.

A loop that ends closes all generators that it knows, nested ones at the same time, so
that one finds another already closing. Therefore the loop must only know the outermost
generator, which closes the others.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")

_kept: set[asyncio.Future[Any]] = set()


def keep_until_done(task: asyncio.Future[Any]) -> None:
    """Hold a reference to a task, since the event loop itself holds none."""
    _kept.add(task)
    task.add_done_callback(_kept.discard)


class Inner(Generic[T]):
    """Iterates over a generator that the event loop does not know, and closes it.

    Use it as a context manager around the loop.
    """

    def __init__(self, items: AsyncGenerator[T, None], *, nested: bool = False) -> None:
        """Take a generator.

        Args:
            items: A generator that has not been iterated.
            nested: Whether it iterates over others that the loop must not know either.
                They must begin before it waits for anything.
        """
        self._items = items
        self._nested = nested
        self._next: Any = self._first
        self._task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Inner[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.remove_done_callback(self._close_soon)
        await self.aclose()

    def until_task_ends(self) -> Inner[T]:
        """Close the generator no later than the current task ends."""
        # langchain-core leaves a generator suspended if the task is cancelled while a
        # callback handler is waiting, and then keeps it in a traceback.
        self._task = asyncio.current_task()
        if self._task is not None:
            self._task.add_done_callback(self._close_soon)
        return self

    def _close_soon(self, task: asyncio.Task[Any]) -> None:
        keep_until_done(task.get_loop().create_task(self.aclose()))

    async def aclose(self) -> None:
        """Close the generator."""
        # Not with its `aclose`: if the garbage collector runs in another thread, it would
        # finalize a generator that is just being closed, and print that it can't.
        with suppress(GeneratorExit, StopAsyncIteration):
            await self._items.athrow(GeneratorExit())

    def __aiter__(self) -> Inner[T]:
        return self

    def __anext__(self) -> Awaitable[T]:
        return self._next()  # type: ignore[no-any-return]  # set to either of two methods

    def _first(self) -> Awaitable[T]:
        self._next = self._items.__anext__
        if self._nested:
            return _Unregistered(self._next)
        return _without_hooks(self._next)


def _without_hooks(function: Callable[[], R]) -> R:
    """Hide generators that a function begins to iterate from the event loop."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None, finalizer=_leave_alone)
    try:
        return function()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _leave_alone(_: object) -> None:
    """Leave a generator that is garbage to the outermost one, which is garbage too."""
    # Without a finalizer, Python itself would close it, which can't wait for anything:
    # "async generator ignored GeneratorExit".


class _Unregistered(Generic[T]):
    """Awaits the first step of an async generator without the event loop's hooks."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def _begin(self) -> tuple[Any, Any]:
        step = self._function().__await__()
        return step, step.send(None)

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            step, waits_for = _without_hooks(self._begin)
        except StopIteration as result:
            return result.value  # type: ignore[no-any-return]  # of the step
        while True:  # as `yield from step` does, from here on
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001  # passed on
                resume = partial(step.throw, error)
            else:
                resume = partial(step.send, value)
            try:
                waits_for = resume()
            except StopIteration as result:
                return result.value  # type: ignore[no-any-return]  # of the step
