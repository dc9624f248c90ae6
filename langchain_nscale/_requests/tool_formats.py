"""Converts tools to the API's form, with complete schemas."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from langchain_nscale._requests.conversions import converted
from langchain_nscale._requests.schemas import (
    is_recursive,
    schema_of,
    without_unsupported,
)
from langchain_nscale._requests.typed_dicts import with_defaults

# Keywords of which a schema has one unless it accepts any value.
_SHAPES = frozenset(
    {"$ref", "additionalProperties", "allOf", "anyOf", "const", "enum", "items"}
    | {"not", "oneOf", "patternProperties", "prefixItems", "properties", "type"}
)


class FormattedTool(dict[str, Any]):
    """A tool in the API's form with a complete schema.

    `bind_tools` formats tools once; each call recognizes them and sends them as they are.
    """


def format_tools(tools: Iterable[Any], *, strict: bool | None = None) -> list[Any]:
    """Convert tools to the API's form, with complete schemas."""
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Iterable):
        shown = getattr(tools, "name", getattr(tools, "__name__", None)) or "tool"
        msg = f"`tools` is of type {type(tools).__name__}: pass a list, as in [{shown}]."
        raise TypeError(msg)
    purpose = ("tool", strict)
    return [
        tool if type(tool) is FormattedTool else _format(tool, purpose) for tool in tools
    ]


def _format(tool: Any, purpose: tuple[str, bool | None]) -> FormattedTool:
    made = converted(tool, purpose, lambda: _completed(_formatted(tool, purpose[1])))
    result = FormattedTool(made)
    result["function"] = {**made["function"]}
    return result


def _formatted(tool: Any, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Mapping) and tool.get("type") == "function":
        return dict(tool)
    from langchain_core.utils.function_calling import (  # noqa: PLC0415  # slow
        convert_to_openai_tool,
    )

    formatted: dict[str, Any]
    try:
        formatted = convert_to_openai_tool(with_defaults(tool), strict=strict)
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
    function = formatted.get("function")
    if not isinstance(function, dict):
        return formatted
    # langchain-core truncates recursive schemas.
    if _has_gap(function.get("parameters")):
        schema = _recursive_schema(tool)
        if schema is not None:
            parameters = {
                k: v for k, v in schema.items() if k not in ("title", "description")
            }
            formatted["function"] = {**function, "parameters": parameters}
    return formatted


def _has_gap(schema: object) -> bool:
    """Return whether a part of a schema says nothing about its values."""
    # langchain-core leaves such a part in place of a recursive reference. Without this
    # look, the schema of each tool would have to be built a second time.
    if not isinstance(schema, Mapping):
        return False
    if not schema.keys() & _SHAPES:
        return True
    parts: list[Any] = [schema.get(key) for key in ("items", "additionalProperties")]
    for key in ("properties", "patternProperties"):
        parts += (schema.get(key) or {}).values()
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        parts += schema.get(key) or ()
    return any(map(_has_gap, parts))


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
            schema = source if isinstance(source, dict) else schema_of(source)
        elif isinstance(tool, type):
            schema = schema_of(tool)
        elif inspect.isfunction(tool):
            source = StructuredTool.from_function(tool).tool_call_schema
            schema = schema_of(source)
    return schema if isinstance(schema, dict) and is_recursive(schema) else None


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
