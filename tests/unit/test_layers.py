"""The layers are import-linter's contract, and the page's picture shows them."""

from __future__ import annotations

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


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_the_picture_is_up_to_date() -> None:
    shown = PICTURE.read_text(encoding="utf-8")
    assert shown == picture(), "run `python -m scripts.layers_picture`"
