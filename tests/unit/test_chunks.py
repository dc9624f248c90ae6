from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import operator
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

from langchain_nscale._replies import chunks
from langchain_nscale._replies.chunks import make_chunk
from langchain_nscale._replies.tool_calls import (
    breaker,
    original_arguments,
    parse_tool_calls,
)


def test_a_fast_chunk_equals_a_validated_one() -> None:
    fast = make_chunk(text="hi", additional_kwargs={"reasoning_content": "r"})
    slow = ChatGenerationChunk(
        message=AIMessageChunk(
            content="hi",
            additional_kwargs={"reasoning_content": "r"},
        )
    )
    assert fast == slow
    assert fast.message.__pydantic_extra__ == slow.message.__pydantic_extra__ == {}
    assert fast.message.model_copy(update={"a": 1}) != slow.message
    assert fast.model_dump() == slow.model_dump()
    assert pickle.loads(pickle.dumps(fast)) == slow
    assert dumpd(fast.message) == dumpd(slow.message)
    assert dumpd(fast.message)["id"][-1] == "AIMessageChunk"


def test_fast_chunks_share_nothing_that_can_change() -> None:
    one, two = make_chunk(text="1"), make_chunk(text="2")
    one.message.additional_kwargs["x"] = 1
    one.message.response_metadata["x"] = 1
    one.message.name = "x"
    assert two == make_chunk(text="2")
    assert two.message.name is None


def test_without_pydantics_known_layout_chunks_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = (*BaseModel.__slots__, "__pydantic_other__")
    monkeypatch.setattr(BaseModel, "__slots__", slots)
    spec = importlib.util.find_spec(chunks.__name__)
    assert spec is not None
    assert spec.loader is not None
    other: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    assert other._like is not other._fast_copy
    call = tool_call_chunk(name="f", args="{", id="c", index=0)
    for arguments in (
        {"text": "hi"},
        {"additional_kwargs": {"reasoning_content": "r"}},
        {"call_chunk": call, "response_metadata": {"a": 1}},
        {"text": "hi", "content": [{"type": "text", "text": "hi"}]},
    ):
        fast, plain = chunks.make_chunk(**arguments), other.make_chunk(**arguments)
        assert fast == plain
        assert fast.message.model_fields_set == plain.message.model_fields_set
        assert vars(fast.message) == vars(plain.message)
        assert fast.message.__pydantic_extra__ == plain.message.__pydantic_extra__


@pytest.mark.parametrize(
    ("raw", "args"),
    [
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": "line\nline"}', {"a": "line\nline"}),
        ('{"a": "日本"}', {"a": "日本"}),
    ],
)
def test_arguments_that_can_be_executed(raw: str, args: dict[str, object]) -> None:
    valid, invalid = parse_tool_calls([tool_call_chunk(name="f", args=raw, id="1")])
    assert [call["args"] for call in valid] == [args]
    assert invalid == []


@pytest.mark.parametrize(
    "raw",
    [
        '{"a": 1',
        '{"a": "x',
        "[1]",
        '"text"',
        "3",
        "{'a': 1}",
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        r'{"a": "\ud83d"}',
    ],
)
def test_arguments_that_cannot_be_executed(raw: str) -> None:
    valid, invalid = parse_tool_calls([tool_call_chunk(name="f", args=raw, id="1")])
    assert valid == []
    assert [(call["name"], call["id"], call["args"]) for call in invalid] == [
        ("f", "1", raw)
    ]
    assert "arguments" in str(invalid[0]["error"])


def call_chunks(*fragments: str) -> list[AIMessageChunk]:
    first = make_chunk(call_chunk=tool_call_chunk(name="f", id="1", index=0))
    rest = [
        make_chunk(call_chunk=tool_call_chunk(args=fragment, index=0))
        for fragment in fragments
    ]
    messages = [chunk.message for chunk in [first, *rest]]
    assert all(isinstance(message, AIMessageChunk) for message in messages)
    return messages  # type: ignore[return-value]  # as just asserted


def test_partial_arguments_are_readable_while_they_arrive() -> None:
    first, second = call_chunks('{"a": 1')
    assert first.tool_calls == [{"name": "f", "args": {}, "id": "1", "type": "tool_call"}]
    assert (first + second).tool_calls[0]["args"] == {"a": 1}


ARGUMENTS = st.one_of(
    st.text(alphabet='{}[]"\\\n:,a1 ', max_size=30),
    st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())).map(
        json.dumps
    ),
)


@given(raw=ARGUMENTS, places=st.lists(st.integers(min_value=0), max_size=5))
@example(raw='{""', places=[])
def test_a_call_with_a_breaker_is_never_executable(raw: str, places: list[int]) -> None:
    """However the chunks are added up, and wherever the arguments are split."""
    pieces = cut_text(raw, places)
    end = tool_call_chunk(name=None, args=breaker(raw), id=None, index=0)
    last = AIMessageChunk(content="", tool_call_chunks=[end], chunk_position="last")
    chunks = [*call_chunks(*pieces), last]
    sums = [
        functools.reduce(operator.add, chunks),
        functools.reduce(operator.add, chunks, AIMessageChunk(content="")),
        chunks[0] + chunks[1:],
        add_ai_message_chunks(*chunks),
    ]
    for total in sums:
        assert total.tool_calls == []
        message: Any = message_chunk_to_message(total)
        assert type(message) is AIMessage
        (call,) = message.invalid_tool_calls
        assert original_arguments(call["args"] or "") == raw


def test_other_arguments_are_left_as_they_are() -> None:
    for args in ("", "]", '{"a": 1}', "] [not executable] ", "x [not executable]"):
        assert original_arguments(args) == args


def test_every_chunk_is_langchains_own() -> None:
    for chunk in call_chunks('{"a": 1}'):
        assert type(chunk) is AIMessageChunk
        assert type(message_chunk_to_message(chunk)) is AIMessage


def cut_text(text: str, places: list[int]) -> list[str]:
    marks = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in itertools.pairwise([0, *marks, len(text)]) if b > a]
