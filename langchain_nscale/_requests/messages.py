"""Converts LangChain messages to the `messages` of a chat request.

A user's own message is checked strictly: what can't be sent is an early error. Anything
else in a history, from tools and from other providers' models, always gets through: the
user did not write it and can't fix it, so what can't be sent is described in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_nscale._json import to_json_text
from langchain_nscale._replies.tool_calls import original_arguments, parse_arguments
from langchain_nscale._requests.blocks import (
    as_image,
    as_text,
    describe,
    is_image,
    is_text,
    reasoning_text,
)

if TYPE_CHECKING:
    from langchain_nscale._requests.body import ReasoningHistory

_REASONING_TYPES = {"reasoning", "thinking", "redacted_thinking", "reasoning_content"}
# `tool_calls` and `invalid_tool_calls` decide which calls a message has. Middleware edits
# those and leaves the blocks alone.
_CALL_TYPES = {"function_call", "input_json_delta", "invalid_tool_call"} | {
    "tool_call",
    "tool_call_chunk",
    "tool_use",
}
# Parts already in the API's form.
_WIRE_TYPES = {"audio_url", "input_audio", "video_url"}
_NO_RESULT = "[No result: the call was not executed.]"
_TEXT_ONLY_NOTE = "[image omitted: this model only reads text]"


def convert_messages(
    messages: Sequence[BaseMessage],
    *,
    reasoning_history: ReasoningHistory = "never",
    text_only_model: str | None = None,  # the ID of a model without images
    tool_name: Callable[[str], str] = str,
) -> list[dict[str, Any]]:
    """Convert LangChain messages, of any provider's models, to those of a request.

    Images in tool messages follow them in a user message. A ValueError names a block of
    the user that can't be sent, and the position of its message.
    """
    if not messages:
        msg = "The list of messages is empty: pass at least one."
        raise ValueError(msg)
    newest = len(messages) - 1  # of the user's
    while newest >= 0 and not isinstance(messages[newest], HumanMessage):
        newest -= 1
    answered: set[str] | None = None  # by the whole history, once it is needed
    converted: list[dict[str, Any]] = []
    for position, message in enumerate(messages):
        if isinstance(message, AIMessage):
            calls: Sequence[Mapping[str, Any]] = message.tool_calls
            if not calls and (calls := _calls_in_blocks(message)):
                if answered is None:
                    answered = _answered_calls(messages)
                calls = [call for call in calls if call["id"] in answered]
            converted.append(_assistant(message, calls, reasoning_history, tool_name))
            continue
        if isinstance(message, ToolMessage):
            content = _tool_content(message.content)
            converted.append(_tool(message.tool_call_id, content))
            continue
        where = f"messages[{position}] ({type(message).__name__})"
        converted += _other(message, where)
        if text_only_model and position == newest and _has_images(converted[-1]):
            msg = (
                f"{where} has an image, but the model {text_only_model} only reads text. "
                "Use a vision model, or pass `profile` if this one accepts images."
            )
            raise ValueError(msg)
    if text_only_model:
        return [_without_images(message) for message in converted]
    return _images_after_tools(converted)


# --- users and system -------------------------------------------------------------------


def _other(message: BaseMessage, where: str) -> list[dict[str, Any]]:
    """Convert a message of the user, the system or any other role.

    Anthropic's tool results, which are part of a user message, become tool messages.
    """
    role = _role(message, where)
    content: Any = message.content
    converted: list[dict[str, Any]] = []
    if isinstance(content, list):
        for block in content:
            if isinstance(block, dict) and block.get("type") == "tool_result":
                result = _tool_content(block.get("content") or "")
                converted.append(_tool(str(block.get("tool_use_id") or ""), result))
        if converted and len(converted) == len(content):
            return converted
    entry = {"role": role, "content": _user_content(content, where)}
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


def _user_content(content: Any, where: str) -> str | list[dict[str, Any]]:
    """Convert content strictly: text becomes a string, which every template accepts."""
    if isinstance(content, str):
        return content
    parts = [
        _user_part(block, f"{where}, block {number}")
        for number, block in enumerate(content)
        if not (isinstance(block, dict) and block.get("type") == "tool_result")
    ]
    return _joined(parts)


def _joined(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _user_part(block: Any, where: str) -> dict[str, Any]:
    """Convert a content block to the API's form."""
    if isinstance(block, dict) and block.get("type") == "non_standard":
        block = block.get("value") or {}
    if is_text(block):
        return {"type": "text", "text": as_text(block)}
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in _WIRE_TYPES:
        return dict(block)
    if is_image(block):
        if image := as_image(block):
            return image
        msg = (
            f"{where}: this image can't be sent. Use an http(s) or data URL, or the "
            "file's content as `base64` with a `mime_type` such as image/png. Keys: "
            f"{', '.join(sorted(map(str, block)))}."
        )
        raise ValueError(msg)
    msg = (
        f"{where}: a block of type {kind!r} can't be sent: Nscale's chat models accept "
        "text and images."
    )
    raise ValueError(msg)


