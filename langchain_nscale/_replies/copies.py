"""Creates objects of langchain-core fast, as copies of validated ones.

Validating each message, chunk and generation would cost more than everything else done
for it, only to check values that the package built itself. So one of each is validated,
and all others are copies of it with different values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk, ToolCallChunk
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import BaseModel

from langchain_nscale._replies.edges import EdgeChunk

M = TypeVar("M", bound=BaseModel)

# pydantic keeps an instance in exactly these documented attributes. If it ever keeps it
# elsewhere, objects are copied in its own way.
_SLOTS = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)


def _copier(
    prototype: M, names: Iterable[str] | None = None
) -> Callable[[dict[str, Any]], M]:
    """Return a function that creates objects like a prototype from all their fields.

    `names` are the fields that count as set, all by default.
    """
    known = prototype.model_fields_set
    known.update(names or type(prototype).model_fields)
    if set(BaseModel.__slots__) != set(_SLOTS):

        def copied(fields: dict[str, Any]) -> M:
            return prototype.model_copy(update=fields)

        return copied

    cls, extra = type(prototype), prototype.__pydantic_extra__
    # Sharing the set is safe if it names every field, so that it can't grow. Fewer
    # objects also mean fewer runs of the garbage collector.
    is_shared = names is None
    new: Callable[[type[M]], M] = object.__new__
    set_fields, set_names, set_extra, set_private = (
        vars(BaseModel)[slot].__set__ for slot in _SLOTS
    )

    def made(fields: dict[str, Any]) -> M:
        """Do what `model_copy` does, at a fifth of the cost."""
        copy = new(cls)
        set_fields(copy, fields)
        set_names(copy, known if is_shared else known.copy())
        set_extra(copy, None if extra is None else {})
        set_private(copy, None)
        return copy

    return made


_MESSAGE = AIMessage(content="")
_GENERATION = ChatGeneration(message=_MESSAGE)
_CHUNK = AIMessageChunk(content="")
_GENERATION_CHUNK = ChatGenerationChunk(message=_CHUNK)
_new_message = _copier(
    _MESSAGE,
    {"content", "additional_kwargs", "response_metadata", "usage_metadata"}
    | {"tool_calls", "invalid_tool_calls"},
)
_new_generation = _copier(_GENERATION)
_RESULT = ChatResult(generations=[])
_new_result = _copier(_RESULT)
_new_chunk = _copier(_CHUNK)
_new_edge_chunk = _copier(EdgeChunk(content=""))
_new_generation_chunk = _copier(_GENERATION_CHUNK)


def new_message(**fields: Any) -> AIMessage:
    """Return a message; values are not validated. The dicts and lists must be set."""
    return _new_message({**vars(_MESSAGE), **fields})


def new_generation(message: AIMessage, info: dict[str, Any]) -> ChatGeneration:
    fields = vars(_GENERATION).copy()
    fields["message"] = message
    fields["text"] = message.content
    fields["generation_info"] = info
    return _new_generation(fields)


def new_result(generations: list[ChatGeneration], output: dict[str, Any]) -> ChatResult:
    fields = vars(_RESULT).copy()
    fields["generations"] = generations
    fields["llm_output"] = output
    return _new_result(fields)


def new_chunk(
    text: str = "",
    additional_kwargs: dict[str, Any] | None = None,
    response_metadata: dict[str, Any] | None = None,
    call_chunk: ToolCallChunk | None = None,
    content: list[dict[str, Any]] | None = None,
    *,
    is_first: bool = False,
) -> ChatGenerationChunk:
    """Return a chunk before the last of a stream; values are not validated."""
    # A fragment of a tool call's arguments appears only in `tool_call_chunks`: parsed on
    # its own, it would be noise in `tool_calls` and `invalid_tool_calls`.
    fields = vars(_CHUNK).copy()
    fields["content"] = text if content is None else content
    fields["additional_kwargs"] = additional_kwargs or {}
    fields["response_metadata"] = response_metadata or {}
    fields["tool_calls"] = []
    fields["invalid_tool_calls"] = []
    fields["tool_call_chunks"] = [] if call_chunk is None else [call_chunk]
    if call_chunk is not None and (name := call_chunk["name"]):
        call = tool_call(name=name, args={}, id=call_chunk["id"])
        fields["tool_calls"].append(call)
    generation = vars(_GENERATION_CHUNK).copy()
    generation["message"] = (_new_edge_chunk if is_first else _new_chunk)(fields)
    generation["text"] = text
    return _new_generation_chunk(generation)


def new_last_chunk(
    info: dict[str, Any], *, is_edge: bool, **fields: Any
) -> ChatGenerationChunk:
    """Return the last chunk, without text; the dicts and lists must be set."""
    message = {**vars(_CHUNK), **fields, "chunk_position": "last"}
    generation = vars(_GENERATION_CHUNK).copy()
    generation["message"] = (_new_edge_chunk if is_edge else _new_chunk)(message)
    generation["generation_info"] = info
    return _new_generation_chunk(generation)
