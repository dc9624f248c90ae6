"""What a capable model would answer to LangChain's standard suite, by rule."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from langchain_nscale.testing import ServerReply, ToolCallReply
from langchain_nscale.testing._rules import instance_of, text_of


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
    for name, function in tools.items():
        args = instance_of(function.get("parameters") or {})
        if match := re.search(rf"{name}\((\d+)\)", said):
            args = {"input": int(match[1])}
        elif name == "unicode_customer":
            quoted = re.search(r"'(.+?)'", said)
            args = {**args, "customer_name": quoted[1] if quoted else ""}
        elif name == "get_weather" and "weather" in said:
            args = {"location": "San Francisco, CA"}
        elif name not in said and body.get("tool_choice") in (None, "auto"):
            continue
        return ServerReply(tool_calls=[ToolCallReply(name, args)])
    return None
