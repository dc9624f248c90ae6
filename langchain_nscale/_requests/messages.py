"""Converts LangChain messages to the `messages` of a chat request."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic_core import to_json

ReasoningHistory = Literal["never", "tool_turns", "always"]

# The types under which providers send text. Of such a block only the text is sent.
_TEXT_TYPES = {"text", "input_text", "output_text", "text-plain"}
_REASONING_TYPES = {"reasoning", "thinking", "redacted_thinking", "reasoning_content"}
_CALL_TYPES = {"tool_call", "tool_call_chunk", "tool_use", "function_call"}
# Provider-specific blocks that are dropped, because the next model can neither use nor
# parse them: calls that a provider executed itself (their results are in the text), and
# truncated calls.
_DROPPED_TYPES = {
    "code_execution_tool_result",
    "code_interpreter_call",
    "computer_call",
    "file_search_call",
    "image_generation_call",
    "input_json_delta",
    "invalid_tool_call",
    "mcp_call",
    "mcp_list_tools",
    "server_tool_call",
    "server_tool_call_chunk",
    "server_tool_result",
    "server_tool_use",
    "web_search_call",
    "web_search_result",
    "web_search_tool_result",
}
# Parts that are already in the API's form.
_WIRE_TYPES = {"audio_url", "input_audio", "video_url"}
_IMAGE_KEYS = ("image", "image_url", "inline_data")


def convert_messages(
    messages: Sequence[BaseMessage],
    *,
    reasoning_history: ReasoningHistory = "never",
    tool_images: bool = False,
) -> list[dict[str, Any]]:
    """Convert LangChain messages to the `messages` of a request.

    Args:
        messages: Any LangChain messages, including those written by other providers'
            models.
        reasoning_history: Which assistant turns are sent with their reasoning.
        tool_images: Whether the model accepts images in tool messages. If not, they
            follow the tool messages in a user message.

    Raises:
        ValueError: There are no messages, or one has a block that can't be sent; the
            error names the block and the message's position.
    """
    if not messages:
        msg = "The list of messages is empty: pass at least one."
        raise ValueError(msg)
    converted: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []  # from the preceding tool messages
    for position, message in enumerate(messages):
        if images and not isinstance(message, ToolMessage):
            converted.append({"role": "user", "content": images})
            images = []
        where = f"messages[{position}] ({type(message).__name__})"
        if isinstance(message, AIMessage):
            converted.append(_assistant(message, where, reasoning_history))
        elif isinstance(message, ToolMessage):
            tool, extra = _tool(message, where, tool_images=tool_images)
            converted.append(tool)
            images += extra
        else:
            converted += _other(message, where)
    if images:
        converted.append({"role": "user", "content": images})
    return converted


def merge_system_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge all system messages into one, at the beginning.

    Some models' chat templates accept nothing else (Qwen3, Mistral).
    """
    system = [message for message in messages if message["role"] == "system"]
    if not system or (len(system) == 1 and messages[0] is system[0]):
        return messages
    contents = [message["content"] for message in system]
    if all(isinstance(content, str) for content in contents):
        merged: Any = "\n\n".join(contents)
    else:
        merged = [
            block
            for content in contents
            for block in (
                [{"type": "text", "text": content}]
                if isinstance(content, str)
                else content
            )
        ]
    rest = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": merged}, *rest]


def _other(message: BaseMessage, where: str) -> list[dict[str, Any]]:
    """Convert a message of the user, the system or any other role.

    Anthropic's tool results, which are part of a user message, become tool messages.
    """
    role = _role(message, where)
    content: Any = message.content
    converted: list[dict[str, Any]] = []
    if isinstance(content, list):
        for number, block in enumerate(content):
            if isinstance(block, dict) and block.get("type") == "tool_result":
                result = _content(block.get("content") or "", f"{where}, block {number}")
                call_id = block.get("tool_use_id")
                entry = {"role": "tool", "tool_call_id": call_id, "content": result}
                converted.append(entry)
        if converted and len(converted) == len(content):
            return converted
    entry = {"role": role, "content": _content(content, where)}
    name = message.name or message.additional_kwargs.get("name")
    return [*converted, {**entry, "name": name} if name else entry]


def _role(message: BaseMessage, where: str) -> str:
    if isinstance(message, SystemMessage):
        return "system"  # also for "developer", which open models' templates don't know
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, ChatMessage):
        return "system" if message.role == "developer" else message.role
    msg = (
        f"{where} can't be sent: use SystemMessage, HumanMessage, AIMessage, "
        "ToolMessage or ChatMessage."
    )
    raise ValueError(msg)


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    """Convert content: text becomes a string, which every template accepts."""
    if isinstance(content, str):
        return content
    parts = [
        _part(block, f"{where}, block {number}")
        for number, block in enumerate(content)
        if not (isinstance(block, dict) and block.get("type") == "tool_result")
    ]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(block: Any, where: str) -> dict[str, Any]:
    """Convert a content block to the API's form."""
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = block.get("type")
    if kind == "non_standard" and isinstance(block.get("value"), dict):
        return _part(block["value"], where)
    if kind in _TEXT_TYPES or (kind is None and isinstance(block.get("text"), str)):
        return {"type": "text", "text": block.get("text") or ""}
    if kind in _WIRE_TYPES:
        return dict(block)
    if kind in {"image", "image_url", "input_image", "media"} or (
        kind is None and any(key in block for key in _IMAGE_KEYS)
    ):
        if url := _image_url(block):
            detail = block.get("detail")
            inner = block.get("image_url")
            if isinstance(inner, dict):
                detail = inner.get("detail", detail)
            image = {"url": url, "detail": detail} if detail else {"url": url}
            return {"type": "image_url", "image_url": image}
        msg = (
            f"{where}: this image can't be sent. Use an http(s) or data URL, or base64 "
            "data with a `mime_type` such as image/png. Keys: "
            f"{', '.join(sorted(map(str, block)))}."
        )
        raise ValueError(msg)
    msg = (
        f"{where}: a block of type {kind!r} can't be sent: Nscale's chat models accept "
        "text and images."
    )
    raise ValueError(msg)


