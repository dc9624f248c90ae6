"""The constructors that editors and type checkers see, compared with the real ones."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import BaseModel

from langchain_nscale import ChatNscale, NscaleEmbeddings
from scripts.constructors import CLASSES, module_of, with_constructor
from tests.setting_names import setting_names

BOTH = pytest.mark.parametrize("cls", CLASSES)


def shown(cls: type) -> list[ast.FunctionDef]:
    """The constructors in the source of a class, overloads included."""
    tree = ast.parse(module_of(cls).read_text(encoding="utf-8"))
    (body,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    )
    functions = [
        node
        for node in ast.walk(body)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    return [function for function in functions if function.args.kwonlyargs]


def defaults(function: ast.FunctionDef) -> dict[str, Any]:
    """The parameters of a constructor, with the defaults of those that have one."""
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {
        argument.arg: ... if default is None else ast.literal_eval(default)
        for argument, default in pairs
    }


@BOTH
@pytest.mark.skipif(find_spec("ruff") is None, reason="`make test-min` has no ruff")
def test_they_are_up_to_date(cls: type[BaseModel]) -> None:
    source = module_of(cls).read_text(encoding="utf-8")
    assert source == with_constructor(source, cls), "run python -m scripts.constructors"


@BOTH
def test_they_have_every_name_of_every_setting(cls: type[BaseModel]) -> None:
    constructors = [defaults(function) for function in shown(cls)]
    assert set().union(*constructors) == setting_names(cls)
    required = {"model", "model_name"} & setting_names(cls)
    # One overload for each name of the model, which is all that is required.
    assert {name for one in constructors for name in one if one[name] is ...} == required
    for one in constructors:
        assert len([name for name in one if one[name] is ...]) == 1


@BOTH
def test_they_describe_every_parameter(cls: type[BaseModel]) -> None:
    docstring = ast.get_docstring(shown(cls)[0])
    assert docstring is not None
    for name in setting_names(cls):
        (line,) = (text for text in docstring.splitlines() if f"    {name}: " in text)
        assert line.strip()[len(name) + 1 :].strip()


@BOTH
def test_their_defaults_are_the_real_ones(cls: Any) -> None:
    # `metadata` has the versions of the packages.
    plain = {**dict(cls(model="m", service_token="t")), "metadata": None}
    (first, *_) = shown(cls)
    for name, value in defaults(first).items():
        if name in ("model", "service_token", "api_key"):
            continue
        made = cls(model="m", service_token="t", **{name: value})
        assert {**dict(made), "metadata": None} == plain


def test_both_classes_are_covered() -> None:
    assert [ChatNscale, NscaleEmbeddings] == CLASSES
