"""The architecture page's picture is true: all modules are in it, imports go down."""

from __future__ import annotations

import ast
from pathlib import Path

import langchain_nscale
from tests.pages.layers import LAYERS, picture
from tests.pages.runner import ROOT

PACKAGE = Path(langchain_nscale.__file__).parent
LEVEL = {module: level for level, (_, modules) in enumerate(LAYERS) for module in modules}
# The package's own face, and what isn't code.
ASIDE = {"__init__", "__main__", "_version", "_pytest_plugin", "data", "testing"}


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports when it is loaded."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "langchain_nscale" and len(parts) > 1:
                found.add(parts[1])
    return found - ASIDE


def test_every_module_has_its_layer() -> None:
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"}
    modules |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert modules - ASIDE == set(LEVEL)


def test_imports_go_down() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.stem not in ASIDE:
            for other in imported(path):
                assert LEVEL[other] >= LEVEL[path.stem], (path.stem, other)


def test_the_picture_is_up_to_date() -> None:
    kept = (ROOT / "docs" / "pictures" / "layers.svg").read_text()
    assert kept == picture(), "`python -m tests.pages.layers` draws it anew"
