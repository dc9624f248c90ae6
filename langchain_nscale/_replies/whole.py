"""Builds LangChain messages from the additions that a reply consists of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from langchain_nscale._replies.tool_calls import call_chunk, parse_tool_calls
from langchain_nscale._version import PROVIDER

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, ToolCallChunk
    from langchain_core.messages.ai import UsageMetadata

DeltaKind = Literal["text", "reasoning", "refusal", "tool_call", "logprobs"]

# Where a message keeps each kind of text.
EXTRA_KEYS = {"reasoning": "reasoning_content", "refusal": "refusal"}


class Delta(NamedTuple):
    """One addition to a reply."""

    kind: DeltaKind  # "logprobs" if there is nothing else
    text: str = ""  # of a text, reasoning or refusal
    tool_call: ToolCallChunk | None = None  # a fragment
    logprobs: dict[str, Any] | None = None


def build_message(
    deltas: Sequence[Delta],
    metadata: Mapping[str, Any] | None = None,
    usage: UsageMetadata | None = None,
    problems: Mapping[int | None, str] | None = None,
) -> AIMessage:
    """Build the message that deltas add up to.

    `metadata` has no log probabilities; `problems` are those of `Reply.problems`.
    """
    from langchain_nscale._replies.copies import new_message  # noqa: PLC0415  # slow

    texts: dict[str, list[str]] = {"text": [], "reasoning": [], "refusal": []}
    for delta in deltas:
        if delta.text:
            texts[delta.kind].append(delta.text)
    valid, invalid = parse_tool_calls(join_tool_calls(deltas).values(), problems)
    logprobs = join_logprobs(delta.logprobs for delta in deltas)
    return new_message(
        content="".join(texts["text"]),
        additional_kwargs={
            key: "".join(texts[kind]) for kind, key in EXTRA_KEYS.items() if texts[kind]
        },
        response_metadata={
            **(metadata or {"model_provider": PROVIDER}),
            **({"logprobs": logprobs} if logprobs else {}),
        },
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=usage,
    )


def join_tool_calls(deltas: Iterable[Delta]) -> dict[int | None, ToolCallChunk]:
    """Join the fragments of each tool call; return the calls by index."""
    fragments: dict[int | None, list[ToolCallChunk]] = {}
    for delta in deltas:
        if call := delta.tool_call:
            fragments.setdefault(call["index"], []).append(call)
    return {
        index: call_chunk(
            "".join(part["name"] or "" for part in parts) or None,
            "".join(part["args"] or "" for part in parts),
            parts[0]["id"],
            index,
        )
        for index, parts in fragments.items()
    }


def join_logprobs(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Join the log probabilities of successive deltas: lists are concatenated."""
    joined: dict[str, Any] = {}
    for part in parts:
        for key, value in (part or {}).items():
            old: Any = joined.get(key)
            is_sum = type(old) is type(value) and isinstance(value, (str, list))
            joined[key] = old + value if is_sum else value
    return joined


def generation_info(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Select the metadata that LangChain also keeps in `generation_info`."""
    return {
        key: metadata[key] for key in ("finish_reason", "logprobs") if key in metadata
    }
