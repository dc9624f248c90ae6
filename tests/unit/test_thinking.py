from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_nscale._replies.chunks import ChunkWriter
from langchain_nscale._replies.reader import StreamReader, chat_result
from langchain_nscale._replies.reply import ReplyOptions
from langchain_nscale._replies.think_tags import ThinkSplitter, ThinkTags
from tests.unit.replies import (
    DONE,
    FINISH,
    assembled,
    chunk,
    every_way,
    merge,
    response,
)

TAGS = st.sampled_from(["both", "closing"])
# Texts made of tags, of parts of tags and of white space: what can go wrong.
TEXT = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "</", "ink>", " ", "\n", "a", "<b>"])
).map("".join)


def split(pieces: list[str], tags: ThinkTags) -> tuple[str, str]:
    splitter = ThinkSplitter(tags)
    found = [*map(splitter.feed, pieces), splitter.flush()]
    return "".join(r for r, _ in found), "".join(a for _, a in found)


@pytest.mark.parametrize(
    ("text", "tags", "reasoning", "answer"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "both", "Hm.\n", "Yes."),
        ("<think></think>Yes.", "both", "", "Yes."),
        ("\n <think>Hm.</think> Yes.", "both", "Hm.", "Yes."),
        ("Yes.", "both", "", "Yes."),
        (" Yes.", "both", "", " Yes."),
        ("Yes. <think>no</think>", "both", "", "Yes. <think>no</think>"),
        ("Hm.</think>Yes.", "both", "", "Hm.</think>Yes."),
        ("<think>cut off", "both", "cut off", ""),
        ("<think>cut </thi", "both", "cut </thi", ""),
        ("<thi", "both", "", "<thi"),
        ("Hm.</think>Yes.", "closing", "Hm.", "Yes."),
        ("<think>Hm.</think>Yes.", "closing", "Hm.", "Yes."),
        ("Hm.</think>Yes.</think>", "closing", "Hm.", "Yes.</think>"),
        ("cut off", "closing", "cut off", ""),
        ("", "closing", "", ""),
    ],
)
def test_texts(text: str, tags: ThinkTags, reasoning: str, answer: str) -> None:
    assert split([text], tags) == (reasoning, answer)


@given(TEXT, TAGS)
def test_any_cut_gives_the_same(text: str, tags: ThinkTags) -> None:
    assert split(list(text), tags) == split([text], tags)


@given(TEXT, TAGS)
def test_a_stream_says_what_a_whole_reply_says(text: str, tags: ThinkTags) -> None:
    options = ReplyOptions(think_tags=tags)
    data = b"".join(chunk({"content": c}) for c in text) + FINISH + DONE
    got = response(b"", content_type="text/event-stream")
    reader = StreamReader(got, ChunkWriter(), options)
    streamed = merge([c.message for c in [*reader.feed(data), *reader.flush()]])  # type: ignore[misc]  # AI
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    body = {"id": "c-1", "model": "m", "choices": [choice]}
    one = chat_result(response(json.dumps(body).encode()), options)
    assert streamed == one.generations[0].message
    if text and streamed.additional_kwargs.get("reasoning_content"):
        assert streamed.content_blocks[0]["type"] == "reasoning"


def test_a_cut_stream_keeps_what_was_held_back() -> None:
    got = response(b"", content_type="text/event-stream")
    options = ReplyOptions(think_tags="both")
    reader = StreamReader(got, ChunkWriter(), options)
    assert list(reader.feed(chunk({"content": "<thi"}))) == []
    partial = reader.partial()
    assert partial is not None
    assert partial.content == "<thi"


def test_events_have_the_blocks() -> None:
    data = chunk({"content": "<think>a</think>b"}) + FINISH + DONE
    message = assembled([data], ReplyOptions(think_tags="both"))
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]


# --- replies that contradict what is known of the model ---------------------------------

J = '{"n": 1}'


@pytest.mark.parametrize(
    ("deltas", "options", "text", "reasoning"),
    [
        # The service separates reasoning itself: vLLM with a reasoning parser.
        ([{"reasoning_content": "hm"}, {"content": "Hi"}], {}, "Hi", "hm"),
        ([{"reasoning": "hm"}, {"content": "H"}, {"content": "i"}], {}, "Hi", "hm"),
        ([{"reasoning": "hm"}, {"content": "<think>o</think>Hi"}], {}, "Hi", "hmo"),
        # The grammar holds from the first token: vLLM without one (vllm#47027).
        ([{"content": '{"n"'}, {"content": ": 1}"}], {"expects_json": True}, J, None),
        ([{"content": " \n"}, {"content": '{"n": 1}'}], {"expects_json": True}, J, None),
        ([{"content": 'Hm.</think>{"n": 1}'}], {"expects_json": True}, J, "Hm."),
        # A text that begins as JSON may still be thoughts, unless JSON was asked for.
        ([{"content": '{a}</think>{"n": 1}'}], {}, J, "{a}"),
    ],
)
def test_what_a_reply_shows_counts_more_than_what_is_known(
    deltas: Any, options: Any, text: str, reasoning: str | None
) -> None:
    pieces = [chunk(delta) for delta in deltas] + [FINISH]
    given = ReplyOptions(think_tags="closing", **options)
    for message in every_way(pieces, given).values():
        assert message.text.strip() == text
        assert message.additional_kwargs.get("reasoning_content") == reasoning
