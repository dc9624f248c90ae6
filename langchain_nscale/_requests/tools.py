"""Converts tools, tool choices and schemas to the API's form."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

from langchain_core.utils.function_calling import (
    convert_to_json_schema,
    convert_to_openai_tool,
)
from pydantic import BaseModel, TypeAdapter
from typing_extensions import is_typeddict

_MAX_NAME = 64  # characters
_REFERENCE = r'"\$ref": "#/(?:\$defs|definitions)/([^"]+)"'
_INVALID_IN_NAME = r"[^a-zA-Z0-9_-]"
# Keywords that vLLM's grammars reject. They only narrow a schema, so the answer is
# validated without them.
_UNSUPPORTED = {"uniqueItems", "propertyNames", "contains", "minContains", "maxContains"}
_UNSUPPORTED_FORMATS = {"binary", "json-string"}
_LOOK_AROUND = r"\(\?<?[=!]"


# --- tools ------------------------------------------------------------------------------


class FormattedTool(dict[str, Any]):
    """A tool in the API's form with a complete schema.

    `bind_tools` formats tools once; each call recognizes them and sends them as they are.
    """


def format_tools(tools: Iterable[Any], *, strict: bool | None = None) -> list[Any]:
    """Convert tools to the API's form, with complete schemas.

    Raises:
        ValueError: A tool is not a function, or its schema is not that of an object.
        TypeError: `tools` is not a list.
    """
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Iterable):
        shown = getattr(tools, "name", getattr(tools, "__name__", None)) or "tool"
        msg = f"`tools` is of type {type(tools).__name__}: pass a list, as in [{shown}]."
        raise TypeError(msg)
    return [
        tool
        if type(tool) is FormattedTool
        else FormattedTool(_completed(_formatted(tool, strict)))
        for tool in tools
    ]


def _formatted(tool: Any, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Mapping) and tool.get("type") == "function":
        return dict(tool)
    formatted: dict[str, Any]
    try:
        formatted = convert_to_openai_tool(tool, strict=strict)
    except Exception as error:
        reason = str(error)
        if callable(tool):
            if not isinstance(error, (ValueError, TypeError)):  # from its annotations
                raise
        else:  # langchain-core's message only repeats it
            reason = "use functions, Pydantic classes, tools, or dicts in the API's form."
        shown = reprlib.repr(tool)
        msg = f"`tools` contains {shown}, which can't be converted to a tool: {reason}"
        raise ValueError(msg) from None
    # langchain-core truncates recursive schemas.
    schema = _recursive_schema(tool)
    if schema is not None and isinstance(formatted.get("function"), dict):
        parameters = {
            k: v for k, v in schema.items() if k not in ("title", "description")
        }
        formatted["function"] = {**formatted["function"], "parameters": parameters}
    return formatted


def _recursive_schema(tool: Any) -> dict[str, Any] | None:
    """Return the JSON Schema of a tool's arguments if it refers to itself."""
    from langchain_core.tools import (  # noqa: PLC0415  # slow to import
        BaseTool,
        StructuredTool,
    )

    schema: Any = None
    with suppress(Exception):  # langchain-core's conversion has the last word
        if isinstance(tool, BaseTool):
            source = tool.tool_call_schema
            schema = source if isinstance(source, dict) else _schema_of(source)
        elif isinstance(tool, type):
            schema = _schema_of(tool)
        elif inspect.isfunction(tool):
            source = StructuredTool.from_function(tool).tool_call_schema
            schema = _schema_of(source)
        elif isinstance(tool, Mapping) and "properties" in tool:
            schema = dict(tool)
    return schema if isinstance(schema, dict) and _is_recursive(schema) else None


def _schema_of(source: Any) -> Any:
    if isinstance(source, type) and issubclass(source, BaseModel):
        return source.model_json_schema()
    return TypeAdapter(source).json_schema()


def _completed(tool: dict[str, Any]) -> dict[str, Any]:
    """Complete a tool's schema: every API wants an object with properties."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        msg = (
            f"A tool of type {tool.get('type')!r} can't be sent: Nscale only accepts "
            "functions."
        )
        raise ValueError(msg)  # noqa: TRY004  # like every other invalid setting
    name = function.get("name")
    if not isinstance(name, str) or not name:
        msg = f"`tools` has the tool name {name!r}: it must be a text."
        raise ValueError(msg)
    parameters = function.get("parameters")
    if parameters is None:
        return tool
    kind = parameters.get("type") if isinstance(parameters, Mapping) else "none"
    if kind == "object":
        completed = parameters
    elif kind is None or (isinstance(kind, list) and "object" in kind):
        completed = {**parameters, "type": "object"}
        completed.setdefault("properties", {})
    else:
        msg = (
            f"The parameters of the tool {name!r} can't be sent: they must be a "
            'JSON Schema with "type": "object".'
        )
        raise ValueError(msg)
    completed = without_unsupported(completed)
    return {**tool, "function": {**function, "parameters": completed}}


def tool_names(tools: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of tools in the API's form."""
    return [tool["function"]["name"] for tool in tools]


def names_in(tools: object) -> list[str]:
    """Return the names of tools in the API's form, and ignore anything else."""
    functions = [
        tool.get("function") for tool in _as_list(tools) if isinstance(tool, Mapping)
    ]
    names = [each.get("name") for each in functions if isinstance(each, Mapping)]
    return [name for name in names if isinstance(name, str)]