# --- assistants -------------------------------------------------------------------------


def _assistant(
    message: AIMessage,
    tool_calls: Sequence[Mapping[str, Any]],
    reasoning_history: ReasoningHistory,
    tool_name: Callable[[str], str],
) -> dict[str, Any]:
    text, reasoning = _assistant_content(message.content)
    calls = [
        _call(call, to_json_text(call["args"] or {}), tool_name) for call in tool_calls
    ]
    for bad in message.invalid_tool_calls:
        # Servers fail on invalid JSON in the history, so its text is sent as a value.
        raw = original_arguments(bad.get("args") or "")
        calls.append(_call(bad, to_json_text({"invalid_json": raw}), tool_name))
    entry: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        # Templates treat "" next to calls differently; the API itself returns null.
        entry["content"] = text or None
        entry["tool_calls"] = calls
    stored = message.additional_kwargs.get("reasoning_content")
    reasoning = stored if isinstance(stored, str) and stored else reasoning
    is_sent = reasoning_history == "always" or (
        reasoning_history == "tool_turns" and calls
    )
    if reasoning and is_sent:
        # vLLM 0.21 only reads `reasoning`; other servers and templates the longer name.
        entry["reasoning"] = entry["reasoning_content"] = reasoning
    if message.name:
        entry["name"] = message.name
    return entry


def _assistant_content(content: str | list[str | dict[Any, Any]]) -> tuple[str, str]:
    """Extract text and reasoning from an assistant's content in any provider's form."""
    if isinstance(content, str):
        return content, ""
    texts: list[str] = []
    thoughts: list[str] = []
    omitted: list[str] = []
    for item in content:
        block: Any = item
        if isinstance(block, dict) and block.get("type") == "non_standard":
            block = block.get("value") or {}
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in _REASONING_TYPES:
            thoughts.append(reasoning_text(block))
        elif kind == "refusal":
            texts.append(str(block.get("refusal") or ""))
        elif is_text(block):
            texts.append(as_text(block))
        elif kind not in _CALL_TYPES:
            omitted.append(describe(block))
    if not any(texts) and omitted:
        texts = [" ".join(dict.fromkeys(omitted))]
    return "".join(texts), "".join(thoughts)


def _calls_in_blocks(message: AIMessage) -> list[dict[str, Any]]:
    """Return the calls found only in the content; the caller drops unanswered ones."""
    # langchain-core sets no `tool_calls` for dicts in Anthropic's wire form, as its SDK
    # and datasets have them (https://github.com/BerriAI/litellm/issues/25765). A block
    # without an answer is left alone: middleware removes a call from `tool_calls` only.
    if message.invalid_tool_calls or not isinstance(message.content, list):
        return []
    blocks = [b for b in message.content if isinstance(b, dict)]
    calls = [_call_in(block) for block in blocks if block.get("type") in _CALL_TYPES]
    return [call for call in calls if call["id"]]


