"""Conversations that other providers' models began, in the forms they leave behind.

The messages are as the integrations of those providers return them; what is sent to
Nscale is held by a snapshot.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from syrupy.assertion import SnapshotAssertion

from tests.unit.service import chat

PNG = "iVBORw0KGgo="
CALL: Any = {"name": "get_weather", "args": {"city": "Oslo"}, "id": "call_1"}

ANTHROPIC: list[BaseMessage] = [
    SystemMessage(
        [
            {
                "type": "text",
                "text": "Be brief.",
                "cache_control": {"type": "ephemeral"},
            }
        ]
    ),
    HumanMessage(
        [
            {"type": "text", "text": "What is this?"},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
            },
        ]
    ),
    AIMessage(
        [
            {"type": "thinking", "thinking": "A map.", "signature": "EqQBCgIYAg=="},
            {"type": "text", "text": "Let me look."},
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "get_weather",
                "input": {"city": "Oslo"},
            },
        ],
        tool_calls=[{**CALL, "id": "toolu_1"}],
        response_metadata={"model_provider": "anthropic", "stop_reason": "tool_use"},
    ),
    HumanMessage(
        [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": [{"type": "text", "text": "Sunny"}],
            }
        ]
    ),
    AIMessage(
        [
            {
                "type": "text",
                "text": "Oslo, sunny.",
                "citations": [{"cited_text": "Sunny"}],
            }
        ],
        response_metadata={"model_provider": "anthropic"},
    ),
    HumanMessage("Thanks"),
]
OPENAI_RESPONSES: list[BaseMessage] = [
    HumanMessage(
        [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": "https://example.org/a.png"},
        ]
    ),
    AIMessage(
        [
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "A map."}],
                "encrypted_content": "gAAAA",
            },
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "text", "text": "Let me look.", "annotations": []},
            {
                "type": "function_call",
                "name": "get_weather",
                "arguments": '{"city": "Oslo"}',
                "call_id": "call_1",
                "id": "fc_1",
            },
        ],
        tool_calls=[CALL],
        response_metadata={"model_provider": "openai", "id": "resp_1"},
    ),
    ToolMessage("Sunny", tool_call_id="call_1"),
    AIMessage(
        [{"type": "output_text", "text": "Oslo, sunny."}],
        response_metadata={"model_provider": "openai"},
    ),
    HumanMessage("Thanks"),
]
GEMINI: list[BaseMessage] = [
    SystemMessage("Be brief."),
    HumanMessage(
        [
            "What is this?",
            {"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"},
        ]
    ),
    AIMessage(
        [
            {"type": "thinking", "thinking": "A map."},
            {"type": "text", "text": "Let me look.", "extras": {"signature": "Cg=="}},
        ],
        tool_calls=[CALL],
        additional_kwargs={
            "function_call": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
            "__gemini_function_call_thought_signatures__": {"call_1": "Cg=="},
        },
        response_metadata={"model_provider": "google_genai", "finish_reason": "STOP"},
    ),
    ToolMessage("Sunny", tool_call_id="call_1", name="get_weather"),
    AIMessage("Oslo, sunny.", response_metadata={"model_provider": "google_genai"}),
    HumanMessage("Thanks"),
]
BEDROCK: list[BaseMessage] = [
    SystemMessage([{"text": "Be brief.", "type": "text"}]),
    HumanMessage("Weather in Oslo?"),
    AIMessage(
        [
            {
                "type": "reasoning_content",
                "reasoning_content": {"text": "Call it.", "signature": "x"},
            },
            {"type": "text", "text": "Let me look."},
            {
                "type": "tool_use",
                "id": "tooluse_1",
                "name": "get_weather",
                "input": {"city": "Oslo"},
            },
        ],
        tool_calls=[{**CALL, "id": "tooluse_1"}],
        response_metadata={"model_provider": "bedrock_converse"},
    ),
    ToolMessage([{"type": "text", "text": "Sunny"}], tool_call_id="tooluse_1"),
    AIMessage("Oslo, sunny.", response_metadata={"model_provider": "bedrock_converse"}),
    HumanMessage("Thanks"),
]
DEEPSEEK: list[BaseMessage] = [
    HumanMessage("Weather in Oslo?"),
    AIMessage(
        "",
        tool_calls=[CALL],
        invalid_tool_calls=[
            {
                "name": "get_weather",
                "args": '{"city": ',
                "id": "call_2",
                "error": "cut off",
                "type": "invalid_tool_call",
            }
        ],
        additional_kwargs={
            "reasoning_content": "Call it.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
                }
            ],
        },
        response_metadata={"model_provider": "deepseek"},
    ),
    ToolMessage("Sunny", tool_call_id="call_1"),
    ToolMessage("The arguments were cut off.", tool_call_id="call_2", status="error"),
    AIMessage(
        "Oslo, sunny.",
        additional_kwargs={"reasoning_content": "Say it."},
        response_metadata={"model_provider": "deepseek"},
    ),
    HumanMessage("Thanks"),
]
V1: list[BaseMessage] = [
    HumanMessage(
        content_blocks=[
            {"type": "text", "text": "What is this?"},
            {"type": "image", "base64": PNG, "mime_type": "image/png"},
        ]
    ),
    AIMessage(
        content_blocks=[
            {"type": "reasoning", "reasoning": "A map."},
            {"type": "text", "text": "Let me look."},
            cast("ToolCall", {**CALL, "type": "tool_call"}),  # type: ignore[list-item]  # core has two such types
        ],
        response_metadata={"output_version": "v1", "model_provider": "any"},
    ),
    ToolMessage(
        content_blocks=[{"type": "text", "text": "Sunny"}], tool_call_id="call_1"
    ),
    AIMessage("Oslo, sunny."),
    HumanMessage("Thanks"),
]
CONVERSATIONS = {
    "anthropic": ANTHROPIC,
    "openai-responses": OPENAI_RESPONSES,
    "gemini": GEMINI,
    "bedrock": BEDROCK,
    "deepseek": DEEPSEEK,
    "v1": V1,
}


@pytest.mark.parametrize("provider", CONVERSATIONS)
@pytest.mark.parametrize("reasoning", ["never", "always"])
def test_a_conversation_moves_to_nscale(
    provider: str, reasoning: Any, snapshot: SnapshotAssertion
) -> None:
    model = chat(reasoning_history=reasoning)
    sent = model.request_body(CONVERSATIONS[provider])["messages"]
    assert sent == snapshot
    # Whatever the form: every call has its result, and no text is lost.
    called = [call["id"] for m in sent for call in m.get("tool_calls", [])]
    assert called == [m["tool_call_id"] for m in sent if m["role"] == "tool"]
    assert "Oslo, sunny." in str(sent[-2]["content"])
    assert sent[-1] == {"role": "user", "content": "Thanks"}
    assert any("A map." in str(m) or "Call it." in str(m) for m in sent) == (
        reasoning == "always"
    )
