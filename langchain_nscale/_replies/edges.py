"""Keeps broken tool calls of a stream from being executed after its chunks are merged."""

from __future__ import annotations

import copyreg
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks

from langchain_nscale._replies.tool_calls import original_arguments, parse_tool_calls


class EdgeChunk(AIMessageChunk):
    """The first chunk of a stream, or the last one of a stream with broken calls.

    To everyone who looks, serializes or copies it, it is an `AIMessageChunk`. Being an
    instance of a subclass only serves addition: Python asks the subclass first, which
    gives broken calls the arguments and errors of a reply that is not streamed. The last
    chunk sees `chunk + last`; the first sees `first + [*rest]`, with which chains on
    langchain-core 1.8 and its `generate_from_stream` add up a stream. Without it, or
    added up in other ways, broken calls have the breakers in their arguments and no
    error, but are not executed either.
    """

    @property  # type: ignore[misc]  # as mocks do it
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return AIMessageChunk

    @classmethod
    def lc_id(cls) -> list[str]:
        return AIMessageChunk.lc_id()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # copyreg's own function, so that reading it back needs no module of ours.
        new = getattr(copyreg, "__newobj__")  # noqa: B009  # missing in the stubs
        return new, (AIMessageChunk,), self.__getstate__()

    def __add__(self, other: Any) -> Any:
        """Merge with one chunk or several."""
        merged = super().__add__(other)
        last = other[-1] if isinstance(other, (list, tuple)) and other else other
        return _repaired(merged, last)

    def __radd__(self, left: Any) -> Any:
        """Merge; broken calls get the arguments and errors that `invoke` returns."""
        if not isinstance(left, AIMessageChunk):
            return NotImplemented
        return _repaired(add_ai_message_chunks(left, self), self)


def _repaired(merged: Any, last: Any) -> Any:
    """Give merged chunks the broken calls that the last chunk names."""
    if not issubclass(type(last), EdgeChunk) or not last.invalid_tool_calls:
        return merged
    broken = {call["id"]: str(call["error"]) for call in last.invalid_tool_calls}
    problems = {}
    for call in merged.tool_call_chunks:
        if call["id"] in broken:
            call["args"] = original_arguments(call["args"] or "")
            problems[call["index"]] = broken[call["id"]]
    valid, invalid = parse_tool_calls(merged.tool_call_chunks, problems)
    merged.tool_calls, merged.invalid_tool_calls = valid, invalid
    if isinstance(merged.content, list):  # output_version="v1"
        by_id: dict[str | None, Any] = {call["id"]: call for call in invalid}
        by_id |= {call["id"]: call for call in valid}
        merged.content = [_with_call(block, by_id) for block in merged.content]
    return merged


def _with_call(block: Any, calls: Mapping[str | None, Any]) -> Any:
    """Return a content block with fragments of a tool call replaced by the call."""
    if isinstance(block, dict) and block.get("type") in ("tool_call", "tool_call_chunk"):
        return dict(calls.get(block["id"], block))
    return block