def _call_in(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the call in a block of Anthropic, OpenAI's Responses API or LangChain."""
    call_id = block.get("call_id") or block.get("id")
    args: Any = block.get("input", block.get("args", block.get("arguments")))
    if not isinstance(args, Mapping):
        raw = args if isinstance(args, str) else to_json_text(args)
        args, problem = parse_arguments(raw)
        args = {"invalid_json": raw} if problem else args
    return {"id": str(call_id or ""), "name": str(block.get("name") or ""), "args": args}


def _answered_calls(messages: Sequence[BaseMessage]) -> set[str]:
    """Return the IDs of all calls that have an answer."""
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    for message in messages:
        for block in message.content if isinstance(message.content, list) else ():
            if isinstance(block, dict) and block.get("type") == "tool_result":
                answered.add(str(block.get("tool_use_id") or ""))
    return answered


def _call(
    call: Mapping[str, Any], arguments: str, tool_name: Callable[[str], str]
) -> dict[str, Any]:
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {"name": tool_name(call.get("name") or ""), "arguments": arguments},
    }


# --- tools ------------------------------------------------------------------------------


def _tool(call_id: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _tool_content(content: Any) -> str | list[dict[str, Any]]:
    """Convert what a tool returned. Nothing raises: items may only look like blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return to_json_text(content)
    parts: list[dict[str, Any]] = []
    for block in content:
        image = as_image(block) if is_image(block) else None
        if image is not None:
            parts.append(image)
        elif text := as_text(block) if is_text(block) else describe(block):
            parts.append({"type": "text", "text": text})
    return _joined(parts)


def answer_every_call(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the answers of tool calls right after the calls, one for each.

    A call without an answer gets one that says so. An answer without a call becomes a
    user message.
    """
    answers: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        if message["role"] == "tool":
            answers.setdefault(message["tool_call_id"], []).append(message)
    answered: set[int] = set()
    result: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            if id(message) not in answered:
                result.append(_orphan(message))
            continue
        result.append(message)
        for call in message.get("tool_calls") or ():
            waiting = answers.get(call["id"]) or []
            if waiting:
                answer = waiting.pop(0)
                answered.add(id(answer))
            else:
                answer = _tool(call["id"], _NO_RESULT)
            result.append(answer)
    return result


def _orphan(message: dict[str, Any]) -> dict[str, Any]:
    label = f"Result of tool call {message['tool_call_id']}:"
    content = message["content"]
    if isinstance(content, str):
        return {"role": "user", "content": f"{label}\n{content}"}
    return {"role": "user", "content": [{"type": "text", "text": label}, *content]}


def _images_after_tools(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move the images of tool messages into a user message after them."""
    result: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []  # from the preceding tool messages
    for message in messages:
        if images and message["role"] != "tool":
            result.append({"role": "user", "content": images})
            images = []
        content = message["content"]
        if message["role"] == "tool" and isinstance(content, list):
            label = f"Images returned by tool call {message['tool_call_id']}:"
            texts = [part["text"] for part in content if part["type"] == "text"]
            texts.append("[The images follow in the next user message.]")
            images.append({"type": "text", "text": label})
            images += [part for part in content if part["type"] != "text"]
            result.append({**message, "content": "\n".join(texts)})
        else:
            result.append(message)
    if images:
        result.append({"role": "user", "content": images})
    return result


def _has_images(message: dict[str, Any]) -> bool:
    content = message["content"]
    return isinstance(content, list) and any(p["type"] == "image_url" for p in content)


def _without_images(message: dict[str, Any]) -> dict[str, Any]:
    if not _has_images(message):
        return message
    parts = [
        {"type": "text", "text": _TEXT_ONLY_NOTE} if p["type"] == "image_url" else p
        for p in message["content"]
    ]
    return {**message, "content": _joined(parts)}
