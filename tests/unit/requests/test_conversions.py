"""Tools and schemas are converted once, and again as soon as they have changed."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import StructuredTool, tool
from pydantic import BaseModel, Field, create_model
from typing_extensions import TypedDict

from langchain_nscale import ChatNscale


def formatted(*tools: Any, **options: Any) -> list[Any]:
    model = ChatNscale(model="m", service_token="t")
    bound: Any = model.bind_tools(list(tools), **options)
    return list(bound.kwargs["tools"])


def add(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


class Point(BaseModel):
    """A point."""

    x: int = Field(description="to the right")


class Size(TypedDict):
    """A size."""

    width: int


@dataclass
class Weight:
    """A weight."""

    grams: int


@tool
def weather(city: str) -> str:
    """Get the weather."""
    return city


class Node(BaseModel):
    """A tree."""

    children: list[Node]


@tool
def tree(root: Node, depth: Any) -> str:
    """Plant a tree."""
    return str((root, depth))


def api_form(**parameters: Any) -> dict[str, Any]:
    function = {"name": "f", "parameters": {"type": "object", **parameters}}
    return {"type": "function", "function": function}


SOURCES: dict[str, Any] = {
    "function": add,
    "class": Point,
    "TypedDict": Size,
    "tool": weather,
    "recursive tool": tree,
    "recursive class": Node,
    "dict": api_form(properties={"a": {"type": "string"}}),
    "incomplete dict": api_form(properties={"a": {"contains": {}, "type": "array"}}),
    "Anthropic's form": {"name": "f", "input_schema": {"type": "object"}},
}


# These are the first conversions, since no other module knows the sources.
FIRST = {name: copy.deepcopy(formatted(each)[0]) for name, each in SOURCES.items()}
FIRST_STRICT = {
    name: copy.deepcopy(formatted(each, strict=True)[0]) for name, each in SOURCES.items()
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_repeated_conversion_equals_the_first(name: str) -> None:
    assert formatted(SOURCES[name])[0] == FIRST[name]
    assert formatted(SOURCES[name], strict=True)[0] == FIRST_STRICT[name]
    assert formatted(SOURCES[name])[0] == FIRST[name]


@pytest.mark.parametrize("name", SOURCES)
def test_whoever_changes_a_result_changes_no_other(name: str) -> None:
    source = SOURCES[name]
    before = copy.deepcopy(source) if isinstance(source, dict) else None
    changed = formatted(source)[0]
    changed["function"]["name"] = "other"
    changed["function"]["description"] = "other"
    changed["type"] = "other"
    assert formatted(source)[0] == FIRST[name]
    if before is not None:
        assert source == before


@pytest.mark.parametrize("name", [n for n in SOURCES if n != "dict"])
def test_results_share_no_schema(name: str) -> None:
    formatted(SOURCES[name])[0]["function"]["parameters"]["extra"] = 1
    assert formatted(SOURCES[name])[0] == FIRST[name]


def renamed(made: Any) -> None:
    made.name = "other"


def redescribed(made: Any) -> None:
    made.description = "Something else."


def with_other_schema(made: Any) -> None:
    made.args_schema = create_model("Other", country=(str, ...))


def with_dict_schema(made: Any) -> None:
    made.args_schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    formatted(made)
    made.args_schema["properties"]["r"] = {"type": "integer"}


@pytest.mark.parametrize(
    "change", [renamed, redescribed, with_other_schema, with_dict_schema]
)
def test_a_changed_tool_is_converted_again(change: Callable[[Any], None]) -> None:
    made = StructuredTool.from_function(add)
    first = formatted(made)[0]
    change(made)
    second = formatted(made)[0]
    assert second != first
    another = StructuredTool.from_function(add)
    change(another)
    assert second == formatted(another)[0]


def test_a_changed_function_is_converted_again() -> None:
    def f(a: int) -> int:
        """Do."""
        return a

    assert formatted(f)[0]["function"]["description"] == "Do."
    f.__doc__ = "Do more."
    f.__annotations__["a"] = str
    function = formatted(f)[0]["function"]
    assert function["description"] == "Do more."
    assert function["parameters"]["properties"]["a"]["type"] == "string"


def test_a_rebuilt_class_is_converted_again() -> None:
    made = create_model("Made", x=(int, Field(description="first")))
    assert "first" in str(formatted(made))
    made.model_fields["x"].description = "second"
    made.model_rebuild(force=True)
    assert "second" in str(formatted(made))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(2, 9) | st.text("abc", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "type", "contains"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON)
def test_a_dict_that_changes_is_converted_again(first: Any, second: Any) -> None:
    source = api_form(properties={"a": {"default": first}})
    formatted(source)
    source["function"]["parameters"]["properties"]["a"] = {"default": second}
    assert formatted(source) == formatted(copy.deepcopy(source))


def test_conversions_are_forgotten_with_their_tools() -> None:
    made = StructuredTool.from_function(add)
    formatted(made)
    schema: Any = made.args_schema  # by which a change is noticed
    left = weakref.ref(schema)
    del made, schema
    gc.collect()
    assert left() is None


def test_only_so_many_dicts_are_kept() -> None:
    dicts = [api_form(title=str(n)) for n in range(1_000)]
    before = [sys.getrefcount(each) for each in dicts]
    for each in dicts:
        formatted(each)
    del each
    after = [sys.getrefcount(each) for each in dicts]
    kept = sum(a > b for a, b in zip(after, before, strict=True))
    assert 0 < kept <= 512


def test_what_cannot_be_kept_is_converted_each_time() -> None:
    properties = {"a": {"type": "number", "default": Decimal("1.5")}}
    schema = {"type": "object", "properties": properties}
    made = StructuredTool.from_function(add, args_schema=schema)
    for source in (made, api_form(properties=properties)):
        assert formatted(source) == formatted(source)
        assert Decimal("1.5") in leaves(formatted(source))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


@pytest.mark.parametrize(
    "schema", [Point, Size, Weight, {"title": "T", "type": "object"}]
)
def test_schemas_of_answers_are_converted_once(schema: Any) -> None:
    model = ChatNscale(model="m", service_token="t")
    first: Any = model.with_structured_output(schema)
    second: Any = model.with_structured_output(schema)
    bound = [each.first.kwargs["response_format"] for each in (first, second)]
    assert bound[0] == bound[1]
    bound[0]["json_schema"]["schema"]["extra"] = 1
    third: Any = model.with_structured_output(schema)
    assert third.first.kwargs["response_format"] == bound[1]
