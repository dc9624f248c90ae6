"""Writes a reply as langchain-protocol events, without intermediate message chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langchain_nscale._provider import PROVIDER
from langchain_nscale._replies.chunks import ChunkWriter
from langchain_nscale._replies.tool_calls import parse_tool_calls
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.whole import (
    Delta,
    build_message,
    join_tool_calls,
)
from langchain_nscale._replies.writer import BlockNumbers

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
        self._deltas: list[Delta] = []
        self._blocks = BlockNumbers()

    def write(
        self,
        reply: Reply,  # noqa: ARG002  # interface
        deltas: Sequence[Delta],
    ) -> list[Event]:
        """Return the events for deltas: the start of each new block, and its growth."""
        if not deltas:
            return []
        events = [] if self._deltas else [self._start()]
        self._deltas += deltas
        for delta in deltas:
            text, reasoning, _, call, _ = delta
            growth: Event
            if text:
                key: Any = "text"
                growth = {"type": "text-delta", "text": text}
            elif reasoning:
                key = "reasoning"
                growth = {"type": "reasoning-delta", "reasoning": reasoning}
            elif call:
                key = call["index"]
                growth = {"type": "tool-call-delta", "args": call["args"]}
            else:
                continue
            is_new = key not in self._blocks
            number = self._blocks.number(key)
            if is_new:
                start = {**call, "args": ""} if call else {"type": key, key: ""}
                events.append(
                    {"event": "content-block-start", "index": number, "content": start}
                )
            if call and not call["args"]:
                continue
            events.append(
                {"event": "content-block-delta", "index": number, "delta": growth}
            )
        return events

    def _start(self) -> Event:
        return {
            "event": "message-start",
            "role": "ai",
            "id": self._id,
            "metadata": {"provider": PROVIDER},
        }

    def finish(self, reply: Reply) -> list[Event]:
        """Return the end of each block, with its full content, and of the message."""
        events = [] if self._deltas else [self._start()]
        message = build_message(self._deltas, reply.metadata())
        contents: dict[Any, Event] = {
            "text": {"type": "text", "text": message.content},
            "reasoning": {
                "type": "reasoning",
                "reasoning": message.additional_kwargs.get("reasoning_content"),
            },
        }
        calls = join_tool_calls(self._deltas)
        for position, (index, call) in enumerate(calls.items()):
            is_cut = position == len(calls) - 1 and reply.last_call_is_untrusted(
                has_arguments=bool((call["args"] or "").strip())
            )
            valid, invalid = parse_tool_calls([call], {0} if is_cut else ())
            contents[index] = cast("Event", [*valid, *invalid][0])
        if refusal := message.additional_kwargs.get("refusal"):
            # The protocol has no delta for refusals, so the block begins here.
            contents["refusal"] = {"type": "refusal", "refusal": refusal}
            start = {"type": "refusal", "refusal": ""}
            number = self._blocks.number("refusal")
            events.append(
                {"event": "content-block-start", "index": number, "content": start}
            )
        events += [
            {"event": "content-block-finish", "index": number, "content": contents[key]}
            for key, number in self._blocks.items()
        ]
        end: Event = {"event": "message-finish", "metadata": message.response_metadata}
        if usage := usage_metadata(reply.usage):
            end["usage"] = usage
        if message.additional_kwargs:
            end["additional_kwargs"] = message.additional_kwargs
        return [*events, end]

    def partial(self, reply: Reply) -> AIMessage | None:
        """Return the deltas written so far as one message."""
        if not self._deltas:
            return None
        return build_message(
            self._deltas, last_call_is_untrusted=reply.finish_reason is None
        )


class Both(NamedTuple):
    """The same deltas as chunks and as events."""

    chunks: list[ChatGenerationChunk]
    events: list[Event]


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

    def partial(self, reply: Reply) -> AIMessage | None:
        """Return the deltas written so far as one message."""
        return self._events.partial(reply)
