"""`python -m tests.pages.notebooks`: runs the notebooks and keeps their output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.pages.runner import ROOT, environment

files: Any = nbformat  # it has few types
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def execute(path: Path) -> Any:
    """A notebook with the output that it has now."""
    notebook = files.read(path, as_version=4)
    with environment():
        NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of a run
    return notebook


def outputs(notebook: Any) -> list[str]:
    """The text that each cell shows."""
    shown = []
    for cell in notebook.cells:
        parts = [
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.get("outputs", [])
        ]
        shown.append("".join(parts))
    return shown


if __name__ == "__main__":
    for path in NOTEBOOKS:
        files.write(execute(path), path)
