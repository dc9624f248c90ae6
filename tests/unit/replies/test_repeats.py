"""Events that only differ in their text mean the same however they are recognized."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_nscale import NscaleError
from tests.unit.answers import DONE, FINISH, event, model_of, read

TOP = {"id": "c-1", "created": 1, "model": "m", "object": "chat.completion.chunk"}


def told(delta: dict[str, Any], top: dict[str, Any], choice: dict[str, Any]) -> Any:
    choices = [{"index": 0, "delta": delta, "finish_reason": None, **choice}]
    return {**TOP, "choices": choices, **top}


TEXTS = st.text(max_size=4) | st.sampled_from(
    [
        '"',
        "\\",
        "\n",
        "c-1",
        "content",
        '"content":"',
        "<think>",
        "</think>",
        "\ud83d",
        "é",
    ]
)
DELTAS: Any = st.fixed_dictionaries(
    {},
    optional={
        "content": TEXTS | st.none(),
        "reasoning_content": TEXTS | st.none(),
        "reasoning": TEXTS,
        "refusal": st.sampled_from([None, "", "no"]),
        "role": st.just("assistant"),
        "tool_calls": st.sampled_from([None, []]),
        "extra": TEXTS,
    },
)
TOPS = st.fixed_dictionaries(
    {},
    optional={
        "created": st.integers(1, 3),
        "model": st.sampled_from(["m", "n"]),
        "provider": TEXTS,
        "usage": st.sampled_from(
            [None, {}, {"prompt_tokens": 1, "completion_tokens": 2}]
        ),
    },
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "extra": TEXTS,
        "logprobs": st.sampled_from([None, {"content": [{"token": "a"}]}]),
        "stop_reason": st.none(),
    },
)
PLAIN = st.fixed_dictionaries({"content": st.sampled_from(["a", "b ", "<think>", '"'])})
OBJECTS: Any = st.lists(
    st.builds(told, PLAIN, st.just({}), st.just({}))
    | st.builds(told, DELTAS, TOPS, CHOICES)
    | st.just({"choices": []}),
    max_size=12,
)


def outcome(pieces: list[bytes], **settings: Any) -> Any:
    """The chunks of a stream, and its error."""
    found: list[dict[str, Any]] = []
    try:
        for each in model_of(*pieces, **settings).stream("Hi"):
            found.append({**vars(each), "id": None})  # noqa: PERF401  # before an error
    except NscaleError as error:
        return found, type(error)
    return found, None


def unalike(events: list[bytes]) -> list[bytes]:
    """The same objects, none of which begins like another, so that each is decoded."""
    return [b"{" + b" " * n + each[1:] for n, each in enumerate(events, 1)]


def stream_of(events: list[bytes]) -> list[bytes]:
    return [*(b"data: %b\n\n" % each for each in events), FINISH, DONE]


def outcomes(events: list[bytes], **settings: Any) -> list[Any]:
    """What events mean if they are recognized, and if each is decoded."""
    ways = (events, unalike(events))
    return [outcome(stream_of(way), **settings) for way in ways]


@given(
    objects=OBJECTS,
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    is_ascii=st.booleans(),
    think_tags=st.sampled_from(["off", "both", "closing"]),
)
def test_recognized_events_mean_what_they_say(
    objects: list[Any], separators: tuple[str, str], is_ascii: bool, think_tags: str
) -> None:
    events = [
        json.dumps(each, separators=separators, ensure_ascii=is_ascii).encode(
            "utf-8", "surrogatepass"
        )
        for each in objects
    ]
    recognized, decoded = outcomes(events, think_tags=think_tags)
    assert recognized == decoded


GOOD = json.dumps(told({"content": "abc"}, {}, {})).encode()
BEFORE, AFTER = GOOD.split(b'"abc"')


NO_TEXTS = [
    *(b'"', b'""', b'"a"b"', b'"\\"', b'"\xff"', b'"a\x01"', b'"\\ud83d"', b"null"),
    b'"a", "refusal": "no"',
    b'"a"}}], "id": "c-2", "y": [{"delta": {"content": "b"',
]


@pytest.mark.parametrize("text", NO_TEXTS)
def test_what_is_no_text_of_the_event_is_decoded(text: bytes) -> None:
    recognized, decoded = outcomes([GOOD, GOOD, BEFORE + text + AFTER, GOOD])
    assert recognized == decoded
    marked = b"event: error\ndata: %b\n\n" % GOOD
    found, error = outcome([b"data: %b\n\n" % GOOD, marked])
    assert [each["content"] for each in found] == ["abc"]
    assert error is not None


@pytest.mark.parametrize("kind", ["content", "reasoning_content", "reasoning"])
def test_a_field_of_the_same_name_elsewhere_is_not_the_text(kind: str) -> None:
    top = {"x": {kind: "a"}}
    pieces = [event({**top, **told({kind: text}, {}, {})}) for text in "abc"]
    chunks = read([*pieces, FINISH, DONE])
    texts = [
        each.text or each.additional_kwargs.get("reasoning_content") for each in chunks
    ]
    assert texts == ["a", "b", "c", None]


def calls_for(events: list[bytes]) -> int:
    """How many functions are called to read a stream."""
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    pieces = stream_of(events)
    sys.setprofile(note)
    try:
        read(pieces)
    finally:
        sys.setprofile(None)
    return count


def test_recognized_events_are_not_decoded() -> None:
    events = [GOOD.replace(b"abc", b"%d" % n) for n in range(500)]
    read(stream_of([GOOD]))  # imports what is needed
    # Most calls are those of langchain-core.
    assert calls_for(events) < 0.9 * calls_for(unalike(events))
