from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Callable
from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_nscale import NscaleInsufficientCreditError, NscaleMalformedResponseError
from langchain_nscale._model_facts import WEB_SEARCH, facts
from langchain_nscale._replies.vectors import read_vectors
from langchain_nscale._requests.texts import (
    check_texts,
    instructed_query,
    split_texts,
)
from tests.unit.replies import response


def base64_of(vector: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def reply(*embeddings: Any, **fields: Any) -> Any:
    data = [{"index": n, "embedding": e} for n, e in enumerate(embeddings)]
    return response(json.dumps({"data": data, **fields}).encode())


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False).map(float)


@pytest.mark.parametrize("transfer", [base64_of, list], ids=["base64", "float"])
@given(vectors=st.lists(st.lists(FLOATS, min_size=1, max_size=9), max_size=5))
def test_both_forms_are_exact(
    transfer: Callable[[list[float]], Any], vectors: list[list[float]]
) -> None:
    got, usage, served = read_vectors(reply(*map(transfer, vectors)), len(vectors))
    assert got == vectors
    assert all(type(value) is float for vector in got for value in vector)
    assert usage is None
    assert served is None


def test_whole_numbers_are_floats() -> None:
    (vector,), _, _ = read_vectors(reply([1, 0, -2]), 1)
    assert [type(value) for value in vector] == [float] * 3


@given(st.permutations(range(6)))
def test_order_is_by_index(order: list[int]) -> None:
    data = [{"index": n, "embedding": [float(n + 1)]} for n in order]
    got, _, _ = read_vectors(response(json.dumps({"data": data}).encode()), 6)
    assert got == [[float(n + 1)] for n in range(6)]


def test_without_index_order_is_that_of_the_reply() -> None:
    data = [{"embedding": [1.0]}, {"embedding": [2.0]}]
    got, _, _ = read_vectors(response(json.dumps({"data": data}).encode()), 2)
    assert got == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 7, "total_tokens": 7}, (7, 7)),
        ({"prompt_tokens": 7}, (7, 7)),
        ({"prompt_tokens": None}, None),
        (None, None),
        ("7", None),
    ],
)
def test_usage(usage: Any, counted: tuple[int, int] | None) -> None:
    _, got, served = read_vectors(reply([1.0], usage=usage, model="m"), 1)
    assert served == "m"
    if counted is None:
        assert got is None
    else:
        assert got is not None
        assert (got["input_tokens"], got["total_tokens"]) == counted
        assert got["output_tokens"] == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is not a JSON object"),
        (b"[]", "is not a JSON object"),
        (b"{}", "0 embeddings for 2 texts"),
        (b'{"data": null}', "0 embeddings for 2 texts"),
        (b'{"data": [{"embedding": [1]}]}', "1 embeddings for 2 texts"),
        (b'{"data": [1, 2]}', r"`data\[0\]` is not an embedding"),
        (b'{"data": [{"embedding": [1]}, {}]}', r"`data\[1\]` is not an embedding"),
        (b'{"data": [{"embedding": ["x"]}, {}]}', r"`data\[0\]` is not"),
        (b'{"data": [{"embedding": "x"}, {}]}', r"`data\[0\]` is not"),
        (b'{"data": [{"embedding": "AAAA"}, {}]}', r"`data\[0\]` is not"),
        (b'{"data": [{"embedding": null}, {}]}', r"`data\[0\]` is not"),
        (b'{"data": [{"index": 2, "embedding": [1]}, {}]}', r"`data\[0\]` is not"),
        (b'{"data": [{"index": -1, "embedding": [1]}, {}]}', r"`data\[0\]` is not"),
        (b'{"data": [{"index": "0", "embedding": [1]}, {}]}', r"`data\[0\]` is not"),
        (
            b'{"data": [{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [1]}]}',
            r"`data\[1\]` is not",
        ),
        (b'{"data": [{"embedding": []}, {}]}', "empty or not finite"),
        (b'{"data": [{"embedding": "AADAfw=="}, {}]}', "empty or not finite"),
        (b'{"data": [{"embedding": "AACAfw=="}, {}]}', "empty or not finite"),
    ],
)
def test_what_is_no_embeddings(body: bytes, says: str) -> None:
    with pytest.raises(NscaleMalformedResponseError, match=says):
        read_vectors(response(body), 2)


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": []}])
def test_an_error_in_a_success(data: dict[str, Any]) -> None:
    error = {"code": "TOO_MANY_REQUESTS", "error_type": "INSUFFICIENT_CREDIT"}
    with pytest.raises(NscaleInsufficientCreditError):
        read_vectors(response(json.dumps({"error": error, **data}).encode()), 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["index", "embedding", "data"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["data", "usage", "model", "object"]), JSON))
