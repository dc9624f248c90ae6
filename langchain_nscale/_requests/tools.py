"""Converts tools, tool choices and schemas to the API's form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel

_MAX_NAME = 64  # characters
_REFERENCE = re.compile(r'"\$ref": "#/\$defs/([^"]+)"')


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


def tool_names(tools: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of tools in the API's form.

    Raises:
        ValueError: The API would reject a name or a schema.
    """
    names: list[str] = []
    for tool in tools:
        function = tool.get("function")
        if not isinstance(function, Mapping):
            msg = (
                f"A tool of type {tool.get('type')!r} can't be sent: Nscale only accepts "
                "functions."
            )
            raise ValueError(msg)  # noqa: TRY004  # like every other invalid setting
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
                f"The parameters of the tool {name!r} can't be sent: they must be a "
                'JSON Schema with "type": "object".'
            )
            raise ValueError(msg)
        names.append(name)
    return names


def response_format(
    schema: dict[str, Any] | type, *, strict: bool | None = None
) -> dict[str, Any]:
    """Return the `response_format` for a schema, or `schema` itself if it is one."""
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
    """Return the JSON Schema of a Pydantic class, TypedDict, dataclass or JSON Schema."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        converted = schema.model_json_schema()
        if _is_recursive(converted):
            # langchain-core would inline `$defs` and truncate recursive ones.
            return converted
    return convert_to_json_schema(with_title(schema), strict=strict)


def with_title(schema: Any) -> Any:
    """Give a JSON Schema a title, which the API requires as its name."""
    if isinstance(schema, dict) and "properties" in schema and not schema.get("title"):
        return {"title": "response", **schema}
    return schema


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition of a schema refers to itself, directly or indirectly."""
    references = {
        name: _REFERENCE.findall(json.dumps(definition))
        for name, definition in schema.get("$defs", {}).items()
    }
    try:
        TopologicalSorter(references).prepare()
    except CycleError:
        return True
    return False


def _schema_name(title: str) -> str:
    """Replace the characters that the API does not accept in a name; limit its length."""
    name = "".join(
        c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in title
    )
    return name[:_MAX_NAME] or "response"
