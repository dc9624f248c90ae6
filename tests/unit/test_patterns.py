"""Patterns that see foreign text take linear time for their worst input."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import langchain_nscale
from langchain_nscale import _error_bodies, templates
from langchain_nscale._json import fenced_blocks
from langchain_nscale._replies import leniency
from langchain_nscale._requests import fitting, schemas, tools
from langchain_nscale._structured import complete_json
from langchain_nscale.testing import _rules

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
    "testing/_templates.py": "IDs in requests to the stand-in",
    "templates.py": "the beginning of a rejection",
}


def ignore(function: Callable[[str], Any]) -> Callable[[str], Any]:
    def call(text: str) -> None:
        try:
            function(text)
        except ValueError:
            return

    return call


# What reads foreign text, with texts that make a careless pattern slow.
READERS: dict[str, tuple[Callable[[str], Any], list[str]]] = {
    "_error_bodies.py": (
        lambda text: _error_bodies.error_message({"message": text}),
        [" ", "'loc':(", "'loc':(a),'msg':'", 'File "', "exceeds ", "\\", "inputs "],
    ),
    "_error_bodies.py: overflow": (
        lambda text: _error_bodies.is_overflow({}, text),
        ["exceeds ", "exceeded the ", "input ", "greater than the ", "maximum "],
    ),
    "_json.py": (
        lambda text: list(fenced_blocks(text)),
        ["x```\n", "```a\n", "~~~\n", "`"],
    ),
    "_replies/leniency.py": (
        leniency._AROUND_NAME.fullmatch,
        ["functions.", ":1", ":", " ", "<|", "<", "1"],
    ),
    "_requests/fitting.py": (fitting._NINE.fullmatch, ["a", "_"]),
    "_requests/schemas.py": (
        lambda text: schemas.is_recursive({"$defs": {"a": {"x": text}}}),
        ['"$ref": "#/$defs/', "(?", "(?<"],
    ),
    "_requests/tools.py": (tools.api_name, ["a", "/", "é"]),
    "_structured.py": (
        ignore(complete_json),
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
    "testing/_rules.py": (_rules.split_words, [" ", "a", " a"]),
    "templates.py": (templates.violated_rule, ["roles must ", " "]),
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
