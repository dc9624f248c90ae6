"""Message chunks, built fast.

Validating a message chunk and its wrapper costs more than all else that we do for a
token, and checks values that we have made ourselves. So one of each is validated at
import, and every further one is a copy of it with other values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from langchain_core.messages import (
    AIMessageChunk,
    InvalidToolCall,
    ToolCall,
    ToolCallChunk,
)
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

PROVIDER = "nscale"

_M = TypeVar("_M", bound=BaseModel)


class NscaleMessageChunk(AIMessageChunk):
    """A chunk whose merge never turns cut-off arguments into a call to execute.

    langchain-core parses merged arguments leniently, which is right while they arrive
    and wrong once no more will come: `{"path": "/` would become a call with
    `path="/"`. So when the last chunk is merged in, arguments are read strictly, as
    for a reply that isn't streamed.
    """

    @classmethod
    def lc_id(cls) -> list[str]:
        """Serialise as the class that everybody can load."""
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
    """A content block as it is in a whole message: calls in place of their parts."""
    if isinstance(block, dict) and block.get("type") in ("tool_call", "tool_call_chunk"):
        return dict(calls.get(block["id"], block))
    return block


def parse_tool_calls(
    calls: list[ToolCallChunk],
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Sort calls into those that can be executed and those that can't.

    Args:
        calls: Calls whose `args` are whole strings. An empty string or `null` means no
            arguments; anything else has to be a JSON object.
    """
    valid = []
    invalid = []
    for call in calls:
        raw = call["args"] or ""
        problem = None
        args: Any = {}
        try:
            # Models write raw newlines into strings; strict=False takes them.
            args = (json.loads(raw, strict=False) if raw.strip() else {}) or {}
        except (ValueError, RecursionError) as error:
            problem = f"The arguments aren't valid JSON: {error}"
        if problem is None and not isinstance(args, dict):
            problem = "The arguments aren't a JSON object."
        if problem is None:
            valid.append(tool_call(name=call["name"] or "", args=args, id=call["id"]))
        else:
            invalid.append(
                invalid_tool_call(
                    name=call["name"], args=raw, id=call["id"], error=problem
                )
            )
    return valid, invalid


def _prototype(model: _M) -> _M:
    model.model_fields_set.update(type(model).model_fields)
    return model


_MESSAGE = _prototype(NscaleMessageChunk(content="", id=""))
_GENERATION = _prototype(ChatGenerationChunk(message=_MESSAGE))
# Where pydantic keeps an instance: all of it is in these documented attributes.
_set_fields = vars(BaseModel)["__dict__"].__set__
_set_names = vars(BaseModel)["__pydantic_fields_set__"].__set__
_set_extra = vars(BaseModel)["__pydantic_extra__"].__set__
_set_private = vars(BaseModel)["__pydantic_private__"].__set__


def _like(prototype: _M, fields: dict[str, Any], extra: dict[str, Any] | None) -> _M:
    """`prototype.model_copy(update=...)` with all fields, at a fifth of its price."""
    copy: _M = object.__new__(prototype.__class__)
    _set_fields(copy, fields)
    # Shared, which is safe as it names every field: all of them have been set. The fewer
    # objects there are, the less often the garbage collector walks through all.
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
    """A chunk in the middle of a stream. The caller vouches for the values' types.

    A fragment of a tool call's arguments is only in `tool_call_chunks`: what could be
    parsed from it alone would be noise in `tool_calls` and `invalid_tool_calls`.
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
