"""Reads the script of `langchain-nscale serve --script`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from langchain_nscale.testing._rules import text_of
from langchain_nscale.testing._script import ServerReply, ToolCallReply

_FIELDS = {field.name for field in fields(ServerReply)} - {"sse"}


def read_script(
    path: Path,
) -> tuple[list[ServerReply], Callable[..., ServerReply | None]]:
    """Return the replies of a script in their order, and a responder for its rules.

    A script is a list in JSON, or one entry per line. An entry is the text of a reply, or
    an object with the fields of `ServerReply`. With `if`, a regular expression, it is a
    rule instead: the reply to every last message in which it is found, once the others
    are used up.

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
        return next((reply for pattern, reply in rules if pattern.search(last)), None)

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
    if unknown := entry.keys() - _FIELDS - {"if"}:
        msg = f"Entry {number} of the script has an unknown field {min(unknown)!r}."
        raise ValueError(msg)
    values = {key: value for key, value in entry.items() if key != "if"}
    try:
        calls = [ToolCallReply(**call) for call in values.pop("tool_calls", ())]
        pattern = re.compile(entry["if"]) if "if" in entry else None
    except (TypeError, re.error) as error:
        msg = f"Entry {number} of the script: {error}"
        raise ValueError(msg) from None
    return pattern, ServerReply(**values, tool_calls=calls)
