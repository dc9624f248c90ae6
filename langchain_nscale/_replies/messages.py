"""Builds LangChain messages, tool calls and usage from what a reply contains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall, ToolCallChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk

from langchain_nscale._provider import PROVIDER


class Delta(NamedTuple):
    """One addition to a reply: exactly one kind of content, plus its logprobs."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_call: ToolCallChunk | None = None
    logprobs: dict[str, Any] | None = None


def build_message(
    message_id: str | None,
    deltas: Sequence[Delta],
    metadata: Mapping[str, Any] | None = None,
    usage: UsageMetadata | None = None,
) -> AIMessage:
    """Build the message that a complete sequence of deltas adds up to."""
    valid, invalid = parse_tool_calls(list(join_tool_calls(deltas).values()))
    extra = {
        "reasoning_content": "".join(delta.reasoning for delta in deltas),
        "refusal": "".join(delta.refusal for delta in deltas),
    }
    logprobs = join_logprobs(delta.logprobs for delta in deltas)
    return AIMessage(
        content="".join(delta.text for delta in deltas),
        id=message_id,
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


def parse_tool_calls(
    calls: list[ToolCallChunk],
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Separate calls that can be executed from those that can't.

    Args:
        calls: Calls with complete `args`. An empty string or `null` means no arguments;
            anything else must be a JSON object.
    """
    valid = []
    invalid = []
    for call in calls:
        raw = call["args"] or ""
        problem = None
        args: Any = {}
        try:
            # Models write raw newlines into strings; strict=False accepts them.
            args = (json.loads(raw, strict=False) if raw.strip() else {}) or {}
        except (ValueError, RecursionError) as error:
            problem = f"The arguments are not valid JSON: {error}"
        if problem is None and not isinstance(args, dict):
            problem = "The arguments are not a JSON object."
        if problem is None:
            valid.append(tool_call(name=call["name"] or "", args=args, id=call["id"]))
        else:
            invalid.append(
                invalid_tool_call(
                    name=call["name"], args=raw, id=call["id"], error=problem
                )
            )
    return valid, invalid


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
