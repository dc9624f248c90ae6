"""What a stream brings -> what its consumer wants: message chunks or protocol events.

Both writers take the same deltas, so both say the same. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessageChunk,
    ToolCallChunk,
    message_chunk_to_message,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

import langchain_nscale._blocks  # noqa: F401  # registers itself with langchain-core
from langchain_nscale._chunks import PROVIDER, make_chunk, parse_tool_calls
from langchain_nscale._replies import (
    Delta,
    Reply,
    build_message,
    usage_metadata,
    whole_calls,
)

T_co = TypeVar("T_co", covariant=True)
Event = dict[str, Any]  # one of langchain-protocol's `MessagesData`


class Writer(Protocol[T_co]):
    """Turns what is read of a reply into what is yielded."""

    def write(self, reply: Reply, deltas: Sequence[Delta]) -> Sequence[T_co]:
        """What to yield for the next deltas."""

    def finish(self, reply: Reply) -> Sequence[T_co]:
        """What to yield at the end."""

    def partial(self, reply: Reply) -> AIMessage | None:
        """What has been written, as one message; `None` before the first delta."""


class _Blocks(dict[Any, int]):
    """Numbers of content blocks by what they hold: text, reasoning or a tool call.

    A reply has at most one text and one reasoning block, and one block for each tool
    call, numbered in the order in which they begin.
    """

    def number(self, key: object) -> int:
        return self.setdefault(key, len(self))


class ChunkWriter:
    """Writes a reply as `ChatGenerationChunk`s."""

    def __init__(self, *, v1: bool = False) -> None:
        """Start a reply.

        Args:
            v1: Whether the content is a list of blocks, as `output_version="v1"` has it.
                langchain-core would make them too, but numbers them so that a tool call
                is merged into the text before it.
        """
        self._blocks = _Blocks() if v1 else None
        self._sent: list[BaseMessageChunk] = []

    def write(self, reply: Reply, deltas: Sequence[Delta]) -> list[ChatGenerationChunk]:
        """One chunk for each delta."""
        chunks = []
        for text, reasoning, refusal, call, logprobs in deltas:
            extra = None
            if reasoning:
                extra = {"reasoning_content": reasoning}
            elif refusal:
                extra = {"refusal": refusal}
            metadata: dict[str, Any] | None = {"logprobs": logprobs} if logprobs else None
            if not self._sent:
                # Not on every chunk: merging it 2,000 times costs as much as parsing.
                metadata = {"model_provider": PROVIDER, **(metadata or {})}
            content = None
            if self._blocks is not None:
                content = self._content(text, reasoning, call)
                metadata = {**(metadata or {}), "output_version": "v1"}
            chunk = make_chunk(reply.id, text, extra, metadata, call, content)
            self._sent.append(chunk.message)
            chunks.append(chunk)
        return chunks

    def _content(
        self, text: str, reasoning: str, call: ToolCallChunk | None
    ) -> list[dict[str, Any]]:
        assert self._blocks is not None  # noqa: S101  # for the type checker
        block: dict[str, Any]
        if text:
            block = {"type": "text", "text": text}
        elif reasoning:
            block = {"type": "reasoning", "reasoning": reasoning}
        elif call:
            block = {**call, "type": "tool_call_chunk"}
        else:
            return []
        key = call["index"] if call else block["type"]
        return [{**block, "index": self._blocks.number(key)}]

    def finish(self, reply: Reply) -> list[ChatGenerationChunk]:
        """The chunk with all that is known only at the end, each field once."""
        metadata = reply.metadata()
        v1 = self._blocks is not None
        if v1:
            metadata["output_version"] = "v1"
        usage = usage_metadata(reply.usage)
        return [last_chunk(reply.id, metadata, usage, [] if v1 else "")]

    def partial(self, reply: Reply) -> AIMessage | None:  # noqa: ARG002  # interface
        """The chunks as one message."""
        if not self._sent:
            return None
        return merge([*self._sent, AIMessageChunk(content="", chunk_position="last")])


def last_chunk(
    message_id: str | None,
    metadata: dict[str, Any],
    usage: Any,
    content: Any = "",
) -> ChatGenerationChunk:
    """The chunk that ends a stream."""
    message = AIMessageChunk(
        content=content,
        id=message_id,
        response_metadata=metadata,
        usage_metadata=usage,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info=generation_info(metadata))


def generation_info(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `response_metadata` that LangChain has in `generation_info` too."""
    return {
        key: metadata[key] for key in ("finish_reason", "logprobs") if key in metadata
    }


