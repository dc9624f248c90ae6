from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Callable
from math import sqrt
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_nscale import (
    NscaleInsufficientCreditError,
    NscaleMalformedResponseError,
    get_nscale_usage_callback,
)
from tests.unit.service import Service, embeddings

WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
QWEN = "Qwen/Qwen3-Embedding-8B"


def base64_of(vector: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def reply(*embeddings: Any, **fields: Any) -> Any:
    data = [{"index": n, "embedding": e} for n, e in enumerate(embeddings)]
    return {"data": data, **fields}


def read(answer: Any, count: int, **settings: Any) -> list[list[float]]:
    """The vectors of some texts whose request is answered so."""
    if isinstance(answer, bytes):
        answer = httpx2.Response(200, content=answer)
    model = embeddings(Service(answer), max_retries=0, **settings)
    return model.embed_documents(["text"] * count)


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False).map(float)


@pytest.mark.parametrize("transfer", [base64_of, list], ids=["base64", "float"])
@given(vectors=st.lists(st.lists(FLOATS, min_size=1, max_size=9), max_size=5))
def test_both_forms_are_exact(
    transfer: Callable[[list[float]], Any], vectors: list[list[float]]
) -> None:
    got = read(reply(*map(transfer, vectors)), len(vectors))
    assert got == vectors
    assert all(type(value) is float for vector in got for value in vector)


def test_whole_numbers_are_floats() -> None:
    (vector,) = read(reply([1, 0, -2]), 1)
    assert [type(value) for value in vector] == [float] * 3


@given(st.permutations(range(6)))
def test_order_is_by_index(order: list[int]) -> None:
    data = [{"index": n, "embedding": [float(n + 1)]} for n in order]
    assert read({"data": data}, 6) == [[float(n + 1)] for n in range(6)]


def test_without_index_order_is_that_of_the_reply() -> None:
    data = [{"embedding": [1.0]}, {"embedding": [2.0]}]
    assert read({"data": data}, 2) == [[1.0], [2.0]]


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
    with get_nscale_usage_callback() as used:
        read(reply([1.0], usage=usage, model="served"), 1)
    total = used.by_model["served"]
    if counted is None:
        assert total.unreported == 1
    else:
        assert (total.input_tokens, total.total_tokens) == counted
        assert total.output_tokens == 0


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
        read(body, 2)


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": []}])
def test_an_error_in_a_success(data: dict[str, Any]) -> None:
    error = {"code": "TOO_MANY_REQUESTS", "error_type": "INSUFFICIENT_CREDIT"}
    with pytest.raises(NscaleInsufficientCreditError):
        read({"error": error, **data}, 1)


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
        vectors = read(content, 1)
    except NscaleMalformedResponseError:
        return
    assert [type(value) for value in vectors[0]] == [float] * len(vectors[0])
    assert vectors[0]


class TestDimensions:
    def test_as_asked(self) -> None:
        assert read(reply([3.0, 4.0]), 1, dimensions=2) == [[3.0, 4.0]]

    def test_a_model_that_can_be_cut_is_cut(self) -> None:
        got = read(reply([3.0, 4.0, 9.0]), 1, dimensions=2, model=QWEN)
        assert got == [[0.6, 0.8]]
        assert sqrt(sum(value**2 for value in got[0])) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("length", "model"), [(3, "BAAI/bge-m3"), (1, QWEN), (1, "BAAI/bge-m3")]
    )
    def test_anything_else_is_an_error(self, length: int, model: str) -> None:
        with pytest.raises(NscaleMalformedResponseError, match="omit `dimensions`"):
            read(reply([1.0] * length), 1, dimensions=2, model=model)

    def test_a_vector_of_zeros(self) -> None:
        got = read(reply([0.0, 0.0, 0.0]), 1, dimensions=2, model=QWEN)
        assert got == [[0.0, 0.0]]


def batches_of(texts: Any, count: int, size: int) -> list[list[str]]:
    """The texts of each request, in the order of the requests."""
    service = Service(lambda body: reply(*[[1.0]] * len(body["input"])))
    model = embeddings(service, max_concurrency=1, max_chunk_bytes=size)
    model.embed_documents(texts, chunk_size=count)
    return [body["input"] for body in service.bodies]


class TestSplit:
    @given(
        texts=st.lists(st.text(min_size=1, max_size=30), max_size=40),
        count=st.integers(1, 7),
        size=st.integers(1, 60),
    )
    def test_limits(self, texts: list[str], count: int, size: int) -> None:
        batches = batches_of(texts, count, size)
        assert [text for batch in batches for text in batch] == texts
        for batch in batches:
            taken = sum(len(text.encode()) for text in batch)
            assert 1 <= len(batch) <= count
            assert taken <= size or len(batch) == 1

    def test_no_smaller_than_needed(self) -> None:
        pairs = [["aa", "bb"], ["cc", "dd"]]
        assert batches_of(["aa", "bb", "cc", "dd"], 9, 4) == pairs
        assert batches_of([*"abcde"], 2, 99) == [[*"ab"], [*"cd"], ["e"]]
        assert batches_of(["é" * 3, "a"], 9, 6) == [["é" * 3], ["a"]]
        assert batches_of([], 9, 9) == []


class TestTexts:
    def test_any_iterable(self) -> None:
        assert batches_of((text for text in "ab"), 9, 9) == [["a", "b"]]
        assert batches_of([" "], 9, 9) == [[" "]]

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
            embeddings().embed_documents(texts)


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
    service = Service(reply([1.0]))
    embeddings(service, model=model, query_instruction=instruction).embed_query("what?")
    assert service.bodies[0]["input"] == [sent]
