"""The layers are import-linter's contract, and the page's picture shows them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.layers_picture import PICTURE, ROOT, picture


def test_imports_only_point_downward() -> None:
    # In a process of its own: it reconfigures logging.
    command = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(  # noqa: S603  # our own code
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_walks_name_functions_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    walks = page.partition("## Walks")[2].partition("\n## ")[0]
    hops = re.findall(r"`(\w+)\.(\w+)`", walks)
    assert len(hops) > 20
    for module, name in hops:
        if name != "py":
            found = [*ROOT.glob(f"langchain_nscale/**/{module}.py")]
            sources = [path.read_text("utf-8") for path in found]
            pattern = rf"^ *(async )?(def|class) {name}\b"
            assert any(re.search(pattern, text, re.MULTILINE) for text in sources), name


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_the_picture_is_up_to_date() -> None:
    shown = PICTURE.read_text(encoding="utf-8")
    assert shown == picture(), "run `python -m scripts.layers_picture`"