def merge(chunks: Sequence[BaseMessageChunk]) -> AIMessage:
    """The message that chunks add up to."""
    merged = chunks[0] + list(chunks[1:])
    return cast("AIMessage", message_chunk_to_message(merged))


class EventWriter:
    """Writes a reply as langchain-protocol events, without message chunks in between."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._deltas: list[Delta] = []
        self._blocks = _Blocks()

    def write(self, reply: Reply, deltas: Sequence[Delta]) -> list[Event]:
        """The events for deltas: the start of each block, and what it gains."""
        if not deltas:
            return []
        events = [] if self._deltas else self._begin(reply)
        self._deltas += deltas
        for delta in deltas:
            text, reasoning, _, call, _ = delta
            gain: Event
            if text:
                key: Any = "text"
                gain = {"type": "text-delta", "text": text}
            elif reasoning:
                key = "reasoning"
                gain = {"type": "reasoning-delta", "reasoning": reasoning}
            elif call:
                key = call["index"]
                gain = {"type": "tool-call-delta", "args": call["args"]}
            else:
                continue
            begins = key not in self._blocks
            number = self._blocks.number(key)
            if begins:
                start = {**call, "args": ""} if call else {"type": key, key: ""}
                events.append(
                    {"event": "content-block-start", "index": number, "content": start}
                )
            if call and not call["args"]:
                continue
            events.append(
                {"event": "content-block-delta", "index": number, "delta": gain}
            )
        return events

    def _begin(self, reply: Reply) -> list[Event]:
        self._id = reply.id
        return [
            {
                "event": "message-start",
                "role": "ai",
                "id": reply.id or "",
                "metadata": {"provider": PROVIDER},
            }
        ]

    def finish(self, reply: Reply) -> list[Event]:
        """The end of each block, whole, and of the message."""
        events = [] if self._deltas else self._begin(reply)
        message = build_message(reply.id, self._deltas, reply.metadata())
        wholes: dict[Any, Event] = {
            "text": {"type": "text", "text": message.content},
            "reasoning": {
                "type": "reasoning",
                "reasoning": message.additional_kwargs.get("reasoning_content"),
            },
        }
        for index, call in whole_calls(self._deltas).items():
            valid, invalid = parse_tool_calls([call])
            wholes[index] = cast("Event", [*valid, *invalid][0])
        events += [
            {"event": "content-block-finish", "index": number, "content": wholes[key]}
            for key, number in self._blocks.items()
        ]
        end: Event = {"event": "message-finish", "metadata": message.response_metadata}
        if usage := usage_metadata(reply.usage):
            end["usage"] = usage
        if message.additional_kwargs:
            end["additional_kwargs"] = message.additional_kwargs
        return [*events, end]

    def partial(self, reply: Reply) -> AIMessage | None:
        """The deltas as one message."""
        return build_message(reply.id, self._deltas) if self._deltas else None

    def chunk_of(self, event: Event) -> ChatGenerationChunk | None:
        """The message chunk that says what an event says, for those who want chunks."""
        kind = event["event"]
        content = event.get("content") or {}
        if kind == "content-block-start" and content["type"] == "tool_call_chunk":
            return make_chunk(self._id, tool_call_chunk=cast("ToolCallChunk", content))
        if kind == "message-finish":
            return last_chunk(self._id, event["metadata"], event.get("usage"))
        if kind != "content-block-delta":
            return None
        delta = event["delta"]
        if "text" in delta:
            return make_chunk(self._id, delta["text"])
        if "reasoning" in delta:
            return make_chunk(self._id, "", {"reasoning_content": delta["reasoning"]})
        index = list(self._blocks)[event["index"]]
        call = tool_call_chunk(args=delta["args"], index=index)
        return make_chunk(self._id, tool_call_chunk=call)
