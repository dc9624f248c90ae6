"""Writes a reply as message chunks, built fast.

Validating each chunk and its wrapper would cost more than everything else done per
token, only to check values we built ourselves. So one of each is validated at import,
and all others are copies of it with different values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessageChunk,
    InvalidToolCall,
    ToolCallChunk,
    message_chunk_to_message,
)
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

import langchain_nscale._replies.content_blocks  # noqa: F401  # registers with langchain-core
from langchain_nscale._replies.edges import EdgeChunk
from langchain_nscale._replies.tool_calls import breaker, parse_tool_calls
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.whole import (
    EXTRA_KEYS,
    Delta,
    generation_info,
    join_tool_calls,
)
from langchain_nscale._replies.writer import BlockNumbers
from langchain_nscale._version import PROVIDER

if TYPE_CHECKING:
    from langchain_nscale._replies.reply import Reply

_M = TypeVar("_M", bound=BaseModel)


class ChunkWriter:
    """Writes a reply as `ChatGenerationChunk`s."""

    def __init__(self, *, v1: bool = False) -> None:
        """Start a reply; with `v1`, the content is a list of blocks."""
        # langchain-core could create those of `output_version="v1"` too, but its
        # numbering merges a tool call into the text before it.
        self._blocks = BlockNumbers() if v1 else None
        self._has_begun = False

    def write(
        self,
        reply: Reply,
        deltas: Sequence[Delta],
    ) -> list[ChatGenerationChunk]:
        """Return one chunk for each delta."""
        chunks = []
        for delta in deltas:
            kind, text, call, logprobs = delta
            metadata: dict[str, Any] | None = {"logprobs": logprobs} if logprobs else None
            like = _MESSAGE
            if not self._has_begun:
                self._has_begun = True
                like = _FIRST_MESSAGE
                # Only on the first: merging it 2,000 times costs as much as parsing.
                metadata = {"model_provider": PROVIDER, **(metadata or {})}
                if reply.retries:  # usage counts them even if the rest is not read
                    metadata["retries"] = reply.retries
            content = None
            if self._blocks is not None:
                content = self._content(delta)
                metadata = {**(metadata or {}), "output_version": "v1"}
            if kind == "text":
                chunk = make_chunk(text, None, metadata, None, content, like)
            else:
                extra = {EXTRA_KEYS[kind]: text} if kind in EXTRA_KEYS else None
                chunk = make_chunk("", extra, metadata, call, content, like)
            chunks.append(chunk)
        return chunks

    def _content(self, delta: Delta) -> list[dict[str, Any]]:
        assert self._blocks is not None  # noqa: S101  # for the type checker
        kind, text, call, _ = delta
        if kind == "logprobs":
            return []
        key: object = kind
        block: dict[str, Any] = {"type": kind, kind: text}
        if call is not None:
            key = call["index"]
            block = {**call, "type": "tool_call_chunk"}
        return [{**block, "index": self._blocks.number(key)}]

    def finish(self, reply: Reply) -> list[ChatGenerationChunk]:
        """Return the last chunk, with everything that is known only at the end."""
        # Each field is sent once: langchain-core concatenates repeated strings
        # ("stopstop") and adds up repeated counts.
        #
        # langchain-core parses merged arguments leniently: `{"path": "/` becomes a call
        # with `path="/"`. So the last chunk adds a text to the arguments of every call
        # that is invalid or truncated with which no parser accepts them, however the
        # chunks are added up. `original_arguments` removes it.
        metadata = reply.metadata()
        if self._has_begun:
            metadata.pop("retries", None)
        v1 = self._blocks is not None
        if v1:
            metadata["output_version"] = "v1"
        broken = _broken_calls(reply)
        cls = EdgeChunk if broken else AIMessageChunk
        message = cls(
            content=[] if v1 else "",
            additional_kwargs=reply.parsed(),
            response_metadata=metadata,
            usage_metadata=usage_metadata(reply.reported_usage),
            tool_call_chunks=[
                tool_call_chunk(
                    name=None, args=breaker(call["args"] or ""), id=None, index=index
                )
                for index, call in broken.items()
            ],
            chunk_position="last",
        )
        message.tool_calls, message.invalid_tool_calls = [], list(broken.values())
        info = generation_info(metadata)
        return [ChatGenerationChunk(message=message, generation_info=info)]


def _broken_calls(reply: Reply) -> dict[int | None, InvalidToolCall]:
    """Return the calls of a reply that can't be executed, by index."""
    problems = reply.problems()
    calls = join_tool_calls(reply.deltas).items()
    judged = {index: parse_tool_calls([call], problems) for index, call in calls}
    return {index: invalid[0] for index, (_, invalid) in judged.items() if invalid}


