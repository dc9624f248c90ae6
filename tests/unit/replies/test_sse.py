from __future__ import annotations

from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from langchain_nscale._replies.sse import SSEDecoder

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


def decode(pieces: list[bytes]) -> list[bytes]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.flush()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


@given(
    events=st.lists(st.lists(TEXT, min_size=1), max_size=5),
    end=LINE_ENDS,
    noise=st.sampled_from([b"", b": keep-alive", b"event: x", b"id: 1", b"retry: 5"]),
    bom=st.booleans(),
    places=st.lists(st.integers(min_value=0), max_size=20),
)
def test_events_come_out_however_they_are_written_and_cut(
    events: list[list[str]], end: bytes, noise: bytes, bom: bool, places: list[int]
) -> None:
    data = b"\xef\xbb\xbf" if bom else b""
    for lines in events:
        data += noise + end
        data += b"".join(b"data: " + line.encode() + end for line in lines) + end
    expected = ["\n".join(lines).encode() for lines in events]
    assert decode(cut(data, places)) == expected


@given(
    data=st.binary(max_size=200).map(lambda raw: raw.replace(b"\x00", b"data:\n\n")),
    places=st.lists(st.integers(min_value=0), max_size=20),
)
def test_any_bytes_give_the_same_events_whole_and_in_pieces(
    data: bytes, places: list[int]
) -> None:
    assert decode(cut(data, places)) == decode([data])


def test_a_space_after_the_colon_is_optional_and_only_one_is_dropped() -> None:
    assert decode([b"data:a\n\ndata:  b\n\n"]) == [b"a", b" b"]


def test_an_event_without_its_empty_line_comes_at_the_end() -> None:
    assert decode([b"data: [DONE]"]) == [b"[DONE]"]
    assert decode([b"data: a\n"]) == [b"a"]


def test_a_carriage_return_at_the_end_of_a_piece_may_be_half_a_line_end() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"\n\r") == []
    assert decoder.feed(b"\n") == [b"a"]


def test_a_long_line_in_many_pieces_costs_no_more_than_its_bytes() -> None:
    def seconds(pieces: int) -> float:
        decoder = SSEDecoder()
        start = process_time()
        assert decoder.feed(b"data:") == []
        for _ in range(pieces):
            assert decoder.feed(b"x" * 100) == []
        assert decoder.flush() == [b"x" * 100 * pieces]
        return process_time() - start

    small = min(seconds(10_000) for _ in range(3))
    # Joining the pieces at each feed would take sixteen times as long.
    assert min(seconds(40_000) for _ in range(3)) < 10 * max(small, 0.003)
