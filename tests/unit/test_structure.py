"""Which test modules look inside of the package: the list can only become shorter."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
# What may import private modules, and why. All others use the public API, by
# `tests/unit/service.py` or on loopback.
INSIDE = {
    "conftest.py": "forgets model lists between tests",
    "integration/test_batch.py": "the files of a batch, and how a line is read",
    "integration/test_batch_faults.py": "how long a batch waits",
    "integration/test_cli.py": "the commands as click knows them",
    "integration/test_cli_options.py": "the table of options in errors",
    "pages/runner.py": "answers of the documentation",
    "templates/test_templates.py": "the profiles, where LangChain's tools expect them",
    "unit/settings/test_connection.py": "every field that can be sent",
    "unit/replies/test_chunks.py": "what makes arguments unreadable: a pure function",
    "unit/cli/test_display.py": "complete blocks: a pure function",
    "unit/http/test_kept.py": "the pool takes what calls later as an argument",
    "unit/http/test_limits.py": "the time of a call takes a clock as an argument",
    "unit/replies/test_partial_json.py": "a pure function",
    "unit/test_patterns.py": "fences in texts: a pure function",
    "unit/test_model_facts.py": "each fact about a model has a source",
    "unit/replies/test_sse.py": "bytes to events: a pure function",
    "unit/cli/test_terminal.py": "harmless text: a pure function",
    "unit/test_usage.py": "a call takes a clock as an argument",
    "unit/http/test_wire.py": "bytes of HTTP, compared with httpx2's: pure functions",
}
IMPORTS = 31  # their import statements
# Where something private is replaced, and how often.
PATCHES = {
    "integration/test_batch.py": 1,  # a file that is full
    "integration/test_batch_faults.py": 2,  # how long a batch waits
    "integration/test_cli.py": 1,  # a command that is broken
    "integration/test_factory.py": 1,  # LangChain's own list, as a later version has it
}
# Run by themselves, to measure or to break something.
PROGRAMS = ("benchmarks", "mutate", "soak")


def is_private(module: str) -> bool:
    return bool(re.match(r"langchain_nscale\.(\w+\.)*_(?!_)", f"{module}."))


def private_imports(source: str) -> int:
    """The number of statements that import something private of the package."""
    return sum(
        any(is_private(f"{node.module}.{alias.name}") for alias in node.names)
        if isinstance(node, ast.ImportFrom)
        else any(is_private(alias.name) for alias in node.names)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    )


SOURCES = {
    path.relative_to(TESTS).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(TESTS.rglob("*.py"))
    if path.relative_to(TESTS).parts[0] not in PROGRAMS
}


def test_no_other_module_looks_inside() -> None:
    found = {name: private_imports(source) for name, source in SOURCES.items()}
    assert {name for name, count in found.items() if count} == INSIDE.keys()
    assert sum(found.values()) <= IMPORTS


def test_nothing_private_is_replaced() -> None:
    pattern = (
        r'(setattr|delattr|patch)\(\s*"langchain_nscale\.[\w.]*\b_[a-z]'
        r'|(setattr|delattr|object)\([^"()]+,\s*"_(?!_)'
    )
    found = [
        name for name, source in SOURCES.items() for _ in re.findall(pattern, source)
    ]
    assert Counter(found) == PATCHES


# --- the mirror -------------------------------------------------------------------------

# Modules of `unit` that are about all of the package, its pages or its surroundings.
OF_ALL = {
    "annotations",
    "code_of_pages",
    "constructors",
    "every_way",
    "generated_pages",
    "growth",
    "layers",
    "mutants",
    "packages_page",
    "patterns",
    "proofs",
    "public_api",
    "readme",
    "saved",
    "standard",
    "structure",
    "upstream",
}
UNIT = TESTS / "unit"
PACKAGE = TESTS.parent / "langchain_nscale"


def test_unit_tests_mirror_the_package() -> None:
    """`unit/replies/test_sse.py` and `test_sse_….py` test `_replies/sse.py`."""
    for path in UNIT.rglob("test_*.py"):
        folder = "" if path.parent == UNIT else f"_{path.parent.name}"
        modules = {module.stem.strip("_") for module in (PACKAGE / folder).glob("*.py")}
        name = path.stem.removeprefix("test_")
        of_module = any(f"{name}_".startswith(f"{module}_") for module in modules)
        assert of_module or (not folder and name in OF_ALL), path.relative_to(TESTS)