def merge(chunks: Sequence[BaseMessageChunk]) -> AIMessage:
    """Return the message that chunks add up to."""
    merged = chunks[0] + list(chunks[1:])
    return cast("AIMessage", message_chunk_to_message(merged))


def _prototype(model: _M) -> _M:
    model.model_fields_set.update(type(model).model_fields)
    return model


_MESSAGE = _prototype(AIMessageChunk(content="", id=None))
_FIRST_MESSAGE = _prototype(EdgeChunk(content="", id=None))
_GENERATION = _prototype(ChatGenerationChunk(message=_MESSAGE))


def _copy(prototype: _M, fields: dict[str, Any], extra: dict[str, Any] | None) -> _M:  # noqa: ARG001  # interface
    """Copy a prototype with other fields, in pydantic's own way."""
    return prototype.model_copy(update=fields)


def _fast_copy(prototype: _M, fields: dict[str, Any], extra: dict[str, Any] | None) -> _M:
    """Do what `_copy` does, at a fifth of the cost."""
    copy: _M = object.__new__(type(prototype))
    _set_fields(copy, fields)
    # Sharing the set is safe because it names every field, so it can't grow. Fewer
    # objects also mean fewer runs of the garbage collector.
    _set_names(copy, prototype.__pydantic_fields_set__)
    _set_extra(copy, extra)
    _set_private(copy, None)
    return copy


# pydantic keeps an instance in exactly these documented attributes. If it ever keeps it
# elsewhere, chunks are copied in its own way.
_SLOTS = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)
if set(BaseModel.__slots__) == set(_SLOTS):
    _set_fields, _set_names, _set_extra, _set_private = (
        vars(BaseModel)[slot].__set__ for slot in _SLOTS
    )
    _like = _fast_copy
else:
    _like = _copy


def make_chunk(
    text: str = "",
    additional_kwargs: dict[str, Any] | None = None,
    response_metadata: dict[str, Any] | None = None,
    call_chunk: ToolCallChunk | None = None,
    content: list[dict[str, Any]] | None = None,
    like: AIMessageChunk = _MESSAGE,
) -> ChatGenerationChunk:
    """Build a chunk before the last of a stream. Values are not validated."""
    # A fragment of a tool call's arguments appears only in `tool_call_chunks`: parsed on
    # its own, it would be noise in `tool_calls` and `invalid_tool_calls`.
    fields = _MESSAGE.__dict__.copy()
    fields["content"] = text if content is None else content
    fields["additional_kwargs"] = additional_kwargs or {}
    fields["response_metadata"] = response_metadata or {}
    fields["tool_calls"] = []
    fields["invalid_tool_calls"] = []
    fields["tool_call_chunks"] = [] if call_chunk is None else [call_chunk]
    if call_chunk is not None and (name := call_chunk["name"]):
        call = tool_call(name=name, args={}, id=call_chunk["id"])
        fields["tool_calls"].append(call)
    generation = _GENERATION.__dict__.copy()
    generation["message"] = _like(like, fields, {})
    generation["text"] = text
    return _like(_GENERATION, generation, None)
