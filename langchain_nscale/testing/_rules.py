"""Default replies of the stand-in server: deterministic and plausible."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langchain_nscale.testing._script import ServerReply, ToolCallReply

_MAX_DEPTH = 6  # of generated values
_INVALID_SCHEMA = (
    *(AttributeError, LookupError, RecursionError),
    *(StopIteration, TypeError, ValueError),
)
_MIN_WORD = 3  # letters; shorter words are ignored by embeddings


def default_reply(body: Mapping[str, Any]) -> ServerReply:
    """Return the reply to a chat request, or an error if a schema in it is not valid."""
    try:
        reply = _plausible_reply(body)
        # gpt-oss always reasons: its template has no way to turn it off.
        thoughts = "The question is clear." if "gpt-oss" in body["model"] else None
        return replace(reply, reasoning=thoughts)
    except _INVALID_SCHEMA:
        message = "Grammar error: a schema of the request is not valid"
        return ServerReply.error(400, message, code="BAD_REQUEST")


def _plausible_reply(body: Mapping[str, Any]) -> ServerReply:
    tools = {
        tool["function"]["name"]: tool["function"].get("parameters") or {}
        for tool in body.get("tools") or []
    }
    last = body["messages"][-1]
    text = text_of(last.get("content"))
    choice = body.get("tool_choice", "auto")
    tool_name = None
    if isinstance(choice, dict):
        tool_name = choice["function"]["name"]
    elif choice == "required" and tools:
        # A tool not called yet, because an agent that forces calls has to make progress.
        called = {
            call["function"]["name"]
            for message in body["messages"]
            for call in message.get("tool_calls") or []
        }
        unused = (name for name in tools if name not in called)
        tool_name = next(unused, next(iter(tools)))
    elif choice == "auto" and last["role"] == "user":
        tool_name = next((name for name in tools if name in text), None)
    if tool_name is not None:
        args = instance_of(tools.get(tool_name, {}))
        return ServerReply(tool_calls=[ToolCallReply(tool_name, args)])
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return ServerReply(text=json.dumps(instance_of(form["json_schema"]["schema"])))
    if form.get("type") == "json_object":
        return ServerReply(text=json.dumps({"answer": text}))
    if last["role"] == "tool":
        return ServerReply(text=f"The tool answered: {text}")
    return ServerReply(text=f"You said: {text}")


def text_of(content: Any) -> str:
    """Return the text of a message's content."""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text") or f"[{part.get('type')}]" for part in content or [])


def instance_of(schema: Any) -> Any:
    """Return a value that is valid against a JSON Schema, of the kinds that tools use."""
    return _instance(schema, schema if isinstance(schema, dict) else {}, 0)


def _instance(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, dict):
        return "text"
    if "$ref" in schema:
        target: Any = root
        for key in schema["$ref"].strip("#/").split("/"):
            target = target[key] if key else target
        return _instance(target, root, depth + 1)
    constants = [schema["const"]] if "const" in schema else []
    if "default" in schema and _has_type(schema["default"], schema):
        constants.append(schema["default"])
    if constants or schema.get("enum"):
        return [*constants, *schema.get("enum", [])][0]
    for key in ("anyOf", "oneOf"):
        if options := schema.get(key):
            plain = [option for option in options if option.get("type") != "null"]
            deep = depth > _MAX_DEPTH and len(plain) < len(options)
            return None if deep else _instance((plain or options)[0], root, depth + 1)
    if parts := schema.get("allOf"):
        merged = {k: v for part in parts for k, v in part.items()}
        return _instance({**merged, **schema, "allOf": None}, root, depth)
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    kind = next(k for k in kind if k != "null") if isinstance(kind, list) else kind
    return _plain(kind, schema, root, depth)


_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def _has_type(value: object, schema: Mapping[str, Any]) -> bool:
    """Return whether a default is of the schema's type; `Field(None)` often is not."""
    kinds = schema.get("type")
    if kinds is None:
        return True
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return any(isinstance(value, _TYPES.get(kind, object)) for kind in kinds)


def _plain(
    kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int
) -> Any:
    if kind == "object":
        required = schema.get("required") or ()
        return {
            name: _instance(inner, root, depth + 1)
            for name, inner in (schema.get("properties") or {}).items()
            if name in required or depth <= _MAX_DEPTH
        }
    if kind == "array":
        count = schema.get("minItems", 0 if depth > _MAX_DEPTH else 1)
        return [_instance(schema.get("items", {}), root, depth + 1)] * count
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        return min(low, schema.get("maximum", low))
    values: dict[str, Any] = {"boolean": True, "null": None}
    text = "text".ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    return values.get(kind, text)


def cut_to_limits(
    reply: ServerReply, body: Mapping[str, Any]
) -> tuple[ServerReply, str | None]:
    """Return the reply as `stop` and `max_tokens` truncate it, and the stop string."""
    text = reply.text or ""
    reason = reply.finish_reason
    stopped = None
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop in text:
            text = text[: text.index(stop)]
            reason = reason or "stop"
            stopped = stop
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    words = split_words(text)
    if limit and len(words) > limit:
        text = "".join(words[:limit])
        reason = reason or "length"
    reason = reason or ("tool_calls" if reply.tool_calls else "stop")
    return replace(reply, text=text, finish_reason=reason), stopped


def split_words(text: str) -> list[str]:
    """Split a text into words with the space before them, like a model's tokens."""
    return re.findall(r"\s*\S+|\s+$", text)


def pieces_of(text: str, sizes: Any) -> list[str]:
    """Split a text into pieces of these sizes, the last of which repeats."""
    if not sizes:
        return split_words(text)
    pieces = []
    start = number = 0
    while start < len(text):
        size = max(1, sizes[min(number, len(sizes) - 1)])
        pieces.append(text[start : start + size])
        start += size
        number += 1
    return pieces


def usage_of(
    reply: ServerReply, body: Mapping[str, Any], n: int
) -> dict[str, Any] | None:
    """Return the `usage` of a reply, counting each word as a token."""
    if reply.usage is False:
        return None
    if isinstance(reply.usage, Mapping):
        return dict(reply.usage)
    prompt_tokens = sum(
        len(split_words(text_of(m.get("content")))) or 1 for m in body["messages"]
    )
    written = [reply.text, reply.reasoning, *(call.name for call in reply.tool_calls)]
    completion_tokens = n * sum(len(split_words(text)) for text in written if text)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": None,
    }


def embedding_of(text: str, dimensions: int) -> list[float]:
    """Return a unit vector that depends only on the words of a text, exact in float32."""
    # Each word adds 1 or -1 to a dimension derived from a hash of the word, so texts that
    # share words have similar vectors, which is enough for a plausible search. Short
    # words count only if there are no others, because they carry little meaning. If a
    # query has an instruction, only the query itself counts.
    raw = [0.0] * dimensions
    words = re.findall(r"\w+", text.rpartition("\nQuery:")[2].lower())
    for word in [word for word in words if len(word) > _MIN_WORD] or words or [text]:
        digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
        dimension = int.from_bytes(digest[:4], "little") % dimensions
        raw[dimension] += 1.0 if digest[4] & 1 else -1.0
    if not any(raw):  # the words have canceled each other out
        raw[0] = 1.0
    norm = sum(value * value for value in raw) ** 0.5
    packed = struct.pack(f"<{dimensions}f", *(value / norm for value in raw))
    return list(struct.unpack(f"<{dimensions}f", packed))