def test_nothing_breaks_the_reader(body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    try:
        vectors, _, _ = read_vectors(response(content), 1)
    except NscaleMalformedResponseError:
        return
    assert [type(value) for value in vectors[0]] == [float] * len(vectors[0])
    assert vectors[0]


class TestDimensions:
    def test_as_asked(self) -> None:
        assert read_vectors(reply([3.0, 4.0]), 1, 2)[0] == [[3.0, 4.0]]

    def test_a_model_that_can_be_cut_is_cut(self) -> None:
        got, _, _ = read_vectors(reply([3.0, 4.0, 9.0]), 1, 2, shorten=True)
        assert got == [[0.6, 0.8]]
        assert sqrt(sum(value**2 for value in got[0])) == pytest.approx(1)

    @pytest.mark.parametrize(("length", "shorten"), [(3, False), (1, True), (1, False)])
    def test_anything_else_is_an_error(self, length: int, shorten: bool) -> None:
        with pytest.raises(NscaleMalformedResponseError, match="omit `dimensions`"):
            read_vectors(reply([1.0] * length), 1, 2, shorten=shorten)

    def test_a_vector_of_zeros(self) -> None:
        assert read_vectors(reply([0.0, 0.0, 0.0]), 1, 2, shorten=True)[0] == [[0.0, 0.0]]

    def test_which_can_be_cut(self) -> None:
        assert facts("Qwen/Qwen3-Embedding-8B").shortens_vectors
        assert not facts("BAAI/bge-m3").shortens_vectors


class TestSplit:
    @given(
        texts=st.lists(st.text(min_size=1, max_size=30), max_size=40),
        count=st.integers(1, 7),
        size=st.integers(1, 60),
    )
    def test_limits(self, texts: list[str], count: int, size: int) -> None:
        batches = split_texts(texts, count, size)
        assert [n for batch in batches for n in batch] == list(range(len(texts)))
        for batch in batches:
            taken = sum(len(texts[n].encode("utf-8", "replace")) for n in batch)
            assert 1 <= len(batch) <= count
            assert taken <= size or len(batch) == 1

    def test_no_smaller_than_needed(self) -> None:
        assert split_texts(["aa", "bb", "cc", "dd"], 9, 4) == [range(2), range(2, 4)]
        assert split_texts(["a"] * 5, 2, 99) == [range(2), range(2, 4), range(4, 5)]
        assert split_texts(["é" * 3, "a"], 9, 6) == [range(1), range(1, 2)]
        assert split_texts([], 9, 9) == []


class TestTexts:
    def test_any_iterable(self) -> None:
        assert check_texts(text for text in "ab") == ["a", "b"]
        assert check_texts([" "]) == [" "]

    @pytest.mark.parametrize(
        ("texts", "error", "says"),
        [
            ("abc", TypeError, "is a string.*embed_query"),
            (["a", 3], TypeError, r"`texts\[1\]` is of type int"),
            (["a", None], TypeError, r"`texts\[1\]` is of type NoneType"),
            (["a", [1, 2]], TypeError, r"`texts\[1\]` is of type list"),
            (["a", b"b"], TypeError, r"`texts\[1\]` is of type bytes"),
            (["a", ""], ValueError, r"`texts\[1\]` is empty"),
        ],
    )
    def test_what_is_refused(self, texts: Any, error: type[Exception], says: str) -> None:
        with pytest.raises(error, match=says):
            check_texts(texts)


@pytest.mark.parametrize(
    ("model", "instruction", "sent"),
    [
        (
            "Qwen/Qwen3-Embedding-8B",
            None,
            f"Instruct: {WEB_SEARCH}\nQuery:what?",
        ),
        ("Qwen/Qwen3-Embedding-8B", "", "what?"),
        ("Qwen/Qwen3-Embedding-8B", "Find code", "Instruct: Find code\nQuery:what?"),
        ("BAAI/bge-m3", None, "what?"),
        ("BAAI/bge-m3", "Find code", "Instruct: Find code\nQuery:what?"),
        ("e5", "query: {query}", "query: what?"),
    ],
)
def test_queries(model: str, instruction: str | None, sent: str) -> None:
    assert instructed_query(model, instruction, "what?") == sent
