"""LangChain messages, tools and options -> the body of a request. Pure: no I/O."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

ReasoningHistory = Literal["never", "tool_turns", "always"]

# Keys of a LangChain text block that mean nothing to the API are left behind; these are
# the types under which the providers send text.
_TEXT_TYPES = {"text", "input_text", "output_text", "text-plain"}
_REASONING_TYPES = {"reasoning", "thinking", "redacted_thinking", "reasoning_content"}
_CALL_TYPES = {"tool_call", "tool_call_chunk", "tool_use", "function_call"}
# An assistant's own blocks that the next model neither needs nor understands: calls
# that a provider executed itself (what they brought is in the text), cut-off calls.
_SPENT_TYPES = {
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
# Parts that are already in the API's form and go through as they are.
_WIRE_TYPES = {"audio_url", "input_audio", "video_url"}
_REFERENCE = re.compile(r'"\$ref": "#/\$defs/([^"]+)"')
_IMAGE_KEYS = ("image", "image_url", "inline_data")


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON.

    Raises:
        ValueError: A value has no JSON form, or a text has a lone surrogate.
    """
    try:
        return to_json(body)
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        msg = f"The request can't be written as JSON: {error}"
        raise ValueError(msg) from None


def convert_messages(
    messages: Sequence[BaseMessage],
    *,
    reasoning_history: ReasoningHistory = "never",
    tool_images: bool = False,
) -> list[dict[str, Any]]:
    """The `messages` of a request.

    Args:
        messages: Any LangChain messages, also such as another provider's model wrote.
        reasoning_history: Which assistant turns take their reasoning with them.
        tool_images: Whether the model takes images in tool messages. Where it doesn't,
            they follow the tool messages as a user message.

    Raises:
        ValueError: There are no messages, or one has a block that can't be sent; the
            text names the block and the message's position.
    """
    if not messages:
        msg = "The list of messages is empty: give at least one."
        raise ValueError(msg)
    converted: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []  # of the tool messages just before
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
    """The same messages with all of the system as one, and that first.

    Some models' templates refuse any other (Qwen3's, Mistral's).
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
    """A message of a user, the system or any other role.

    Anthropic's tool results, which stand in a user's message, become tool messages.
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
        return "system"  # "developer" too: open models' templates don't know it
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
    """Text as a string, for templates that take nothing else; else a list of parts."""
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
    """A content block in the API's form."""
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
            f"{where}: this image can't be sent. Give an http(s) or data URL, or base64 "
            "data with a `mime_type` such as image/png. Keys: "
            f"{', '.join(sorted(map(str, block)))}."
        )
        raise ValueError(msg)
    msg = (
        f"{where}: a block of type {kind!r} can't be sent: Nscale's chat models take "
        "text and images."
    )
    raise ValueError(msg)


def _image_url(block: Mapping[str, Any]) -> str | None:
    """The URL of an image block in any provider's form; `None` where there is none."""
    wire = block.get("image_url")
    if wire is not None:
        url = wire.get("url") if isinstance(wire, Mapping) else wire
        return url if _is_image_url(url) else None
    # Under "source" Anthropic has it, under "image" Bedrock, "inline_data" is Gemini's.
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
        # Broken JSON in the history makes servers fail; its text still gets through.
        raw = _arguments({"invalid_json": bad.get("args")})
        calls.append(_call(bad, raw))
    known = {call["id"] for call in calls}
    calls += [call for call in block_calls if call["id"] not in known]
    entry: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        # Templates differ on "" next to calls; null is what the API itself answers.
        entry["content"] = text or None
        entry["tool_calls"] = calls
    reasoning = message.additional_kwargs.get("reasoning_content") or reasoning
    wanted = reasoning_history == "always" or (
        reasoning_history == "tool_turns" and calls
    )
    if reasoning and wanted:
        entry["reasoning_content"] = reasoning
    if message.name:
        entry["name"] = message.name
    return entry


def _assistant_content(
    content: str | list[str | dict[Any, Any]], where: str
) -> tuple[str, str, list[dict[str, Any]]]:
    """Text, reasoning and tool calls in an assistant's content, whoever wrote it."""
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
        elif kind not in _SPENT_TYPES:
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
    """A tool message, and the images that must follow it in a user message."""
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


