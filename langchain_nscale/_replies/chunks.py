"""Writes a reply as message chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessageChunk,
    InvalidToolCall,
    message_chunk_to_message,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

import langchain_nscale._replies.content_blocks  # noqa: F401  # registers with langchain-core
from langchain_nscale._replies.copies import new_chunk, new_last_chunk
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
            is_first = False
            if not self._has_begun:
                self._has_begun = True
                is_first = True
                # Only on the first: merging it 2,000 times costs as much as parsing.
                metadata = {"model_provider": PROVIDER, **(metadata or {})}
                if reply.retries:  # usage counts them even if the rest is not read
                    metadata["retries"] = reply.retries
            content = None
            if self._blocks is not None:
                content = self._content(delta)
                metadata = {**(metadata or {}), "output_version": "v1"}
            if kind == "text":
                chunk = new_chunk(text, None, metadata, None, content, is_first=is_first)
            else:
                extra = {EXTRA_KEYS[kind]: text} if kind in EXTRA_KEYS else None
                chunk = new_chunk("", extra, metadata, call, content, is_first=is_first)
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
        last = new_last_chunk(
            generation_info(metadata),
            is_edge=bool(broken),
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
            tool_calls=[],
            invalid_tool_calls=list(broken.values()),
        )
        return [last]


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
