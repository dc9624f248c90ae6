from __future__ import annotations

import subprocess
import sys

import pytest

import langchain_nscale
from langchain_nscale import errors


def test_all_that_is_exported_exists() -> None:
    assert dir(langchain_nscale) == sorted(langchain_nscale.__all__)
    for name in langchain_nscale.__all__:
        assert getattr(langchain_nscale, name) is not None
    own = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.NscaleError)
    }
    assert own <= set(langchain_nscale.__all__)


def test_other_names_are_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="ChatNscal'"):
        _ = langchain_nscale.ChatNscal


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import langchain_nscale", "langchain_core"),
        ("import langchain_nscale._pytest_plugin", "langchain_core"),
        ("import langchain_nscale._pytest_plugin", "uvicorn"),
        ("from langchain_nscale import ChatNscale", "langchain_nscale.testing"),
    ],
)
def test_nothing_is_imported_before_it_is_used(statement: str, absent: str) -> None:
    code = f"{statement}; import sys; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603  # our own code
    assert done.returncode == 0