def merge_stop(*sources: str | Iterable[str] | None) -> list[str] | None:
    """Stop sequences of the model and of the call, each once; `None` for none."""
    merged: dict[str, None] = {}
    for source in sources:
        for sequence in [source] if isinstance(source, str) else source or []:
            merged[sequence] = None
    return list(merged) or None


def convert_tool_choice(
    choice: str | bool | dict[str, Any] | None, names: Sequence[str]
) -> str | dict[str, Any] | None:
    """LangChain's forms of `tool_choice` in the API's.

    Raises:
        ValueError: The choice names a tool that isn't bound, or has no known form.
    """
    if choice is None or choice is False:
        return None
    if choice is True or choice in ("any", "required"):
        return "required"
    if choice in ("auto", "none"):
        return str(choice)
    if isinstance(choice, str):
        name: object = choice
    elif isinstance(choice, dict):
        # OpenAI's form, or Anthropic's and the bare {"name": ...}.
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else choice.get("name")
        if name is None and choice.get("type") in ("auto", "any", "none", "required"):
            return convert_tool_choice(choice["type"], names)
    else:
        name = None
    if name not in names:
        known = ", ".join(map(repr, names)) or "no tool"
        msg = (
            f"tool_choice={choice!r} names no bound tool (bound: {known}). Give a tool's "
            "name, 'auto', 'none', 'any', 'required', a bool or None."
        )
        raise ValueError(msg)
    return {"type": "function", "function": {"name": name}}


def response_format(
    schema: dict[str, Any] | type, *, strict: bool | None = None
) -> dict[str, Any]:
    """The `response_format` for a schema, or the one given if it is one already."""
    if isinstance(schema, dict) and schema.get("type") in (
        "json_schema",
        "json_object",
        "text",
    ):
        return schema
    converted = json_schema(schema, strict=strict)
    name = converted.get("title") or "response"
    inner: dict[str, Any] = {"name": _schema_name(name), "schema": converted}
    if description := converted.get("description"):
        inner["description"] = description
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}


def json_schema(schema: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """The JSON Schema of a Pydantic class, TypedDict, dataclass, or of itself."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        whole = schema.model_json_schema()
        if _refers_to_itself(whole):
            # langchain-core would put the definitions in place, and cut a circle off.
            return whole
    return convert_to_json_schema(named(schema), strict=strict)


def named(schema: Any) -> Any:
    """A JSON Schema with a title, which is the name that the API wants of it."""
    if isinstance(schema, dict) and "properties" in schema and not schema.get("title"):
        return {"title": "response", **schema}
    return schema


def _refers_to_itself(schema: Mapping[str, Any]) -> bool:
    """Whether a definition of a schema leads back to itself."""
    uses = {
        name: _REFERENCE.findall(json.dumps(definition))
        for name, definition in schema.get("$defs", {}).items()
    }
    try:
        TopologicalSorter(uses).prepare()
    except CycleError:
        return True
    return False


def _schema_name(title: str) -> str:
    """A title in the characters that the API takes for a name (at most 64)."""
    kept = "".join(
        c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in title
    )
    return kept[:64] or "response"


def tool_names(tools: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of tools in the API's form.

    Raises:
        ValueError: A name or a schema is one that the API would refuse.
    """
    names: list[str] = []
    for tool in tools:
        function = tool.get("function")
        if not isinstance(function, Mapping):
            msg = (
                f"A tool of type {tool.get('type')!r} can't be sent: Nscale takes "
                "functions only."
            )
            raise ValueError(msg)  # noqa: TRY004  # as for every other bad setting
        name = function.get("name")
        if not isinstance(name, str) or name != _schema_name(name):
            msg = (
                f"The tool name {name!r} can't be sent: use 1 to 64 letters, digits, "
                "underscores and dashes."
            )
            raise ValueError(msg)
        parameters = function.get("parameters") or {"type": "object"}
        if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
            msg = (
                f"The parameters of the tool {name!r} can't be sent: they have to be a "
                'JSON Schema with "type": "object".'
            )
            raise ValueError(msg)
        names.append(name)
    return names