def _image_url(block: Mapping[str, Any]) -> str | None:
    """Return the URL of an image block in any provider's form, or `None`."""
    wire = block.get("image_url")
    if wire is not None:
        url = wire.get("url") if isinstance(wire, Mapping) else wire
        return url if _is_image_url(url) else None
    # "source" is Anthropic's key, "image" Bedrock's, "inline_data" Gemini's.
    for key in ("source", "image", "inline_data"):
        inner = block.get(key)
        if isinstance(inner, Mapping):
            return _image_url({"format": block.get("format"), **inner})
    if "url" in block:
        return block["url"] if _is_image_url(block["url"]) else None
    data = block.get("base64") or block.get("data") or block.get("bytes")
    mime = block.get("mime_type") or block.get("media_type")
    if mime is None and isinstance(block.get("format"), str):
        mime = f"image/{block['format']}"
    if not data or not isinstance(mime, str) or not mime.startswith("image/"):
        return None
    if isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    return f"data:{mime};base64,{data}" if isinstance(data, str) else None


def _is_image_url(url: object) -> bool:
    if not isinstance(url, str):
        return False
    if url.startswith("data:"):
        return url.startswith("data:image/") and ";base64," in url[:100]
    return url.startswith(("http://", "https://"))


def _assistant(
    message: AIMessage, where: str, reasoning_history: ReasoningHistory
) -> dict[str, Any]:
    text, reasoning, block_calls = _assistant_content(message.content, where)
    calls = [_call(call, _arguments(call["args"])) for call in message.tool_calls]
    for bad in message.invalid_tool_calls:
        # Servers fail on invalid JSON in the history, so its text is sent as a value.
        raw = _arguments({"invalid_json": bad.get("args")})
        calls.append(_call(bad, raw))
    known = {call["id"] for call in calls}
    calls += [call for call in block_calls if call["id"] not in known]
    entry: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        # Templates treat "" next to calls differently; the API itself returns null.
        entry["content"] = text or None
        entry["tool_calls"] = calls
    reasoning = message.additional_kwargs.get("reasoning_content") or reasoning
    is_sent = reasoning_history == "always" or (
        reasoning_history == "tool_turns" and calls
    )
    if reasoning and is_sent:
        entry["reasoning_content"] = reasoning
    if message.name:
        entry["name"] = message.name
    return entry


def _assistant_content(
    content: str | list[str | dict[Any, Any]], where: str
) -> tuple[str, str, list[dict[str, Any]]]:
    """Extract text, reasoning and tool calls from an assistant's content."""
    if isinstance(content, str):
        return content, "", []
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for number, item in enumerate(content):
        block: Any = item
        if isinstance(block, dict) and block.get("type") == "non_standard":
            block = block.get("value") or {}
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in _REASONING_TYPES:
            thoughts.append(_reasoning_text(block))
        elif kind in _CALL_TYPES:
            args = block.get("args", block.get("input", block.get("arguments")))
            call = {**block, "id": block.get("call_id") or block.get("id")}
            calls.append(_call(call, _arguments(args)))
        elif kind == "refusal":
            texts.append(block.get("refusal") or "")
        elif kind not in _DROPPED_TYPES:
            part = _part(block, f"{where}, block {number}")
            if part["type"] != "text":
                msg = (
                    f"{where}, block {number}: a block of type {kind!r} can't be sent in "
                    "an assistant message; put it in a human message."
                )
                raise ValueError(msg)
            texts.append(part["text"])
    return "".join(texts), "".join(thoughts), calls


def _reasoning_text(block: Mapping[str, Any]) -> str:
    for key in ("reasoning", "thinking", "text", "reasoning_content"):
        value = block.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping):  # Bedrock: {"reasoning_content": {"text": ...}}
            return _reasoning_text(value)
    summary = block.get("summary")  # OpenAI Responses: [{"text": ...}]
    if isinstance(summary, list):
        return "\n".join(str(item.get("text") or "") for item in summary)
    return ""


def _arguments(args: object) -> str:
    if isinstance(args, str):
        return args or "{}"
    return to_json(args or {}).decode()


def _call(call: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {"name": call.get("name") or "", "arguments": arguments},
    }


def _tool(
    message: ToolMessage, where: str, *, tool_images: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Convert a tool message; also return the images to send in a user message."""
    content = _content(message.content, where)
    entry = {"role": "tool", "tool_call_id": message.tool_call_id, "content": content}
    if isinstance(content, str) or tool_images:
        return entry, []
    images = [part for part in content if part["type"] != "text"]
    texts = [part["text"] for part in content if part["type"] == "text"]
    label = f"Images returned by tool call {message.tool_call_id}:"
    texts.append("[The images follow in the next user message.]")
    return (
        {**entry, "content": "\n".join(texts)},
        [{"type": "text", "text": label}, *images],
    )
