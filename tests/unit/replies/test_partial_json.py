"""A JSON text that arrives in pieces has the value that jiter sees in each beginning."""

from __future__ import annotations

import json
from typing import Any

import jiter
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_nscale._replies.partial_json import PartialJson  # a pure function's twin

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8).filter(lambda text: text.isascii() or text.isprintable()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text('ab"\\u é😀', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
CONTAINERS = JSON.filter(lambda value: isinstance(value, (dict, list)))


def expected(text: str) -> Any:
    data = text.encode("utf-8", "replace")
    return jiter.from_json(data, partial_mode="trailing-strings")


@given(CONTAINERS, st.booleans(), st.sampled_from([None, 1]), st.data())
@example([1.5, -0.0, 1e300], False, None, None)
def test_each_beginning_has_the_value_that_jiter_sees(
    value: Any, ascii_only: bool, indent: int | None, data: Any
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    reader = PartialJson()
    position, before, version = 0, None, 0
    while position < len(text):
        size = 1 if data is None else data.draw(st.integers(1, 5))
        reader.feed(text[position : position + size])
        position += size
        assert reader.value == expected(text[:position])
        assert (reader.version > version) == (reader.value != before)
        before, version = reader.value, reader.version
    assert reader.has_ended
    assert reader.value == value


@given(st.text('{}[]",:\\u0123abtrfnNI -.eE\n`'), st.integers(1, 7))
def test_no_text_raises_or_loses_what_was_there(text: str, size: int) -> None:
    whole, pieces = PartialJson(), PartialJson()
    whole.feed(text)
    for start in range(0, len(text), size):
        pieces.feed(text[start : start + size])
    assert pieces.value == whole.value


@pytest.mark.parametrize(
    "text", ["", " ", "```", "```json", "``", "Sure", '"text"', "12", "null", "}"]
)
def test_other_texts_have_no_value(text: str) -> None:
    reader = PartialJson()
    reader.feed(text)
    assert reader.value is None


@pytest.mark.parametrize("fence", ["```json\n", "```\n", "\n ```json", "```json "])
def test_a_fence_is_skipped(fence: str) -> None:
    reader = PartialJson()
    for character in f'{fence}{{"a": [1]}}\n```\nThat is it.':
        reader.feed(character)
    assert reader.value == {"a": [1]}
    assert reader.has_ended


def test_earlier_values_do_not_change() -> None:
    reader = PartialJson()
    values = []
    for character in '{"a": {"b": [1, "two"]}}':
        reader.feed(character)
        values.append((reader.value, json.dumps(reader.value)))
    assert all(json.dumps(value) == text for value, text in values)


def test_deep_nesting_ends_the_value() -> None:
    reader = PartialJson()
    reader.feed("[" * 100_000)
    assert reader.has_ended
