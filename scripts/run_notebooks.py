"""`python -m scripts.run_notebooks`: runs the notebooks and stores their outputs."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.pages.runner import ROOT

files: Any = nbformat  # partly untyped
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def execute(path: Path) -> Any:
    """Run a notebook; return it with its current outputs."""
    notebook = files.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=100, kernel_name="python3", resources=resources
        ).execute(env=_reader(folder))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # timestamps
    return notebook


def _reader(home: str) -> dict[str, str]:
    """Return the environment of a reader without a token; pip finds all it needs."""
    kept = ("PATH", "LANG", "JUPYTER_PATH")
    variables = {name: os.environ[name] for name in kept if name in os.environ}
    return {**variables, "HOME": home, "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "1"}


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