def _as_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def api_name(name: str) -> str:
    """Return the name under which the API knows a tool.

    MCP servers publish names with dots, slashes and spaces, or of 80 characters. Such a
    name is changed to valid characters and ends in a hash of the original.
    """
    if not re.search(_INVALID_IN_NAME, name) and len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{re.sub(_INVALID_IN_NAME, '_', name)[: _MAX_NAME - 9]}_{digest}"


def with_api_names(tools: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools under the names that the API accepts."""
    return [
        {**tool, "function": {**tool["function"], "name": api_name(name)}}
        for tool, name in ((tool, tool["function"]["name"]) for tool in tools)
    ]


def convert_tool_choice(
    choice: str | bool | dict[str, Any] | None, names: Sequence[str]
) -> str | dict[str, Any] | None:
    """Convert LangChain's forms of `tool_choice` to the API's.

    Raises:
        ValueError: The choice names a tool that is not bound, or has an unknown form.
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
        bound = ", ".join(map(repr, names)) or "no tool"
        msg = (
            f"tool_choice={choice!r} names no bound tool (bound: {bound}). Use a tool's "
            "name, 'auto', 'none', 'any', 'required', a bool or None."
        )
        raise ValueError(msg)
    return {"type": "function", "function": {"name": name}}


def check_tool_choice(choice: object, *, has_tools: bool) -> None:
    """Reject a choice that demands a call if there are no tools.

    Raises:
        ValueError: It can't be fulfilled.
    """
    if not has_tools and choice not in (None, "auto", "none"):
        msg = f"tool_choice={choice!r} demands a tool call, but there are no tools."
        raise ValueError(msg)


# --- schemas ----------------------------------------------------------------------------


def response_format(
    schema: dict[str, Any] | type, *, strict: bool | None = None
) -> dict[str, Any]:
    """Return the `response_format` for a schema, or `schema` itself if it is one.

    Raises:
        ValueError: It is neither a class nor a JSON Schema.
    """
    if isinstance(schema, dict) and is_response_format(schema):
        return schema
    try:
        converted = json_schema(schema, strict=strict)
    except Exception:  # whatever langchain-core raises
        if isinstance(schema, type):  # the message is about a field of the class
            raise
        msg = (
            f"`response_format` is {reprlib.repr(schema)}: use a Pydantic class, a "
            'dataclass, a TypedDict, a JSON Schema, or {"type": "json_object"}.'
        )
        raise ValueError(msg) from None
    name = converted.get("title") or "response"
    inner: dict[str, Any] = {
        "name": re.sub(_INVALID_IN_NAME, "_", str(name))[:_MAX_NAME] or "response",
        "schema": without_unsupported(converted),
    }
    if description := converted.get("description"):
        inner["description"] = description
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}


def is_response_format(schema: object) -> bool:
    """Return whether a dict is a `response_format` instead of a JSON Schema."""
    kinds = ("json_schema", "json_object", "text")
    return isinstance(schema, dict) and schema.get("type") in kinds


def schema_of_response_format(schema: Any) -> Any:
    """Return the JSON Schema in a `response_format`, or `schema` itself."""
    if isinstance(schema, dict) and schema.get("type") == "json_schema":
        inner = schema.get("json_schema")
        if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
            return {"title": inner.get("name") or "response", **inner["schema"]}
    return schema


def json_schema(schema: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a Pydantic class, TypedDict, dataclass or JSON Schema."""
    schema = schema_of_response_format(schema)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        converted = schema.model_json_schema()
        if _is_recursive(converted):
            # langchain-core would inline `$defs` and truncate recursive ones.
            return converted
    elif is_typeddict(schema):
        typed: dict[str, Any] = _schema_of(schema)
        if _is_recursive(typed):
            return typed
    elif isinstance(schema, dict) and _is_recursive(schema):
        titled: dict[str, Any] = with_title(schema)
        return titled
    return convert_to_json_schema(with_title(schema), strict=strict)


def with_title(schema: Any) -> Any:
    """Give a JSON Schema a title, which the API requires as its name."""
    if not isinstance(schema, dict) or schema.get("title"):
        return schema
    is_other = is_response_format(schema) or "function" in schema or "name" in schema
    return schema if is_other else {"title": "response", **schema}


def without_unsupported(schema: Any) -> Any:
    """Return a schema without the keywords that vLLM's grammars reject."""
    if isinstance(schema, list):
        return [without_unsupported(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {}
    for key, value in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
            # These keys are names, not keywords.
            result[key] = {name: without_unsupported(v) for name, v in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            result[key] = value
        elif not _is_unsupported(key, value):
            result[key] = without_unsupported(value)
    return result


def _is_unsupported(key: str, value: object) -> bool:
    return (
        key in _UNSUPPORTED
        or (key == "format" and value in _UNSUPPORTED_FORMATS)
        or (key == "pattern" and bool(re.search(_LOOK_AROUND, str(value))))
    )


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Return whether a definition refers to itself, directly or indirectly."""
    definitions = {**schema.get("$defs", {}), **schema.get("definitions", {})}
    references = {
        name: re.findall(_REFERENCE, json.dumps(definition))
        for name, definition in definitions.items()
    }
    try:
        TopologicalSorter(references).prepare()
    except CycleError:
        return True
    return '"$ref": "#"' in json.dumps(schema)
