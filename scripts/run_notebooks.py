"""`python -m scripts.run_notebooks`: runs the notebooks and stores their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.pages.runner import ROOT, environment

files: Any = nbformat  # partly untyped
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def execute(path: Path) -> Any:
    """Run a notebook; return it with its current outputs."""
    notebook = files.read(path, as_version=4)
    with environment():
        NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # timestamps
    return notebook


def outputs(notebook: Any) -> list[str]:
    """Return the text that each cell shows."""
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
