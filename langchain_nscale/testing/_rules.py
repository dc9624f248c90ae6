"""Default replies of the stand-in server: deterministic and plausible."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_nscale.testing._script import ServerReply, ToolCallReply

# Numbers, and the ranges that vLLM accepts.
_RANGES = (
    ("frequency_penalty", -2, 2),
    ("max_completion_tokens", 1, 10_000_000),
    ("max_tokens", 1, 10_000_000),
    ("n", 1, 1000),
    ("presence_penalty", -2, 2),
    ("temperature", 0, 2),
    ("top_logprobs", 0, 20),
    ("top_p", 0.000001, 1),
)
_WHOLE = {"max_completion_tokens", "max_tokens", "n", "top_logprobs"}
# The types of other options.
_FORMS: dict[str, tuple[type, ...]] = {
    "logit_bias": (dict,),
    "logprobs": (bool,),
    "parallel_tool_calls": (bool,),
    "reasoning_effort": (str,),
    "response_format": (dict,),
    "seed": (int,),
    "stop": (str, list),
    "stream": (bool,),
    "stream_options": (dict,),
    "tool_choice": (str, dict),
    "tools": (list,),
    "user": (str,),
}
_MAX_DIMENSIONS = 65_536
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_ROLES = {"developer", "system", "user", "assistant", "tool"}
_MAX_DEPTH = 6  # of generated values
_MIN_WORD = 3  # letters; shorter words are ignored by embeddings


def problem_with(body: Any) -> ServerReply | None:
    """Return the error with which the real API rejects a chat request, if it would."""
    return _error(next(_problems(body), None))


def problem_with_texts(body: Any) -> ServerReply | None:
    """Return the error for a request for embeddings that can't be answered, if any."""
    return _error(next(_embedding_problems(body), None))


def _error(problem: tuple[str, str | None] | None) -> ServerReply | None:
    if problem is None:
        return None
    message, param = problem
    error = {
        "code": "BAD_REQUEST",
        "message": message,
        "param": param,
        "error_type": "INVALID_REQUEST",
    }
    return ServerReply(status=400, body={"error": error})


