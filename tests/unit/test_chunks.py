from __future__ import annotations

import pickle

import pytest
from langchain_core.load import dumpd
from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_nscale._replies.chunks import NscaleMessageChunk, make_chunk
from langchain_nscale._replies.messages import parse_tool_calls


def test_a_fast_chunk_equals_a_validated_one() -> None:
    fast = make_chunk("id-1", text="hi", additional_kwargs={"reasoning_content": "r"})
    slow = ChatGenerationChunk(
        message=NscaleMessageChunk(
            content="hi",
            id="id-1",
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
    one, two = make_chunk("a", text="1"), make_chunk("a", text="2")
    one.message.additional_kwargs["x"] = 1
    one.message.response_metadata["x"] = 1
    one.message.name = "x"
    assert two == make_chunk("a", text="2")
    assert two.message.name is None


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
    "raw", ['{"a": 1', '{"a": "x', "[1]", '"text"', "3", "{'a': 1}", "[" * 100_000]
)
def test_arguments_that_cannot_be_executed(raw: str) -> None:
    valid, invalid = parse_tool_calls([tool_call_chunk(name="f", args=raw, id="1")])
    assert valid == []
    assert [(call["name"], call["id"], call["args"]) for call in invalid] == [
        ("f", "1", raw)
    ]
    assert "arguments" in str(invalid[0]["error"])


def call_chunks(*fragments: str) -> list[AIMessageChunk]:
    first = make_chunk("i", tool_call_chunk=tool_call_chunk(name="f", id="1", index=0))
    rest = [
        make_chunk("i", tool_call_chunk=tool_call_chunk(args=fragment, index=0))
        for fragment in fragments
    ]
    messages = [chunk.message for chunk in [first, *rest]]
    assert all(isinstance(message, AIMessageChunk) for message in messages)
    return messages  # type: ignore[return-value]  # as just asserted


def test_partial_arguments_are_readable_while_they_arrive() -> None:
    first, second = call_chunks('{"a": 1')
    assert first.tool_calls == [{"name": "f", "args": {}, "id": "1", "type": "tool_call"}]
    assert (first + second).tool_calls[0]["args"] == {"a": 1}


def test_cut_off_arguments_are_no_call_once_the_stream_has_ended() -> None:
    chunks = call_chunks('{"path": ', '"/')
    last = NscaleMessageChunk(content="", chunk_position="last")
    one_by_one = chunks[0] + chunks[1] + chunks[2] + last
    at_once = chunks[0] + [*chunks[1:], last]
    for merged in (one_by_one, at_once):
        assert type(merged) is AIMessageChunk
        assert merged.tool_calls == []
        assert merged.invalid_tool_calls[0]["args"] == '{"path": "/'
        message = message_chunk_to_message(merged)
        assert message.type == "ai"
        assert message.invalid_tool_calls == merged.invalid_tool_calls  # type: ignore[attr-defined]


def test_merging_with_another_class_of_message_is_left_to_the_base() -> None:
    with pytest.raises(TypeError):
        NscaleMessageChunk(content="") + 3
