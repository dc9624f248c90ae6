"""The pages on other software say nothing without a test or finding that proves it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FINDINGS = sorted((ROOT / "findings").glob("*.sh"))
PAGES = [ROOT / "docs" / "vllm.md", ROOT / "docs" / "frameworks.md"]
PROOF = re.compile(r"`(findings/[\w-]+|[\w/]+\.py::\w+)`")
ROW = re.compile(r"^\|(?! *(?:---|[^|]*\|[^\n]*\| Proof \|)).*\|$", re.MULTILINE)


def rows(page: Path) -> list[str]:
    """The rows of the tables of a page, without their heads."""
    return ROW.findall(page.read_text(encoding="utf-8"))


def exists(proof: str) -> bool:
    path, _, name = proof.partition("::")
    if not name:
        return (ROOT / f"{path}.sh").is_file()
    file = ROOT / "tests" / path
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(
        node.name == name for node in ast.walk(tree) if isinstance(node, functions)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_names_its_proof(page: Path) -> None:
    assert len(rows(page)) > 10
    for row in rows(page):
        proofs = PROOF.findall(row.rsplit("|", 2)[1])
        assert proofs, row
        for proof in proofs:
            assert exists(proof), proof


def test_every_finding_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`findings/([\w-]+)`", text))
    assert named == {script.stem for script in FINDINGS}


@pytest.mark.parametrize("script", FINDINGS, ids=lambda script: script.stem)
def test_a_finding_has_the_form(script: Path) -> None:
    """As findings/README.md states it."""
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\n# Guess: " in text
    assert "\n# Why it matters: " in text
    assert "\nset -euo pipefail\n" in text
    assert "folder=$(mktemp -d)" in text
    assert 'rm -rf "$folder"' in text
    assert script.stat().st_mode & 0o111, "not executable"
    assert "langchain_nscale" not in text
    assert "--index-url" not in text
    assert re.search(r"==\d+\.\d+", text), "nothing is pinned"


def test_a_name_that_does_not_exist_is_found() -> None:
    assert exists("unit/test_proofs.py::test_every_row_names_its_proof")
    assert not exists("unit/test_proofs.py::test_nothing")
    assert not exists("findings/nothing")
