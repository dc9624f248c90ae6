"""Converts tools, tool choices and schemas to the API's form."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from langchain_nscale._requests.schemas import INVALID_IN_NAME, MAX_NAME
from langchain_nscale._requests.tool_formats import (
    FormattedTool as FormattedTool,  # noqa: PLC0414  # pickles of 0.1.0 have it here
)


def tool_names(tools: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of tools in the API's form."""
    return [tool["function"]["name"] for tool in tools]


def names_in(tools: object) -> list[str]:
    """Return the names of tools in the API's form, and ignore anything else."""
    entries = tools if isinstance(tools, (list, tuple)) else ()
    functions = [tool.get("function") for tool in entries if isinstance(tool, Mapping)]
    names = [each.get("name") for each in functions if isinstance(each, Mapping)]
    return [name for name in names if isinstance(name, str)]


@lru_cache(maxsize=1024)  # asked for each tool several times in each call
def api_name(name: str) -> str:
    """Return the name under which the API knows a tool."""
    # MCP servers publish names with dots, slashes and spaces, or of 80 characters. Such a
    # name is changed to valid characters and ends in a hash of the original.
    if not re.search(INVALID_IN_NAME, name) and len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{re.sub(INVALID_IN_NAME, '_', name)[: MAX_NAME - 9]}_{digest}"


def with_api_names(tools: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools under the names that the API accepts."""
    functions = ((tool, tool["function"]) for tool in tools)
    return [
        {**tool, "function": {**function, "name": api_name(function["name"])}}
        for tool, function in functions
    ]


def convert_tool_choice(
    choice: str | bool | dict[str, Any] | None, names: Sequence[str]
) -> str | dict[str, Any] | None:
    """Convert LangChain's forms of `tool_choice` to the API's."""
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
        bound = ", ".join(map(repr, names)) or "none are bound"
        msg = (
            f"tool_choice={choice!r} is not one of the bound tools ({bound}). Use a "
            "tool's name, 'auto', 'none', 'any', 'required', a bool or None."
        )
        raise ValueError(msg)
    return {"type": "function", "function": {"name": name}}


class ParsedChoice(dict[str, Any]):
    """A tool choice whose reply goes to a parser, which reports a missing call itself."""


def demands_call(choice: object) -> bool:
    """Return whether a reply to this choice must have a tool call."""
    is_demand = choice is True or choice in ("any", "required")
    return is_demand or (
        isinstance(choice, dict) and choice.get("type") not in ("auto", "none")
    )


def check_choice_without_tools(choice: object) -> None:
    """Reject a choice that demands a call, since there are no tools."""
    if choice not in (None, "auto", "none"):
        msg = f"tool_choice={choice!r} demands a tool call, but there are no tools."
        raise ValueError(msg)
