from __future__ import annotations

import functools
import itertools
import json
import operator
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_nscale._replies.tool_calls import breaker, original_arguments
from tests.unit.answers import FINISH, chunk, invoked, model_of, read


def generations(*pieces: bytes) -> list[ChatGenerationChunk]:
    """The chunks that a handler of tokens gets."""
    found: list[ChatGenerationChunk] = []

    class Handler(BaseCallbackHandler):
        def on_llm_new_token(self, *_: Any, **fields: Any) -> None:
            found.append(fields["chunk"])

    list(model_of(*pieces).stream("Hi", {"callbacks": [Handler()]}))
    return found


HI, REASON = chunk({"content": "hi"}), chunk({"reasoning": "r"})


@pytest.mark.parametrize(
    ("piece", "fields"),
    [
        (HI, {"content": "hi"}),
        (REASON, {"content": "", "additional_kwargs": {"reasoning_content": "r"}}),
    ],
)
def test_a_fast_chunk_equals_a_validated_one(piece: bytes, fields: Any) -> None:
    _, fast, _ = generations(HI, piece, FINISH)
    message = AIMessageChunk(id=fast.message.id, **fields)
    slow = ChatGenerationChunk(message=message)
    assert fast == slow
    assert fast.message.__pydantic_extra__ == slow.message.__pydantic_extra__ == {}
    assert fast.message.model_copy(update={"a": 1}) != slow.message
    assert fast.model_dump() == slow.model_dump()
    assert pickle.loads(pickle.dumps(fast)) == slow
    assert dumpd(fast.message) == dumpd(slow.message)
    assert dumpd(fast.message)["id"][-1] == "AIMessageChunk"


def test_fast_chunks_share_nothing_that_can_change() -> None:
    _, one, two, _ = read([HI, HI, HI, FINISH])
    before = two.model_copy(deep=True)
    one.additional_kwargs["x"] = 1
    one.response_metadata["x"] = 1
    one.name = "x"
    assert two == before
    assert two.name is None


STREAM = """
import sys
from uuid import UUID
from pydantic import BaseModel

copies = 0
copy = BaseModel.model_copy

def counted(self, **options):
    global copies
    copies += type(self).__name__ == "ChatGenerationChunk"
    return copy(self, **options)

BaseModel.model_copy = counted
if sys.argv[1:]:
    BaseModel.__slots__ = (*BaseModel.__slots__, "__pydantic_other__")

import json
import httpx2
from langchain_nscale import ChatNscale

call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}
deltas = [{"content": "hi"}, {"reasoning": "r"}, {"tool_calls": [call]}]
choices = [{"delta": delta} for delta in deltas] + [{"finish_reason": "stop"}]
body = "".join(f"data: {json.dumps({'choices': [each]})}\\n\\n" for each in choices)
transport = httpx2.MockTransport(lambda _: httpx2.Response(200, text=body))
client = httpx2.Client(transport=transport)
for version in (None, "v1"):
    model = ChatNscale(
        model="m", service_token="t", http_client=client, output_version=version
    )
    for each in model.stream("Hi", {"run_id": UUID(int=1)}):
        print(sorted(each.model_fields_set), vars(each), each.__pydantic_extra__)
print(copies > 0)
"""


def test_without_pydantics_known_layout_chunks_are_the_same() -> None:
    def output(*arguments: str) -> list[str]:
        command = [sys.executable, "-c", STREAM, *arguments]
        return subprocess.check_output(command, text=True, timeout=100).splitlines()  # noqa: S603  # our own code

    *known, no_copies = output()
    *unknown, copies = output("other layout")
    assert known == unknown
    assert len(known) == 8
    assert (no_copies, copies) == ("False", "True")


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
    message = calling(raw)
    assert [call["args"] for call in message.tool_calls] == [args]
    assert message.invalid_tool_calls == []


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
    message = calling(raw)
    assert message.tool_calls == []
    (bad,) = message.invalid_tool_calls
    assert (bad["name"], bad["id"], bad["args"]) == ("f", "1", raw)
    assert "arguments" in str(bad["error"])


def calling(arguments: str) -> AIMessage:
    """A whole reply with a call."""
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    choice = {"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
    return invoked({"choices": [choice]})


def fragment(arguments: str, **call: Any) -> bytes:
    function = {"arguments": arguments, **call.pop("function", {})}
    return chunk({"tool_calls": [{"index": 0, "function": function, **call}]})


def test_partial_arguments_are_readable_while_they_arrive() -> None:
    start = fragment("", id="1", function={"name": "f"})
    first, second, *_ = read([start, fragment('{"a": 1'), fragment("}"), FINISH])
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
    head = tool_call_chunk(name="f", id="1", index=0)
    calls = [head, *(tool_call_chunk(args=piece, index=0) for piece in pieces)]
    chunks = [AIMessageChunk(content="", tool_call_chunks=[each]) for each in calls]
    chunks.append(last)
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
    _, *between, _ = read([HI, fragment("", id="1", function={"name": "f"}), FINISH])
    for each in between:
        assert type(each) is AIMessageChunk
        assert type(message_chunk_to_message(each)) is AIMessage


def cut_text(text: str, places: list[int]) -> list[str]:
    marks = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in itertools.pairwise([0, *marks, len(text)]) if b > a]


def test_the_fields_of_a_message_that_are_set_are_its_own() -> None:
    reply = {"choices": [{"message": {"content": "a"}}]}
    first, second = invoked(reply), invoked(reply)
    first.model_fields_set.clear()
    assert {"type", "name"}.isdisjoint(second.model_fields_set)
    assert {"content", "usage_metadata", "tool_calls"} <= second.model_fields_set


def test_metadata_with_half_an_emoji_can_be_stored() -> None:
    reply = {"choices": [{"message": {"content": "a"}}], "note": "\ud83d"}
    assert invoked(reply).response_metadata["note"].encode() == "\ufffd".encode()
