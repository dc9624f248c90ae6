"""What a capable model would answer to LangChain's standard suite, by rule."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from langchain_nscale.testing import ServerReply, ToolCallReply


def text_of(content: Any) -> str:
    parts = [content] if isinstance(content, str) else content or []
    return " ".join(
        each if isinstance(each, str) else each.get("text", "") for each in parts
    )


def respond(body: Mapping[str, Any]) -> ServerReply | None:
    """Call the tool that the last message asks for; `None` leaves it to the server."""
    tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools", [])}
    last = body["messages"][-1]
    if (body.get("response_format") or {}).get("type") == "json_object":
        keys = re.findall(r"'(\w+)'", text_of(last["content"]))
        return ServerReply(text=json.dumps(dict.fromkeys(keys, "text")))
    if not tools or last["role"] != "user" or body.get("tool_choice") == "none":
        return None
    said = text_of(last["content"])
    for name in tools:
        if match := re.search(rf"{name}\((\d+)\)", said):
            args: dict[str, Any] = {"input": int(match[1])}
        elif name == "unicode_customer":
            quoted = re.search(r"'(.+?)'", said)
            customer = quoted[1] if quoted else ""
            args = {"customer_name": customer, "description": "text"}
        elif name == "get_weather" and "weather" in said:
            args = {"location": "San Francisco, CA"}
        elif name not in said and body.get("tool_choice") in (None, "auto"):
            continue
        else:
            return None  # the server calls it by itself
        return ServerReply(tool_calls=[ToolCallReply(name, args)])
    return None
