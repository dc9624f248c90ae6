"""Whatever a stream has besides its chunks, and wherever it is cut: the same message."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.answers import comparable, streamed

# Events that are not chunks.
NOISE = [
    b": ping\n\n",
    b"data: {}\n\n",
    b"data: null\n\n",
    b"event: ping\ndata: {}\n\n",
    b"data: ping\n\n",
    b"id: 7\nretry: 100\n\n",
    b'data: {"choices": null}\n\n',
    b'data: {"metrics": {"queue": 1}}\n\n',
    b'data: {"choices": []}\n\n',
    b'data: {"object": "note", "text": "hello"}\n\n',
    b"\n\n",
]
ENDS = [
    b"data: [DONE]\n\n",
    b"data: [DONE] \n\n",
    b"data:[DONE]",
    b"",
    b"data: [DONE]\n\n" * 2,
]
TYPES = [
    "text/event-stream",
    "text/event-stream; charset=utf-8",
    "text/plain",
    "application/json",
    "application/x-ndjson",
    "application/octet-stream",
    "",
]
WORDS = st.text(st.sampled_from("ab \n{}\"'\\日é🎉"), min_size=1, max_size=6)
CALL = {"city": "Paris 🎉"}


def pieces_of(text: str, halves: bool) -> list[str]:
    """Split a text into characters; emojis into halves, as some servers do."""
    if not halves:
        return [text]
    raw = text.encode("utf-16-le")
    units = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    return [unit.decode("utf-16-le", "surrogatepass") for unit in units]


def chunk(
    delta: dict[str, Any], extra: dict[str, Any], finish: str | None = None
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **extra}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


def stream_of(
    reasoning: str, text: str, has_call: bool, halves: bool, extra: dict[str, Any]
) -> list[bytes]:
    """The events of a reply."""
    deltas: list[dict[str, Any]] = [
        {"reasoning": part} for part in pieces_of(reasoning, halves) if part
    ]
    deltas += [{"content": part} for part in pieces_of(text, halves) if part]
    if has_call:
        head = {"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}
        deltas.append({"tool_calls": [head]})
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
            for part in pieces_of(json.dumps(CALL, ensure_ascii=False), halves)
        ]
    events = [chunk(delta, extra) for delta in deltas]
    return [*events, chunk({}, extra, "tool_calls" if has_call else "stop")]


def read(data: bytes, places: list[int], content_type: str) -> Any:
    cuts = sorted({place % (len(data) + 1) for place in places})
    ends = zip([0, *cuts], [*cuts, len(data)], strict=True)
    return streamed(*(data[start:end] for start, end in ends), kind=content_type)


@settings(max_examples=300)
@given(
    reasoning=WORDS | st.just(""),
    text=WORDS,
    has_call=st.booleans(),
    halves=st.booleans(),
    noise=st.lists(st.sampled_from(NOISE), max_size=12),
    end=st.sampled_from(ENDS),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    bom=st.booleans(),
    content_type=st.sampled_from(TYPES),
    extra=st.sampled_from(
        [{}, {"stop_reason": None}, {"logprobs": None}, {"message": None}]
    ),
    places=st.lists(st.integers(min_value=0), max_size=20),
    order=st.randoms(use_true_random=False),
)
def test_the_message_is_the_same(  # every loose form at once
    reasoning: str,
    text: str,
    has_call: bool,
    halves: bool,
    noise: list[bytes],
    end: bytes,
    line_end: bytes,
    bom: bool,
    content_type: str,
    extra: dict[str, Any],
    places: list[int],
    order: Any,
) -> None:
    plain = stream_of(reasoning, text, has_call, False, {})
    expected = comparable(read(b"".join(plain) + ENDS[0], [], TYPES[0]))

    events = stream_of(reasoning, text, has_call, halves, extra)
    for each in noise:
        events.insert(order.randint(0, len(events)), each)
    data = (b"\xef\xbb\xbf" if bom else b"") + b"".join(events) + end
    found = comparable(read(data.replace(b"\n", line_end), places, content_type))

    for message in (expected, found):
        message["response_metadata"] = message["response_metadata"].get("finish_reason")
    assert found == expected
