from __future__ import annotations

from langchain_core.messages import AIMessage, AIMessageChunk

from tests.unit.answers import DONE, FINISH, chunk, invoked, read, streamed

CALLS = [
    {"id": "x", "function": {"name": "f", "arguments": '{"a": 1}'}},
    {"id": "y", "function": {"name": "g", "arguments": '{"a": 1'}},
]
KINDS = ["reasoning", "text", "tool_call", "invalid_tool_call"]


def test_a_whole_message_has_all_its_blocks() -> None:
    message = {"reasoning": "Hm", "content": "Hi", "tool_calls": CALLS}
    blocks = invoked({"choices": [{"message": message}]}).content_blocks
    assert [block["type"] for block in blocks] == KINDS
    assert blocks[3]["args"] == '{"a": 1'  # type: ignore[typeddict-item]  # an invalid call
    assert blocks[3]["error"]  # type: ignore[typeddict-item]  # likewise


def test_a_stream_has_the_same_blocks_and_parts_of_calls_on_the_way() -> None:
    parts = [{**call, "index": i} for i, call in enumerate(CALLS)]
    data = [chunk({"reasoning": "Hm"}), chunk({"content": "Hi"})]
    data += [chunk({"tool_calls": [part]}) for part in parts]
    chunks = read([*data, FINISH, DONE])
    assert [block["type"] for block in chunks[2].content_blocks] == ["tool_call_chunk"]
    on_the_way = chunks[0] + chunks[1:3]
    assert isinstance(on_the_way, AIMessageChunk)
    kinds = [block["type"] for block in on_the_way.content_blocks]
    assert kinds == ["reasoning", "text", "tool_call_chunk"]
    whole = streamed(*data, FINISH, DONE)
    assert [block["type"] for block in whole.content_blocks] == KINDS


def test_lists_are_left_to_langchain_core() -> None:
    content: list[str | dict[str, str]] = [{"type": "text", "text": "a"}]
    metadata = {"model_provider": "nscale"}
    message = AIMessage(content, response_metadata=metadata)
    assert message.content_blocks == content
    assert AIMessageChunk(content=content).content_blocks == content
