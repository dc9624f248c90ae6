"""Writes a reply as message chunks, built fast.

Validating each chunk and its wrapper would cost more than everything else done per
token, only to check values we built ourselves. So one of each is validated at import,
and all others are copies of it with different values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessageChunk,
    ToolCallChunk,
    message_chunk_to_message,
)
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

import langchain_nscale._replies.content_blocks  # noqa: F401  # registers with langchain-core
from langchain_nscale._provider import PROVIDER
from langchain_nscale._replies.messages import (
    Delta,
    generation_info,
    parse_tool_calls,
)
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.writer import BlockNumbers

if TYPE_CHECKING:
    from langchain_nscale._replies.completion import Reply

_M = TypeVar("_M", bound=BaseModel)


class ChunkWriter:
    """Writes a reply as `ChatGenerationChunk`s."""

    def __init__(self, *, v1: bool = False) -> None:
        """Start a reply.

        Args:
            v1: Whether the content is a list of blocks, as `output_version="v1"`
                requires. langchain-core could create them too, but its numbering merges
                a tool call into the text before it.
        """
        self._blocks = BlockNumbers() if v1 else None
        self._sent: list[BaseMessageChunk] = []

    def write(self, reply: Reply, deltas: Sequence[Delta]) -> list[ChatGenerationChunk]:
        """Return one chunk for each delta."""
        chunks = []
        for text, reasoning, refusal, call, logprobs in deltas:
            extra = None
            if reasoning:
                extra = {"reasoning_content": reasoning}
            elif refusal:
                extra = {"refusal": refusal}
            metadata: dict[str, Any] | None = {"logprobs": logprobs} if logprobs else None
            if not self._sent:
                # Only on the first: merging it 2,000 times costs as much as parsing.
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
        """Return the last chunk, with everything that is known only at the end.

        Each field is sent once: langchain-core concatenates repeated strings
        ("stopstop") and adds up repeated counts.
        """
        metadata = reply.metadata()
        v1 = self._blocks is not None
        if v1:
            metadata["output_version"] = "v1"
        message = AIMessageChunk(
            content=[] if v1 else "",
            id=reply.id,
            response_metadata=metadata,
            usage_metadata=usage_metadata(reply.usage),
            chunk_position="last",
        )
        info = generation_info(metadata)
        return [ChatGenerationChunk(message=message, generation_info=info)]

    def partial(self, reply: Reply) -> AIMessage | None:  # noqa: ARG002  # interface
        """Return the chunks written so far as one message."""
        if not self._sent:
            return None
        return merge([*self._sent, AIMessageChunk(content="", chunk_position="last")])


def merge(chunks: Sequence[BaseMessageChunk]) -> AIMessage:
    """Return the message that chunks add up to."""
    merged = chunks[0] + list(chunks[1:])
    return cast("AIMessage", message_chunk_to_message(merged))


class NscaleMessageChunk(AIMessageChunk):
    """A chunk whose merge never turns truncated arguments into an executable call.

    langchain-core parses merged arguments leniently, which is right while they arrive
    and wrong once the stream has ended: `{"path": "/` would become a call with
    `path="/"`. So when the last chunk is merged in, arguments are parsed strictly, as
    in a reply that is not streamed.
    """

    @classmethod
    def lc_id(cls) -> list[str]:
        """Serialize as the class that everyone can load."""
        return AIMessageChunk.lc_id()

    def __add__(self, other: Any) -> Any:
        """Merge; the merge of a whole stream is a plain `AIMessageChunk`."""
        merged = super().__add__(other)
        if not isinstance(merged, NscaleMessageChunk) or merged.chunk_position is None:
            return merged
        plain = AIMessageChunk(
            **{name: getattr(merged, name) for name in AIMessageChunk.model_fields}
        )
        plain.tool_calls, plain.invalid_tool_calls = parse_tool_calls(
            plain.tool_call_chunks
        )
        if isinstance(plain.content, list):  # output_version="v1"
            calls = {call["id"]: call for call in plain.invalid_tool_calls}
            calls |= {call["id"]: call for call in plain.tool_calls}  # type: ignore[misc]  # both are dicts
            plain.content = [_with_call(block, calls) for block in plain.content]
        return plain


def _with_call(block: Any, calls: Mapping[str | None, Any]) -> Any:
    """Return a content block with fragments of a tool call replaced by the call."""
    if isinstance(block, dict) and block.get("type") in ("tool_call", "tool_call_chunk"):
        return dict(calls.get(block["id"], block))
    return block


def _prototype(model: _M) -> _M:
    model.model_fields_set.update(type(model).model_fields)
    return model


_MESSAGE = _prototype(NscaleMessageChunk(content="", id=""))
_GENERATION = _prototype(ChatGenerationChunk(message=_MESSAGE))
# pydantic keeps an instance in exactly these documented attributes.
_set_fields = vars(BaseModel)["__dict__"].__set__
_set_names = vars(BaseModel)["__pydantic_fields_set__"].__set__
_set_extra = vars(BaseModel)["__pydantic_extra__"].__set__
_set_private = vars(BaseModel)["__pydantic_private__"].__set__


def _like(prototype: _M, fields: dict[str, Any], extra: dict[str, Any] | None) -> _M:
    """Do what `prototype.model_copy(update=fields)` does, at a fifth of the cost."""
    copy: _M = object.__new__(prototype.__class__)
    _set_fields(copy, fields)
    # Sharing the set is safe because it names every field, so it can't grow. Fewer
    # objects also mean fewer runs of the garbage collector.
    _set_names(copy, prototype.__pydantic_fields_set__)
    _set_extra(copy, extra)
    _set_private(copy, None)
    return copy


def make_chunk(
    message_id: str | None,
    text: str = "",
    additional_kwargs: dict[str, Any] | None = None,
    response_metadata: dict[str, Any] | None = None,
    tool_call_chunk: ToolCallChunk | None = None,
    content: list[dict[str, Any]] | None = None,
) -> ChatGenerationChunk:
    """Build a chunk in the middle of a stream. Values are not validated.

    A fragment of a tool call's arguments appears only in `tool_call_chunks`: parsed on
    its own, it would be noise in `tool_calls` and `invalid_tool_calls`.
    """
    fields = _MESSAGE.__dict__.copy()
    fields["id"] = message_id
    fields["content"] = text if content is None else content
    fields["additional_kwargs"] = additional_kwargs or {}
    fields["response_metadata"] = response_metadata or {}
    fields["tool_calls"] = []
    fields["invalid_tool_calls"] = []
    fields["tool_call_chunks"] = [] if tool_call_chunk is None else [tool_call_chunk]
    if tool_call_chunk is not None and (name := tool_call_chunk["name"]):
        call = tool_call(name=name, args={}, id=tool_call_chunk["id"])
        fields["tool_calls"].append(call)
    generation = _GENERATION.__dict__.copy()
    generation["message"] = _like(_MESSAGE, fields, {})
    generation["text"] = text
    return _like(_GENERATION, generation, None)
