from __future__ import annotations

import ast
import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import langchain_nscale
from langchain_nscale import errors


def imported_names() -> set[str]:
    """The names that the package's `__init__` imports, its only list of them."""
    tree = ast.parse(Path(langchain_nscale.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        str(alias.asname)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def test_everything_imported_is_exported() -> None:
    exported: Any = vars(langchain_nscale)["__all__"]
    assert set(exported) == imported_names() | {"__version__"}
    assert dir(langchain_nscale) == sorted(exported)
    for name in exported:
        assert getattr(langchain_nscale, name) is not None
    own = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.NscaleError)
    }
    assert own <= set(exported)


def test_other_names_are_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="ChatNscal'"):
        _ = langchain_nscale.ChatNscal  # type: ignore[attr-defined]  # on purpose


def test_without_source_everything_is_imported_at_once(tmp_path: Path) -> None:
    """As in an installation that has only bytecode."""
    package = tmp_path / "langchain_nscale"
    shutil.copytree(Path(langchain_nscale.__file__).parent, package)
    compileall.compile_dir(package, legacy=True, quiet=1)
    for source in package.rglob("*.py"):
        source.unlink()
    code = "import langchain_nscale as n; print(n.__file__, n.ChatNscale, n.NscaleError)"
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(package) in done.stdout
    assert "__init__.pyc" in done.stdout


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import langchain_nscale", "langchain_core"),
        ("import langchain_nscale._pytest_plugin", "langchain_core"),
        ("from langchain_nscale import ChatNscale", "openai"),
        ("from langchain_nscale import ChatNscale", "langchain_openai"),
        ("from langchain_nscale import NscaleEmbeddings", "openai"),
        (
            "import langchain_nscale._cli.answer, langchain_nscale._cli.batch.run",
            "openai",
        ),
        ("import langchain_nscale._pytest_plugin", "uvicorn"),
        ("from langchain_nscale import ChatNscale", "langchain_nscale.testing"),
    ],
)
def test_nothing_is_imported_before_it_is_used(statement: str, absent: str) -> None:
    code = f"{statement}; import sys; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603  # our own code
    assert done.returncode == 0
