"""`make mutate` changes what it says, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.mutate.mutants import all_mutants

SOURCE = """
LIMIT: int = 3

def f(a, b=True):  # Umlaute: äöü
    if not a and b < LIMIT:
        a.append(f"{a + 1}")
    return a if b else None
"""
CHANGES = [
    ("LIMIT: int = 3", "LIMIT: int = (4)"),
    ("LIMIT: int = 3", "LIMIT: int = (2)"),
    ("def f(a, b=True", "def f(a, b=(False)"),
    ("if not a and b < LIMIT", "if (not a or b < LIMIT)"),
    ("if not a and b < LIMIT", "if (b < LIMIT)"),
    ("if not a and b < LIMIT", "if (not a)"),
    ("if not a and b < LIMIT", "if (a) and b < LIMIT"),
    ("if not a and b < LIMIT", "if not a and (b <= LIMIT)"),
    ('a.append(f"{a + 1}")', "pass"),
    ("return a if b else None", "return None"),
    ("return a if b else None", "return (None if b else a)"),
]


def test_the_changes_of_a_module(tmp_path: Path) -> None:
    module = tmp_path / "langchain_nscale" / "errors.py"
    module.parent.mkdir()
    module.write_text(SOURCE, encoding="utf-8")
    found = list(all_mutants(tmp_path))
    assert [(each.original, each.mutated) for each in found] == CHANGES
    for each in found:
        changed = each.source.decode()
        assert " ".join(changed.split()).count(each.mutated) == 1
        compile(changed, "errors.py", "exec")
    assert [each.lines for each in found[3:9]] == [(5,)] * 5 + [(6,)]
