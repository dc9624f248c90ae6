"""Capabilities of the chat models on Nscale, by exact ID.

The form is that of LangChain's other integrations. Context windows come from Nscale's
model list (`GET /v1/models`, 2026-09-14); tools, structured output and reasoning from the
profiles that Nscale wrote for pydantic-ai (June to July 2026) and from the models' public
cards. If public sources contradict each other on a field, it is omitted; pass `profile=`
to override. `image_tool_message` is true where images are read, since images of tools
are sent in a user message; `mid_conversation_system_messages` follows from the rules of
the chat templates. No source documents output limits. `tool_choice` is false throughout,
because Nscale only documents auto and none.
"""

from __future__ import annotations

from typing import Any

# What all of them have in common.
_MODEL: dict[str, Any] = {
    "open_weights": True,
    "text_inputs": True,
    "pdf_inputs": False,
    "audio_inputs": False,
    "video_inputs": False,
    "text_outputs": True,
    "image_outputs": False,
    "audio_outputs": False,
    "video_outputs": False,
    "tool_choice": False,
    "mid_conversation_system_messages": True,
    "temperature": True,
}
_TEXT = {
    **_MODEL,
    "image_inputs": False,
    "image_url_inputs": False,
    "image_tool_message": False,
}
_TEXT_WITH_TOOLS = {
    **_TEXT,
    "tool_calling": True,
    "tool_call_streaming": True,
    "structured_output": True,
}

_PROFILES: dict[str, dict[str, Any]] = {
    "openai/gpt-oss-120b": {
        **_TEXT_WITH_TOOLS,
        "name": "gpt-oss 120B",
        "max_input_tokens": 131072,
        "reasoning_output": True,
        "reasoning_effort_levels": ["low", "medium", "high"],
        "reasoning_effort_default": "medium",
        "mid_conversation_system_messages": False,
    },
    "openai/gpt-oss-20b": {
        **_TEXT_WITH_TOOLS,
        "name": "gpt-oss 20B",
        "max_input_tokens": 131072,
        "reasoning_output": True,
        "reasoning_effort_levels": ["low", "medium", "high"],
        "reasoning_effort_default": "medium",
        "mid_conversation_system_messages": False,
    },
    "moonshotai/Kimi-K2.5": {
        **_MODEL,
        "name": "Kimi K2.5",
        "max_input_tokens": 262144,
        "reasoning_output": True,
        "reasoning_effort_levels": ["none"],
        "tool_calling": True,
        "tool_call_streaming": True,
        "structured_output": True,
    },
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": {
        **_TEXT_WITH_TOOLS,
        "name": "Nemotron 3 Nano 30B A3B",
        "max_input_tokens": 256000,
        "reasoning_output": True,
    },
    "meta-llama/Llama-3.1-8B-Instruct": {
        **_TEXT_WITH_TOOLS,
        "name": "Llama 3.1 8B Instruct",
        "max_input_tokens": 131072,
        "reasoning_output": False,
    },
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": {
        **_MODEL,
        "name": "Llama 4 Scout 17B 16E Instruct",
        "max_input_tokens": 890000,
        "image_inputs": True,
        "image_url_inputs": True,
        "image_tool_message": True,
        "reasoning_output": False,
        "tool_calling": True,
        "tool_call_streaming": True,
        "structured_output": True,
    },
    "Qwen/Qwen3-235B-A22B": {
        **_TEXT,
        "name": "Qwen3 235B A22B",
        "max_input_tokens": 32000,
        "reasoning_output": True,
    },
    "Qwen/Qwen3-235B-A22B-Instruct-2507": {
        **_TEXT,
        "name": "Qwen3 235B A22B Instruct 2507",
        "max_input_tokens": 32768,
        "reasoning_output": False,
    },
    "Qwen/Qwen3-32B": {
        **_TEXT,
        "name": "Qwen3 32B",
        "max_input_tokens": 40960,
        "reasoning_output": True,
    },
    "Qwen/Qwen3-14B": {
        **_TEXT,
        "name": "Qwen3 14B",
        "max_input_tokens": 40960,
        "reasoning_output": True,
    },
    "Qwen/Qwen3-8B": {
        **_TEXT,
        "name": "Qwen3 8B",
        "max_input_tokens": 40960,
        "reasoning_output": True,
    },
    "Qwen/Qwen3-4B-Instruct-2507": {
        **_TEXT,
        "name": "Qwen3 4B Instruct 2507",
        "max_input_tokens": 262144,
        "reasoning_output": False,
    },
    "Qwen/Qwen3-4B-Thinking-2507": {
        **_TEXT,
        "name": "Qwen3 4B Thinking 2507",
        "max_input_tokens": 262144,
        "reasoning_output": True,
    },
    "Qwen/Qwen2.5-Coder-32B-Instruct": {
        **_TEXT,
        "name": "Qwen2.5 Coder 32B Instruct",
        "max_input_tokens": 131072,
        "reasoning_output": False,
    },
    "Qwen/Qwen2.5-Coder-7B-Instruct": {
        **_TEXT,
        "name": "Qwen2.5 Coder 7B Instruct",
        "max_input_tokens": 131072,
        "reasoning_output": False,
    },
    "Qwen/Qwen2.5-Coder-3B-Instruct": {
        **_TEXT,
        "name": "Qwen2.5 Coder 3B Instruct",
        "max_input_tokens": 32768,
        "reasoning_output": False,
    },
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": {
        **_TEXT,
        "name": "DeepSeek R1 Distill Llama 8B",
        "max_input_tokens": 131072,
        "reasoning_output": True,
        "reasoning_effort_levels": ["none"],
        "tool_calling": False,
        "structured_output": False,
        "mid_conversation_system_messages": False,
    },
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": {
        **_TEXT,
        "name": "DeepSeek R1 Distill Qwen 7B",
        "max_input_tokens": 131072,
        "reasoning_output": True,
        "tool_calling": False,
        "structured_output": False,
        "mid_conversation_system_messages": False,
    },
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": {
        **_TEXT,
        "name": "DeepSeek R1 Distill Qwen 14B",
        "max_input_tokens": 131072,
        "reasoning_output": True,
        "tool_calling": False,
        "structured_output": False,
        "mid_conversation_system_messages": False,
    },
    "mistralai/Devstral-Small-2505": {
        **_TEXT,
        "name": "Devstral Small 2505",
        "max_input_tokens": 128000,
        "reasoning_output": False,
        "mid_conversation_system_messages": False,
    },
    "mistralai/mixtral-8x22b-instruct-v0.1": {
        **_TEXT,
        "name": "Mixtral 8x22B Instruct v0.1",
        "max_input_tokens": 65536,
        "reasoning_output": False,
        "mid_conversation_system_messages": False,
    },
}
