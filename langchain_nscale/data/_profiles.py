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
_TOOLS = {"tool_calling": True, "tool_call_streaming": True, "structured_output": True}
_NO_TOOLS = {"tool_calling": False, "structured_output": False}
_ONE_SYSTEM_MESSAGE = {"mid_conversation_system_messages": False}


def _profile(
    name: str, context: int, *parts: dict[str, Any], reasons: bool = False, **more: Any
) -> dict[str, Any]:
    """Return a profile: the parts in their order, and what is special about the model."""
    profile = {key: value for part in parts for key, value in part.items()}
    own = {"name": name, "max_input_tokens": context, "reasoning_output": reasons}
    return {**profile, **own, **more}


_GPT_OSS = {
    **_TEXT,
    **_TOOLS,
    **_ONE_SYSTEM_MESSAGE,
    "reasoning_effort_levels": ["low", "medium", "high"],
    "reasoning_effort_default": "medium",
}
_R1_DISTILL = {**_TEXT, **_NO_TOOLS, **_ONE_SYSTEM_MESSAGE}
_PROFILES: dict[str, dict[str, Any]] = {
    "openai/gpt-oss-120b": _profile("gpt-oss 120B", 131072, _GPT_OSS, reasons=True),
    "openai/gpt-oss-20b": _profile("gpt-oss 20B", 131072, _GPT_OSS, reasons=True),
    "moonshotai/Kimi-K2.5": _profile(
        "Kimi K2.5",
        262144,
        _MODEL,
        _TOOLS,
        reasons=True,
        reasoning_effort_levels=["none"],
    ),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": _profile(
        "Nemotron 3 Nano 30B A3B", 256000, _TEXT, _TOOLS, reasons=True
    ),
    "meta-llama/Llama-3.1-8B-Instruct": _profile(
        "Llama 3.1 8B Instruct", 131072, _TEXT, _TOOLS
    ),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": _profile(
        "Llama 4 Scout 17B 16E Instruct",
        890000,
        _MODEL,
        _TOOLS,
        image_inputs=True,
        image_url_inputs=True,
        image_tool_message=True,
    ),
    "Qwen/Qwen3-235B-A22B": _profile("Qwen3 235B A22B", 32000, _TEXT, reasons=True),
    "Qwen/Qwen3-235B-A22B-Instruct-2507": _profile(
        "Qwen3 235B A22B Instruct 2507", 32768, _TEXT
    ),
    "Qwen/Qwen3-32B": _profile("Qwen3 32B", 40960, _TEXT, reasons=True),
    "Qwen/Qwen3-14B": _profile("Qwen3 14B", 40960, _TEXT, reasons=True),
    "Qwen/Qwen3-8B": _profile("Qwen3 8B", 40960, _TEXT, reasons=True),
    "Qwen/Qwen3-4B-Instruct-2507": _profile("Qwen3 4B Instruct 2507", 262144, _TEXT),
    "Qwen/Qwen3-4B-Thinking-2507": _profile(
        "Qwen3 4B Thinking 2507", 262144, _TEXT, reasons=True
    ),
    "Qwen/Qwen2.5-Coder-32B-Instruct": _profile(
        "Qwen2.5 Coder 32B Instruct", 131072, _TEXT
    ),
    "Qwen/Qwen2.5-Coder-7B-Instruct": _profile(
        "Qwen2.5 Coder 7B Instruct", 131072, _TEXT
    ),
    "Qwen/Qwen2.5-Coder-3B-Instruct": _profile("Qwen2.5 Coder 3B Instruct", 32768, _TEXT),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": _profile(
        "DeepSeek R1 Distill Llama 8B",
        131072,
        _R1_DISTILL,
        reasons=True,
        reasoning_effort_levels=["none"],
    ),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _profile(
        "DeepSeek R1 Distill Qwen 7B", 131072, _R1_DISTILL, reasons=True
    ),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": _profile(
        "DeepSeek R1 Distill Qwen 14B", 131072, _R1_DISTILL, reasons=True
    ),
    "mistralai/Devstral-Small-2505": _profile(
        "Devstral Small 2505", 128000, _TEXT, _ONE_SYSTEM_MESSAGE
    ),
    "mistralai/mixtral-8x22b-instruct-v0.1": _profile(
        "Mixtral 8x22B Instruct v0.1", 65536, _TEXT, _ONE_SYSTEM_MESSAGE
    ),
}
