"""Builds LangChain messages, tool calls and usage from what a reply contains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, ToolCallChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from langchain_nscale._provider import PROVIDER
from langchain_nscale._replies.tool_calls import parse_tool_calls


class Delta(NamedTuple):
    """One addition to a reply: exactly one kind of content, plus its logprobs."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_call: ToolCallChunk | None = None
    logprobs: dict[str, Any] | None = None


def build_message(
    deltas: Sequence[Delta],
    metadata: Mapping[str, Any] | None = None,
    usage: UsageMetadata | None = None,
    *,
    last_call_is_untrusted: bool = False,
) -> AIMessage:
    """Build the message that a complete sequence of deltas adds up to."""
    calls = list(join_tool_calls(deltas).values())
    untrusted = {len(calls) - 1} if last_call_is_untrusted else set()
    valid, invalid = parse_tool_calls(calls, untrusted)
    extra = {
        "reasoning_content": "".join(delta.reasoning for delta in deltas),
        "refusal": "".join(delta.refusal for delta in deltas),
    }
    logprobs = join_logprobs(delta.logprobs for delta in deltas)
    return AIMessage(
        content="".join(delta.text for delta in deltas),
        additional_kwargs={key: value for key, value in extra.items() if value},
        response_metadata={
            **(metadata or {"model_provider": PROVIDER}),
            **({"logprobs": logprobs} if logprobs else {}),
        },
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=usage,
    )


def join_tool_calls(deltas: Sequence[Delta]) -> dict[int | None, ToolCallChunk]:
    """Join the fragments of each tool call; return the calls by index."""
    fragments: dict[int | None, list[ToolCallChunk]] = {}
    for delta in deltas:
        if call := delta.tool_call:
            fragments.setdefault(call["index"], []).append(call)
    return {
        index: tool_call_chunk(
            name=next((part["name"] for part in parts if part["name"]), None),
            args="".join(part["args"] or "" for part in parts),
            id=parts[0]["id"],
            index=index,
        )
        for index, parts in fragments.items()
    }


def join_logprobs(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Join the log probabilities of successive deltas: lists are concatenated."""
    joined: dict[str, Any] = {}
    for part in parts:
        for key, value in (part or {}).items():
            joined[key] = extend(joined.get(key), value)
    return joined


def extend(old: Any, new: Any) -> Any:
    """Concatenate strings and lists; of anything else the newer value counts."""
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    return new


def generation_info(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Select the metadata that LangChain also keeps in `generation_info`."""
    return {
        key: metadata[key] for key in ("finish_reason", "logprobs") if key in metadata
    }
