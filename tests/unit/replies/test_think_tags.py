from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.answers import (
    DONE,
    FINISH,
    assembled,
    chunk,
    comparable,
    every_way,
    failure,
    invoked,
    streamed,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning"
)
TAGS = st.sampled_from(["both", "closing"])
# Texts made of tags, of parts of tags and of white space: what can go wrong.
TEXT = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "</", "ink>", " ", "\n", "a", "<b>"])
).map("".join)


def split(pieces: list[str], tags: str) -> tuple[str, str]:
    """The reasoning and the answer of a text that is streamed in pieces."""
    deltas = [chunk({"content": piece}) for piece in pieces]
    message = streamed(*deltas, FINISH, think_tags=tags)
    return message.additional_kwargs.get("reasoning_content", ""), message.text


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
def test_texts(text: str, tags: str, reasoning: str, answer: str) -> None:
    assert split([text], tags) == (reasoning, answer)


@given(TEXT, TAGS)
def test_any_cut_gives_the_same(text: str, tags: str) -> None:
    assert split(list(text), tags) == split([text], tags)


@given(TEXT, TAGS)
def test_a_stream_says_what_a_whole_reply_says(text: str, tags: str) -> None:
    data = b"".join(chunk({"content": c}) for c in text) + FINISH + DONE
    message = streamed(data, think_tags=tags)
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    body = {"id": "c-1", "model": "m", "choices": [choice]}
    assert comparable(message) == comparable(invoked(body, think_tags=tags))
    if text and message.additional_kwargs.get("reasoning_content"):
        assert message.content_blocks[0]["type"] == "reasoning"


def test_a_cut_stream_keeps_what_was_held_back() -> None:
    texts, error = failure(chunk({"content": "<thi"}), think_tags="both")
    assert texts == []
    assert error.partial is not None
    assert error.partial.content == "<thi"


def test_events_have_the_blocks() -> None:
    data = chunk({"content": "<think>a</think>b"}) + FINISH + DONE
    message = assembled([data], think_tags="both")
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]


# --- replies that contradict what is known of the model ---------------------------------

J = '{"n": 1}'
JSON_MODE = {"model_kwargs": {"response_format": {"type": "json_object"}}}


@pytest.mark.parametrize(
    ("deltas", "options", "text", "reasoning"),
    [
        # The service separates reasoning itself: vLLM with a reasoning parser.
        ([{"reasoning_content": "hm"}, {"content": "Hi"}], {}, "Hi", "hm"),
        ([{"reasoning": "hm"}, {"content": "H"}, {"content": "i"}], {}, "Hi", "hm"),
        ([{"reasoning": "hm"}, {"content": "<think>o</think>Hi"}], {}, "Hi", "hmo"),
        # The grammar holds from the first token: vLLM without one (vllm#47027).
        ([{"content": '{"n"'}, {"content": ": 1}"}], JSON_MODE, J, None),
        ([{"content": " \n"}, {"content": '{"n": 1}'}], JSON_MODE, J, None),
        ([{"content": 'Hm.</think>{"n": 1}'}], JSON_MODE, J, "Hm."),
        # A text that begins as JSON may still be thoughts, unless JSON was asked for.
        ([{"content": '{a}</think>{"n": 1}'}], {}, J, "{a}"),
    ],
)
def test_what_a_reply_shows_counts_more_than_what_is_known(
    deltas: Any, options: Any, text: str, reasoning: str | None
) -> None:
    pieces = [chunk(delta) for delta in deltas] + [FINISH]
    for message in every_way(pieces, think_tags="closing", **options).values():
        assert message.text.strip() == text
        assert message.additional_kwargs.get("reasoning_content") == reasoning
