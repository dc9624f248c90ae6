"""Reads the script of `langchain-nscale serve --script`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from langchain_nscale.testing._rules import text_of
from langchain_nscale.testing._script import ServerReply, ToolCallReply

ANSWERS = Path(__file__).with_name("answers.jsonl")  # of the documentation's questions

_FIELDS = {field.name for field in fields(ServerReply)} - {"sse"}


def read_script(
    path: Path,
) -> tuple[list[ServerReply], Callable[..., ServerReply | None]]:
    r"""Return the replies of a script in their order, and a responder for its rules.

    A script is a list in JSON, or one entry per line. An entry is the text of a reply, or
    an object with the fields of `ServerReply`; `json` instead of `text` is an answer in
    JSON. With `if`, a regular expression, it is a rule instead: the reply to every
    last message that matches, once the scripted replies are used up. If the expression
    has groups, the text may refer to them, as in `\1`.

    Raises:
        ValueError: An entry is neither; the error names it.
    """
    text = path.read_text(encoding="utf-8")
    try:
        entries = json.loads(text)
    except ValueError:
        entries = [_entry(line, n) for n, line in enumerate(text.splitlines(), 1)]
    entries = entries if isinstance(entries, list) else [entries]
    replies, rules = [], []
    for number, entry in enumerate(entries, 1):
        if entry is None:
            continue
        pattern, reply = _reply(entry, number)
        if pattern is None:
            replies.append(reply)
        else:
            rules.append((pattern, reply))

    def respond(body: Mapping[str, Any]) -> ServerReply | None:
        last = text_of(body["messages"][-1].get("content"))
        for pattern, reply in rules:
            if match := pattern.search(last):
                if pattern.groups and reply.text is not None:
                    return replace(reply, text=match.expand(reply.text))
                return reply
        return None

    return replies, respond


def _entry(line: str, number: int) -> Any:
    if not line.strip():
        return None
    try:
        return json.loads(line)
    except ValueError as error:
        msg = f"Line {number} of the script is not JSON: {error}"
        raise ValueError(msg) from None


def _reply(entry: Any, number: int) -> tuple[re.Pattern[str] | None, ServerReply]:
    if isinstance(entry, str):
        return None, ServerReply(text=entry)
    if not isinstance(entry, dict):
        msg = f"Entry {number} of the script is neither a text nor an object."
        raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
    if unknown := entry.keys() - _FIELDS - {"if", "json"}:
        msg = f"Entry {number} of the script has an unknown field {min(unknown)!r}."
        raise ValueError(msg)
    values = {key: value for key, value in entry.items() if key not in ("if", "json")}
    if "json" in entry:
        values["text"] = json.dumps(entry["json"])
    try:
        calls = [ToolCallReply(**call) for call in values.pop("tool_calls", ())]
        pattern = re.compile(entry["if"]) if "if" in entry else None
        reply = ServerReply(**values, tool_calls=calls)
        if pattern is not None and pattern.groups and reply.text is not None:
            re.compile(f"{pattern.pattern}|").sub(reply.text, "")  # checks its groups
    except (TypeError, re.error) as error:
        msg = f"Entry {number} of the script: {error}"
        raise ValueError(msg) from None
    return pattern, reply


def documentation_answers() -> Callable[..., ServerReply | None]:
    """Return a responder that answers the questions of the documentation."""
    _, respond = read_script(ANSWERS)

    def respond_with_tools(body: Mapping[str, Any]) -> ServerReply | None:
        reply = respond(body)
        offered = {tool["function"]["name"] for tool in body.get("tools") or ()}
        is_offered = reply and all(call.name in offered for call in reply.tool_calls)
        return reply if is_offered else None

    return respond_with_tools
