"""`python -m tests.templates.environment`: chat templates, and what renders them.

The templates are those of 70 models, as the source package llama-cpp-python 0.3.36 has
them. They stay in .venv-templates, with transformers and mistral-common.
"""

from __future__ import annotations

import subprocess
import tarfile
import venv
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-templates"
PYTHON = FOLDER / "bin" / "python"
TEMPLATES = FOLDER / "templates"
READY = FOLDER / ".ready"
SOURCE = "llama-cpp-python==0.3.36"
PACKAGES = (
    "jinja2==3.1.6",
    "mistral-common==1.13.1",
    "scikit-build-core==1.1.2",  # which pip needs to look at the source package
    "transformers==5.19.0",
)


def pip(*arguments: object) -> None:
    """Run the environment's pip; a failure ends the program."""
    command = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run([str(part) for part in command], check=True)  # noqa: S603  # our own


def build() -> None:
    """Create the environment, and fetch the templates."""
    if READY.exists():
        return
    venv.create(FOLDER, with_pip=True, clear=True)
    pip("install", *PACKAGES)
    options = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation")
    pip("download", *options, "--dest", FOLDER, SOURCE)
    (archive,) = FOLDER.glob("*.tar.gz")
    TEMPLATES.mkdir()
    with tarfile.open(archive) as files:
        for member in files:
            path = PurePosixPath(member.name)
            content = files.extractfile(member) if path.suffix == ".jinja" else None
            if content and path.parent.name == "templates":
                (TEMPLATES / path.name).write_bytes(content.read())
    archive.unlink()
    READY.touch()


if __name__ == "__main__":
    build()
