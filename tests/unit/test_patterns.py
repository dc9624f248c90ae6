"""Patterns that see foreign text take linear time for their worst input."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import process_time
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

import langchain_nscale
from langchain_nscale import NscaleError, TemplateRules
from langchain_nscale._json import fenced_blocks
from tests.unit.answers import FINISH, chunk, streamed
from tests.unit.service import Service, chat, completion

PACKAGE = Path(langchain_nscale.__file__).parent
# Modules whose patterns only see what the user wrote, or a match of fixed length.
OWN_TEXT = {
    "_cli/batch/store.py": "the first bytes of its own file",
    "_cli/exits.py": "texts of this package's errors, of at most some hundred characters",
    "_failures.py": "an excerpt of 500 characters",
    "_http/address.py": "`base_url`",
    "_http/headers.py": "headers of a setting",
    "_replies/reply.py": "the version of langchain-core",
    "_replies/partial_json.py": "each character once (test_partial_json, test_growth)",
    "testing/_play.py": "the user's script",
    "testing/_rules.py": "texts of tests; test_server measures them",
    "testing/_templates.py": "IDs in requests to the stand-in",
    "templates.py": "the beginning of a rejection",
}


SCHEMA = {"title": "T", "type": "object", "properties": {}}


def rejected(text: str) -> None:
    """A service that rejects a call in these words."""
    answer = httpx2.Response(400, json={"error": {"message": text}})
    with suppress(NscaleError):
        chat(Service(answer), max_retries=0).invoke("Hi")


def written(text: str) -> None:
    """A model that streams this text."""
    streamed(chunk({"content": text}), chunk({"content": text}), FINISH)


def answered(text: str) -> None:
    """A model whose answer in a schema is this text."""
    chain = chat(Service(completion(text))).with_structured_output(
        SCHEMA, method="prompt"
    )
    with suppress(ValueError):
        chain.invoke("Hi")


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {}}}


def called(name: str) -> None:
    """A model that calls a tool of this name."""
    function = {"name": name, "arguments": "{}"}
    call = {"index": 0, "id": "a", "function": function}
    tools = {"tools": [named("f")]}
    streamed(chunk({"tool_calls": [call]}), FINISH, model_kwargs=tools)


def asked(call_id: str) -> None:
    """A history with this ID, for a model that takes IDs of nine characters."""
    call = {"name": "f", "args": {}, "id": call_id, "type": "tool_call"}
    messages = [HumanMessage("Hi"), AIMessage("", tool_calls=[call])]
    chat(template_rules=TemplateRules(call_ids="nine")).request_body(messages)


def formatted(text: str) -> None:
    """A schema with this text."""
    schema = {**SCHEMA, "$defs": {"a": {"description": text}}}
    chat().request_body("Hi", response_format=schema)


# What reads foreign text, with texts that make a careless pattern slow.
READERS: dict[str, tuple[Callable[[str], Any], list[str]]] = {
    "_error_bodies.py": (
        rejected,
        [" ", "'loc':(", "'loc':(a),'msg':'", 'File "', "exceeds ", "\\", "inputs "],
    ),
    "_error_bodies.py: overflow": (
        rejected,
        ["exceeds ", "exceeded the ", "input ", "greater than the ", "maximum "],
    ),
    "_json.py": (
        answered,
        ["x```\n", "```a\n", "~~~\n", "`"],
    ),
    "_replies/leniency.py": (
        called,
        ["functions.", ":1", ":", " ", "<|", "<", "1"],
    ),
    "_requests/fitting.py": (asked, ["a", "_"]),
    "_requests/schemas.py": (
        formatted,
        ['"$ref": "#/$defs/', "(?", "(?<"],
    ),
    "_requests/tools.py": (
        lambda name: chat().request_body("Hi", tools=[named(name)]),
        ["a", "/", "é"],
    ),
    "_structured.py": (
        answered,
        [
            "x```\n",
            "```a\n",
            "```",
            "[",
            "[x",
            '{"a"x',
            '{"a" ',
            "{}",
            "{ ",
            "{",
            '{"a":',
            "<think>",
            "</think>",
            "]",
        ],
    ),
    "_replies/repeats.py": (written, ["\\", '"', "a", "\\u"]),
    "templates.py": (rejected, ["roles must ", " "]),
}


def patterns_of(path: Path) -> bool:
    """Return whether a module uses a regular expression."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "re"
        and callable(getattr(re, node.attr, None))
        and node.attr not in ("escape", "Pattern", "Match", "error")
        for node in ast.walk(tree)
    )


def test_every_module_with_patterns_is_listed() -> None:
    using = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if patterns_of(path)
    }
    listed = {name.partition(":")[0] for name in READERS} | OWN_TEXT.keys()
    assert using <= listed


@pytest.mark.parametrize("name", READERS)
def test_time_is_linear(name: str) -> None:
    read, pieces = READERS[name]

    def seconds(piece: str, size: int) -> float:
        text = piece * (size // len(piece)) + "!"
        start = process_time()
        read(text)
        return process_time() - start

    for piece in pieces:
        small = min(seconds(piece, 50_000) for _ in range(3))
        # Quadratic time would be sixteen times as much.
        assert min(seconds(piece, 200_000) for _ in range(3)) < 10 * max(small, 0.003)


@given(st.text("`~a \n", max_size=60))
def test_blocks_are_those_of_the_pattern(text: str) -> None:
    pattern = r"(?ms)^[ \t]*(```|~~~)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$"
    assert list(fenced_blocks(text)) == [m[2] for m in re.finditer(pattern, text)]
