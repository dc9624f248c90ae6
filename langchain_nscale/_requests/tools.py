"""Converts tools, tool choices and schemas to the API's form."""

from __future__ import annotations

import hashlib
import inspect
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from langchain_core.utils.function_calling import (
    convert_to_openai_tool,
)

from langchain_nscale._requests.schemas import (
    INVALID_IN_NAME,
    MAX_NAME,
    is_recursive,
    schema_of,
    without_unsupported,
)


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
            schema = source if isinstance(source, dict) else schema_of(source)
        elif isinstance(tool, type):
            schema = schema_of(tool)
        elif inspect.isfunction(tool):
            source = StructuredTool.from_function(tool).tool_call_schema
            schema = schema_of(source)
        elif isinstance(tool, Mapping) and "properties" in tool:
            schema = dict(tool)
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
    if not re.search(INVALID_IN_NAME, name) and len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{re.sub(INVALID_IN_NAME, '_', name)[: MAX_NAME - 9]}_{digest}"


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