def _problems(body: Any) -> Iterator[tuple[str, str | None]]:
    """Yield the problems of a request.

    Only the first one is reported, so each check relies on the ones before it.
    """
    yield from _model_problems(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "`messages` must be a list with at least one message", "messages"
    calls: set[str] = set()
    for number, message in enumerate(messages or []):
        for problem in _message_problems(message, calls):
            yield problem, f"messages[{number}]"
    yield from _unanswered(messages or [])
    for name, kinds in _FORMS.items():
        if body.get(name) is not None and not isinstance(body[name], kinds):
            yield f"`{name}` has the wrong type", name
    yield from _option_problems(body)


def _model_problems(body: Any) -> Iterator[tuple[str, str | None]]:
    if not isinstance(body, dict):
        yield "The body is not a JSON object", None
    if not isinstance(body.get("model"), str) or not body["model"]:
        yield "`model` is required", "model"


def _embedding_problems(body: Any) -> Iterator[tuple[str, str | None]]:
    yield from _model_problems(body)
    texts = body.get("input")
    texts = texts if isinstance(texts, list) else [texts]
    if not texts or "" in texts:
        yield "`input` is empty", "input"
    if not all(isinstance(text, str) for text in texts):
        yield "`input` must be a text or a list of texts", "input"
    dimensions = body.get("dimensions")
    if dimensions is not None and (
        type(dimensions) is not int or not 0 < dimensions <= _MAX_DIMENSIONS
    ):
        yield f"`dimensions` must be from 1 to {_MAX_DIMENSIONS}", "dimensions"
    if body.get("encoding_format") not in (None, "float", "base64"):
        yield "`encoding_format` must be 'float' or 'base64'", "encoding_format"


def _unanswered(messages: list[Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the tool calls that have no answer."""
    waiting: dict[str, int] = {}
    for number, message in enumerate(messages):
        if isinstance(message, dict):
            for call in message.get("tool_calls") or []:
                waiting[str(call.get("id"))] = number
            waiting.pop(str(message.get("tool_call_id")), None)
    for number in waiting.values():
        yield "A tool call has no answer", f"messages[{number}]"


def _option_problems(body: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the problems that vLLM reports about the options of a request."""
    yield from _range_problems(body)
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        yield "when using `top_logprobs`, `logprobs` must be set to true", "top_logprobs"
    if body.get("stream_options") is not None and not body.get("stream"):
        yield "Stream options can only be defined when `stream=True`", "stream_options"
    stops = body.get("stop")
    if stops == "" or (isinstance(stops, list) and "" in stops):
        yield "stop cannot contain an empty string", "stop"
    if isinstance(stops, list) and not all(isinstance(stop, str) for stop in stops):
        yield "`stop` must contain strings", "stop"
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        yield f"`reasoning_effort` must be one of {_EFFORTS}", "reasoning_effort"
    yield from _format_problems(body.get("response_format"))
    yield from _tool_problems(body)


def _range_problems(body: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for name, low, high in _RANGES:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"`{name}` must be a number, got {value!r}", name
        elif value < low or value > high:
            yield f"`{name}` must be from {low} to {high}, got {value}", name
        elif name in _WHOLE and not isinstance(value, int):
            yield f"`{name}` must be a whole number, got {value}", name


def _format_problems(form: Any) -> Iterator[tuple[str, str | None]]:
    if form is None:
        return
    kind = form.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        yield f"Unknown type of `response_format`: {kind!r}", "response_format"
    if kind == "json_schema":
        inner = form.get("json_schema")
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
            yield "The `json_schema` field must be provided", "response_format"


def _tool_problems(body: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools is not None and not tools:
        yield "`tools` must not be an empty array", "tools"
    if choice not in (None, "none") and not tools:
        yield "When using `tool_choice`, `tools` must be set", "tool_choice"
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        yield f"Invalid value for `tool_choice`: {choice}", "tool_choice"
    names = []
    for tool in tools or []:
        function: Any = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict):
            yield "A tool has no `function`", "tools"
        name = function.get("name")
        names.append(name)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            yield f"Invalid tool name {name!r}", "tools"
        parameters = function.get("parameters")
        kind = parameters.get("type") if isinstance(parameters, dict) else None
        if parameters is not None and kind != "object":
            yield f"The parameters of {name!r} are not an object", "tools"
    chosen = choice.get("function") if isinstance(choice, dict) else None
    name = chosen.get("name") if isinstance(chosen, dict) else None
    if isinstance(choice, dict) and name not in names:
        yield "The tool in `tool_choice` does not match any of `tools`", "tool_choice"


def _message_problems(message: Any, calls: set[str]) -> Iterator[str]:
    """Yield the problems of a message; `calls` collects the IDs of tool calls."""
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in _ROLES:
        yield f"Unknown role {role!r}"
    content = message.get("content")
    if content is not None or role != "assistant":
        yield from _content_problems(content)
    tool_calls = message.get("tool_calls") or []
    if not isinstance(tool_calls, list):
        yield "`tool_calls` must be a list"
    for call in tool_calls:
        yield from _call_problems(call)
        calls.add(str(call.get("id")))
    if role == "tool" and str(message.get("tool_call_id")) not in calls:
        yield "A tool message does not answer an earlier tool call"


def _content_problems(content: Any) -> Iterator[str]:
    if not isinstance(content, (str, list)):
        yield "`content` must be a string or a list"
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            yield "A part of `content` has no type"
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            yield "A text in `content` is not a string"


def _call_problems(call: Any) -> Iterator[str]:
    function: Any = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        yield "A tool call has no function with a name"
    try:
        json.loads(function["arguments"])
    except (ValueError, KeyError, TypeError, RecursionError):
        yield "The arguments of a tool call are not valid JSON"


def default_reply(body: Mapping[str, Any]) -> ServerReply:
    """Return the reply to a chat request, or an error if a schema in it is not valid."""
    try:
        reply = _plausible_reply(body)
        # gpt-oss always reasons: its template has no way to turn it off.
        thoughts = "The question is clear." if "gpt-oss" in body["model"] else None
        return _replace(reply, reasoning=thoughts)
    except (
        AttributeError,
        LookupError,
        RecursionError,
        StopIteration,
        TypeError,
        ValueError,
    ):
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
    defs = schema if isinstance(schema, dict) else {}
    return _instance(schema, defs, 0)


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
    text = "text"
    text = text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
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
    return _replace(reply, text=text, finish_reason=reason), stopped


def _replace(reply: ServerReply, **changes: Any) -> ServerReply:
    return ServerReply(**{**vars(reply), **changes})


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
    """Return a unit vector that depends only on the words of a text, exact in float32.

    Each word adds 1 or -1 to a dimension derived from a hash of the word, so texts that
    share words have similar vectors, which is enough for a plausible search. Short words
    count only if there are no others, because they carry little meaning. If a query has
    an instruction, only the query itself counts.
    """
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
