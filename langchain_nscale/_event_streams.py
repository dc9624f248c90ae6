"""Streams of v3 events that end when their last reader has left.

langchain-core's stream objects are part of reference cycles, so an abandoned stream keeps
its connection until the next garbage collection. Its async streams are read by a
background task, which receives the whole answer, and the service bills it. The objects
here share the state of those streams, but only users hold references to them: once the
last user has gone, they close the connection and end the run.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.language_models.chat_model_stream import (
    AsyncChatModelStream,
    AsyncProjection,
    AsyncTextProjection,
    ChatModelStream,
    SyncProjection,
    SyncTextProjection,
)

from langchain_nscale._http.inner import keep_until_done

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from typing_extensions import Self

E = TypeVar("E", bound=Mapping[str, Any])

_ended: set[str] = set()  # IDs of the messages whose streams are being ended


def until_ended(message_id: str, events: Iterable[E]) -> Iterator[E]:
    """Yield events until the stream of their message is ended."""
    # The last event comes after the connection has been released: langchain-core asks for
    # no other.
    last = None
    for event in events:
        if event["event"] == "message-finish":
            last = event
            continue
        yield event
        if message_id in _ended:
            raise GeneratorExit  # langchain-core reports it as the end of the run
    if last is not None:
        yield last


# --- sync -------------------------------------------------------------------------------


class EventStream(ChatModelStream):
    """The stream that `stream_events(version="v3")` returns.

    Dropping it, or leaving its `with` block, closes the connection and ends the run.
    """

    def __init__(self, source: ChatModelStream) -> None:
        """Share the state of langchain-core's stream."""
        self.__dict__ = source.__dict__

    @property
    def text(self) -> SyncTextProjection:
        return _HeldText(super().text, self)

    @property
    def reasoning(self) -> SyncTextProjection:
        return _HeldText(super().reasoning, self)

    @property
    def tool_calls(self) -> SyncProjection:
        return _HeldValues(super().tool_calls, self)

    def close(self) -> None:
        """Close the connection and end the run, if the answer is not complete."""
        if self.done or self.message_id is None:  # ended, or never begun
            return
        _ended.add(self.message_id)
        try:
            with suppress(GeneratorExit):
                _ = super().output  # reads on, which ends it
        finally:
            _ended.discard(self.message_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()


class _HeldValues(SyncProjection):
    """A projection that keeps its stream open while it is used."""

    __slots__ = ("_owner", "_source")

    def __init__(self, source: SyncProjection, owner: EventStream) -> None:
        super().__init__()
        self._source = source
        self._owner = owner

    @property
    def done(self) -> bool:
        return self._source.done

    @property
    def error(self) -> BaseException | None:
        return self._source.error

    def __iter__(self) -> Iterator[Any]:
        yield from self._source

    def get(self) -> Any:
        return self._source.get()


class _HeldText(_HeldValues, SyncTextProjection):
    __slots__ = ()

    def __bool__(self) -> bool:
        return bool(self._source)

    def __repr__(self) -> str:
        return repr(self._source)


# --- async ------------------------------------------------------------------------------


class AsyncEventStream(AsyncChatModelStream):
    """The stream that `astream_events(version="v3")` returns.

    It ends when its last reader has stopped before the end of the answer, unless another
    one has begun by the next step of the event loop.
    """

    __slots__ = ("_loop", "_readers", "_was_left")

    def __init__(self, source: AsyncChatModelStream) -> None:
        """Share the state of langchain-core's stream."""
        self.__dict__ = source.__dict__
        self._loop = asyncio.get_running_loop()
        self._readers = 0
        self._was_left = False

    @property
    def text(self) -> AsyncTextProjection:
        return _HeldAsyncText(super().text, self)

    @property
    def reasoning(self) -> AsyncTextProjection:
        return _HeldAsyncText(super().reasoning, self)

    @property
    def tool_calls(self) -> AsyncProjection:
        return _HeldAsyncValues(super().tool_calls, self)

    @property
    def output(self) -> AsyncProjection:
        return _HeldAsyncValues(super().output, self)

    def __aiter__(self) -> Any:
        return _Reader(super().__aiter__(), self)

    def __await__(self) -> Generator[Any, None, AIMessage]:
        message: AIMessage = yield from self._reading(super().__await__)
        return message

    def _reading(self, wait: Callable[[], Generator[Any, None, Any]]) -> Any:
        """Wait as a reader; a generator for `__await__`."""
        self._readers += 1
        try:
            return (yield from wait())
        except asyncio.CancelledError:
            if not self._was_left:
                raise
            msg = (
                "The stream was closed when its last reader stopped before the end. "
                "Read it to the end, or get `output` at once."
            )
            raise RuntimeError(msg) from None
        finally:
            self._leave()

    def _leave(self) -> None:
        self._readers -= 1
        self._end_soon()

    def _end_soon(self) -> None:
        has_ended = self.done or self.message_id is None
        if not (self._readers or has_ended or self._loop.is_closed()):
            with suppress(RuntimeError):  # the loop was closed by another thread
                self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not (self._readers or self.done):
            self._was_left = True
            keep_until_done(self._loop.create_task(self.aclose()))

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._end_soon()


async def as_event_stream(source: Awaitable[AsyncChatModelStream]) -> AsyncEventStream:
    """Return langchain-core's stream as one that ends."""
    return AsyncEventStream(await source)


class _Reader:
    """One `async for` over a stream or a projection."""

    def __init__(self, source: Any, owner: AsyncEventStream) -> None:
        self._source = source
        self._owner = owner
        owner._readers += 1  # noqa: SLF001  # same module

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._source.__anext__()  # type: ignore[no-any-return]  # an iterator's

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._owner._leave()  # noqa: SLF001  # same module


class _HeldAsyncValues(AsyncProjection):
    """A projection whose users are readers of its stream."""

    __slots__ = ("_owner", "_source")

    def __init__(self, source: AsyncProjection, owner: AsyncEventStream) -> None:
        super().__init__()
        self._source = source
        self._owner = owner

    @property
    def done(self) -> bool:
        return self._source.done

    @property
    def error(self) -> BaseException | None:
        return self._source.error

    def __aiter__(self) -> Any:
        return _Reader(self._source.__aiter__(), self._owner)

    def __await__(self) -> Generator[Any, None, Any]:
        return (yield from self._owner._reading(self._source.__await__))  # noqa: SLF001  # same module


class _HeldAsyncText(_HeldAsyncValues, AsyncTextProjection):
    __slots__ = ()
