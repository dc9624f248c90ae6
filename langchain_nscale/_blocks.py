"""Content blocks in LangChain's v1 form, of messages made by this package. Pure.

langchain-core asks whoever is registered for a message's `model_provider`. Its own
best-effort reading would leave out tool calls that can't be executed.
"""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock

from langchain_nscale._chunks import PROVIDER


def content_blocks(message: AIMessage) -> list[ContentBlock]:
    """Reasoning, text, tool calls and invalid tool calls of a whole message.

    Raises:
        NotImplementedError: The content isn't a string, so it isn't from this package.
    """
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    return [*_said(message), *[cast("ContentBlock", dict(call)) for call in calls]]


def chunk_content_blocks(message: AIMessageChunk) -> list[ContentBlock]:
    """Likewise of a chunk, whose tool calls are still in parts unless it is the last.

    Raises:
        NotImplementedError: As for `content_blocks`.
    """
    if message.chunk_position == "last" or not message.tool_call_chunks:
        return content_blocks(message)
    parts = [{**part, "type": "tool_call_chunk"} for part in message.tool_call_chunks]
    return [*_said(message), *cast("list[ContentBlock]", parts)]


def _said(message: AIMessage) -> list[ContentBlock]:
    if not isinstance(message.content, str):
        raise NotImplementedError
    blocks: list[dict[str, Any]] = []
    if reasoning := message.additional_kwargs.get("reasoning_content"):
        blocks.append({"type": "reasoning", "reasoning": reasoning})
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    return cast("list[ContentBlock]", blocks)


register_translator(PROVIDER, content_blocks, chunk_content_blocks)
