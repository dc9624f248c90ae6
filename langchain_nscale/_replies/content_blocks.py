"""Content blocks in LangChain's v1 form for messages made by this package.

langchain-core uses the translator registered for a message's `model_provider`. Its
fallback would drop invalid tool calls.
"""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock

from langchain_nscale._version import PROVIDER


def content_blocks(message: AIMessage) -> list[ContentBlock]:
    """Return a complete message's reasoning, text, tool calls and invalid tool calls.

    A NotImplementedError tells langchain-core that this package did not make the message.
    """
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    return [*_text_blocks(message), *[cast("ContentBlock", dict(call)) for call in calls]]


def chunk_content_blocks(message: AIMessageChunk) -> list[ContentBlock]:
    """Return the blocks of a chunk, whose tool calls are fragments until the last one."""
    if message.chunk_position == "last" or not message.tool_call_chunks:
        return content_blocks(message)
    parts = [{**part, "type": "tool_call_chunk"} for part in message.tool_call_chunks]
    return [*_text_blocks(message), *cast("list[ContentBlock]", parts)]


def _text_blocks(message: AIMessage) -> list[ContentBlock]:
    if not isinstance(message.content, str):
        raise NotImplementedError
    blocks: list[dict[str, Any]] = []
    if reasoning := message.additional_kwargs.get("reasoning_content"):
        blocks.append({"type": "reasoning", "reasoning": reasoning})
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    if refusal := message.additional_kwargs.get("refusal"):
        blocks.append({"type": "refusal", "refusal": refusal})
    return cast("list[ContentBlock]", blocks)


register_translator(PROVIDER, content_blocks, chunk_content_blocks)
