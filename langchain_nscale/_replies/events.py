"""Writes a reply as langchain-protocol events, without intermediate message chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langchain_nscale._replies.chunks import ChunkWriter
from langchain_nscale._replies.reply import FINISH_KEYS
from langchain_nscale._replies.tool_calls import parse_tool_calls
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.whole import Delta, join_tool_calls
from langchain_nscale._replies.writer import BlockNumbers
from langchain_nscale._version import PROVIDER

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGenerationChunk

    from langchain_nscale._replies.reply import Reply

Event = dict[str, Any]  # one of langchain-protocol's `MessagesData`


class EventWriter:
    """Writes a reply as langchain-protocol events."""

    def __init__(self, message_id: str = "") -> None:
        """Start a reply whose message has this ID."""
        self._id = message_id
        self._has_begun = False
        self._blocks = BlockNumbers()

    def write(
        self,
        reply: Reply,
        deltas: Sequence[Delta],
    ) -> list[Event]:
        """Return the events for deltas: the start of each new block, and its growth."""
        if not deltas:
            return []
        events = [] if self._has_begun else [self._start(reply)]
        for kind, text, call, _ in deltas:
            if kind in {"refusal", "logprobs"}:
                continue  # the protocol has no delta for them
            key: Any = kind
            start: Event = {"type": kind, kind: ""}
            growth: Event = {"type": f"{kind}-delta", kind: text}
            if call is not None:
                key = call["index"]
                start = {**call, "args": ""}
                growth = {"type": "tool-call-delta", "args": call["args"]}
            is_new = key not in self._blocks
            number = self._blocks.number(key)
            if is_new:
                events.append(
                    {"event": "content-block-start", "index": number, "content": start}
                )
            if call is None or call["args"]:
                events.append(
                    {"event": "content-block-delta", "index": number, "delta": growth}
                )
        return events

    def _start(self, reply: Reply) -> Event:
        self._has_begun = True
        metadata: dict[str, Any] = {"provider": PROVIDER}
        if reply.retries:  # usage counts them even if the rest is not read
            metadata["retries"] = reply.retries
        return {
            "event": "message-start",
            "role": "ai",
            "id": self._id,
            "metadata": metadata,
        }

    def finish(self, reply: Reply) -> Iterator[Event]:
        """Yield the end of each block, with its full content, and of the message."""
        if not self._has_begun:
            yield self._start(reply)
        message = reply.message(reply.metadata())
        contents = _contents(reply, message)
        for key, number in self._blocks.items():
            content = contents[key]
            yield {"event": "content-block-finish", "index": number, "content": content}
        extra = message.additional_kwargs
        if refusal := extra.get("refusal"):
            yield from self._refusal(refusal)
        metadata = message.response_metadata
        end: Event = {"event": "message-finish", "metadata": metadata}
        # langchain-core 1.8.4 reads these; older versions leave them alone.
        end.update({key: metadata[key] for key in FINISH_KEYS if key in metadata})
        if usage := usage_metadata(reply.reported_usage):
            end["usage"] = usage
        if extra := {**extra, **reply.parsed(message)}:
            end["additional_kwargs"] = extra
        yield end

    def _refusal(self, text: str) -> Iterator[Event]:
        """Yield the block of a refusal, which the protocol does not know."""
        # langchain-core's assembler (1.8) drops a block of type `refusal`, with which its
        # parsers and ModelRefusalMiddleware recognize refusals, but keeps `non_standard`
        # blocks as they are. So the block becomes a refusal after it has been taken.
        number = self._blocks.number("refusal")
        block = {"type": "refusal", "refusal": text}
        start = {"type": "non_standard", "value": {**block, "refusal": ""}}
        yield {"event": "content-block-start", "index": number, "content": start}
        content: Event = {"type": "non_standard", "value": dict(block)}
        yield {"event": "content-block-finish", "index": number, "content": content}
        del content["value"]
        content.update(block)


def _contents(reply: Reply, message: AIMessage) -> dict[Any, Event]:
    """Return the full content of each block but a refusal, by its key."""
    reasoning = message.additional_kwargs.get("reasoning_content")
    contents: dict[Any, Event] = {
        "text": {"type": "text", "text": message.content},
        "reasoning": {"type": "reasoning", "reasoning": reasoning},
    }
    problems = reply.problems()
    for index, call in join_tool_calls(reply.deltas).items():
        valid, invalid = parse_tool_calls([call], problems)
        contents[index] = cast("Event", [*valid, *invalid][0])
    return contents


class Both(NamedTuple):
    """The same deltas as chunks and as events."""

    chunks: list[ChatGenerationChunk]
    events: Iterable[Event]


class ChunkAndEventWriter:
    """Writes chunks and events side by side, for callers whose handlers need chunks."""

    def __init__(self, message_id: str = "") -> None:
        """Start a reply whose message has this ID."""
        self._chunks = ChunkWriter()
        self._events = EventWriter(message_id)

    def write(self, reply: Reply, deltas: Sequence[Delta]) -> list[Both]:
        """Return the chunks and events for deltas."""
        chunks = self._chunks.write(reply, deltas)
        return [Both(chunks, self._events.write(reply, deltas))]

    def finish(self, reply: Reply) -> list[Both]:
        """Return the chunk and the events that end the reply."""
        return [Both(self._chunks.finish(reply), self._events.finish(reply))]
