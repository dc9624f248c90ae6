"""The notebooks run, and show what they say they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.run_notebooks import NOTEBOOKS, execute, files, outputs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path: Path) -> None:
    kept = outputs(files.read(path, as_version=4))
    again = "run `python -m scripts.run_notebooks` to store the new outputs"
    assert outputs(execute(path)) == kept, again
    assert any(kept)


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"chat", "agent", "rag"}
