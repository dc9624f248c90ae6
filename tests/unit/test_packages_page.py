"""docs/packages.md and the packages that `make test-packages` tests are the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "packages"
ROW = re.compile(r"^\| `([\w-]+)`[^|]* \| (\S+) \|", re.MULTILINE)


def pins() -> dict[str, str]:
    """The newest version that is pinned of each package."""
    lines = sorted(
        line for file in TESTS.glob("*.txt") for line in file.read_text("utf-8").split()
    )
    parts = (re.fullmatch(r"([\w-]+)(?:\[\w+\])?==(\S+)", line) for line in lines)
    return {part[1]: part[2] for part in parts if part}


def test_every_row_is_tested_at_its_version() -> None:
    rows = dict(ROW.findall((ROOT / "docs" / "packages.md").read_text("utf-8")))
    assert rows == pins()
    assert len(rows) >= 15
    code = "".join(file.read_text("utf-8") for file in TESTS.glob("test_*.py"))
    assert set(re.findall(r'mark\.package\("([\w-]+)"\)', code)) == rows.keys()
