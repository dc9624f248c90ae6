from __future__ import annotations

import asyncio
import copy
import json
import pickle
import random
import struct
import sys
import threading
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_nscale import (
    NscaleAuthenticationError,
    NscaleContextOverflowError,
    NscaleEmbeddings,
    NscaleError,
    NscaleInvalidRequestError,
    NscaleMalformedResponseError,
    NscaleUsageCallbackHandler,
    get_nscale_usage_callback,
)

MODEL = "Qwen/Qwen3-Embedding-8B"


def answer(request: httpx2.Request) -> httpx2.Response:
    """Embeddings that tell which text they are of."""
    body = json.loads(request.content)
    data = [
        {"index": n, "embedding": [float(len(text)), 1.0]}
        for n, text in enumerate(body["input"])
    ]
    usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
    return httpx2.Response(200, json={"data": data, "usage": usage, "model": MODEL})


def embedder(handler: Any = answer, **settings: Any) -> NscaleEmbeddings:
    """Embeddings that reach nothing but `handler`."""
    return NscaleEmbeddings(
        model=MODEL,
        service_token="t-secret",
        http_client=httpx2.Client(transport=httpx2.MockTransport(handler)),
        http_async_client=httpx2.AsyncClient(transport=httpx2.MockTransport(handler)),
        **{"max_retries": 0, **settings},
    )


async def documents(embeddings: NscaleEmbeddings, way: str, texts: Any) -> Any:
    if way == "async":
        return await embeddings.aembed_documents(texts)
    return embeddings.embed_documents(texts)


WAYS = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "`model` is missing"),
        ({"model": "m", "dimensions": 0}, "`dimensions` is 0"),
        ({"model": "m", "chunk_size": 0}, "chunk_size"),
        ({"model": "m", "max_concurrency": 0}, "max_concurrency"),
        ({"model": "m", "encoding_format": "int8"}, "encoding_format"),
        ({"model": "m", "chunksize": 3}, "Did you mean `chunk_size`.*`extra_body`"),
        (
            {"model": "m", "extra_body": {"dimensions": 3}},
            "`extra_body` has `dimensions`",
        ),
        ({"model": "m", "base_url": "ftp://x"}, "`base_url`"),
        ({"model": "m", "max_retries": -1}, "`max_retries`"),
    ],
)
def test_bad_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        NscaleEmbeddings(service_token="t-secret", **settings)
    assert "t-secret" not in str(caught.value)


def test_no_token() -> None:
    with pytest.raises(ValidationError, match="NSCALE_SERVICE_TOKEN"):
        NscaleEmbeddings(model="m")


@WAYS
async def test_the_request(way: str) -> None:
    seen = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.method, str(request.url), json.loads(request.content)))
        return answer(request)

    embeddings = embedder(
        handler, dimensions=2, extra_body={"truncate_prompt_tokens": -1}
    )
    await documents(embeddings, way, ["a", "bb"])
    body = {
        "model": MODEL,
        "input": ["a", "bb"],
        "encoding_format": "base64",
        "dimensions": 2,
        "truncate_prompt_tokens": -1,
    }
    address = "https://inference.api.nscale.com/v1/embeddings"
    assert seen == [("POST", address, body)]


@WAYS
async def test_no_texts_no_request(way: str) -> None:
    assert await documents(embedder(None), way, []) == []


@WAYS
async def test_bad_texts_are_refused_before_any_request(way: str) -> None:
    with pytest.raises(ValueError, match=r"texts\[300\]"):
        await documents(embedder(None), way, ["a"] * 300 + [""])
    with pytest.raises(TypeError, match="`texts` is a string"):
        await documents(embedder(None), way, "abc")
    for texts in (None, 5, {"a": 1}):
        with pytest.raises(TypeError, match="`texts` is of type"):
            await documents(embedder(None), way, texts)


@WAYS
async def test_a_text_in_place_of_empty_ones(way: str) -> None:
    embeddings = embedder(empty_text="--", query_instruction="")
    texts = ["a", "", "abc"]
    assert await documents(embeddings, way, texts) == [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]
    assert texts == ["a", "", "abc"]
    assert embeddings.embed_query("") == [2.0, 1.0]
    with pytest.raises(ValueError, match="empty_text"):
        embedder(empty_text="")
    with pytest.raises(TypeError, match=r"texts\[0\]"):
        await documents(embeddings, way, [None])


async def test_bad_queries() -> None:
    with pytest.raises(ValueError, match="`text` is empty"):
        embedder(None).embed_query("")
    with pytest.raises(TypeError, match="`text` is of type list"):
        await embedder(None).aembed_query(["a"])  # type: ignore[arg-type]  # a mistake


async def test_queries_have_an_instruction_and_documents_none() -> None:
    seen = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.extend(json.loads(request.content)["input"])
        return answer(request)

    embeddings = embedder(handler, query_instruction="Find code")
    embeddings.embed_query("sort")
    await embeddings.aembed_query("sort")
    embeddings.embed_documents(["sort"])
    assert seen == ["Instruct: Find code\nQuery:sort"] * 2 + ["sort"]


class Gate:
    """Answers requests in groups of `size`, and counts how many there are at once."""

    def __init__(
        self, size: int, reply: Callable[[httpx2.Request], httpx2.Response] = answer
    ) -> None:
        self.size = size
        self.reply = reply
        self.barrier = threading.Barrier(size, timeout=20)
        self.whole: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.lock = threading.Lock()
        self.arrived = self.active = self.most = 0

    def _enter(self) -> int:
        with self.lock:
            self.arrived += 1
            self.active += 1
            self.most = max(self.most, self.active)
            return self.arrived

    def sync(self, request: httpx2.Request) -> httpx2.Response:
        self._enter()
        self.barrier.wait()
        self.active -= 1
        return self.reply(request)

    async def asynchronous(self, request: httpx2.Request) -> httpx2.Response:
        arrived = self._enter()
        group = self.whole[(arrived - 1) // self.size]
        if arrived % self.size == 0:
            group.set()
        await group.wait()
        self.active -= 1
        return self.reply(request)

    def handler(self, way: str) -> Any:
        return self.sync if way == "sync" else self.asynchronous


@WAYS
async def test_so_many_requests_at_once(way: str) -> None:
    gate = Gate(3)
    embeddings = embedder(gate.handler(way), chunk_size=2, max_concurrency=3)
    got = await documents(embeddings, way, ["x" * n for n in range(1, 25)])
    assert got == [[float(n), 1.0] for n in range(1, 25)]
    assert gate.most == 3


@WAYS
async def test_one_at_a_time(way: str) -> None:
    seen = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content)["input"])
        return answer(request)

    embeddings = embedder(handler, max_chunk_bytes=3, max_concurrency=1)
    await documents(embeddings, way, ["aa", "b", "c", "dddd", "e"])
    assert seen == [["aa", "b"], ["c"], ["dddd"], ["e"]]


def failing_on(text: str, status: int = 500, said: str = "no") -> Any:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if text in json.loads(request.content)["input"]:
            return httpx2.Response(status, json={"error": {"message": said}})
        return answer(request)

    return handler


@WAYS
@pytest.mark.parametrize("at_once", [1, 4])
async def test_a_failure_in_batch_7_of_10(way: str, at_once: int) -> None:
    texts = [f"text {n}" for n in range(100)]
    embeddings = embedder(failing_on("text 65"), chunk_size=10, max_concurrency=at_once)
    with pytest.raises(NscaleError, match="Failed to embed texts 60 to 69") as caught:
        await documents(embeddings, way, texts)
    partial = caught.value.partial_embeddings
    assert partial is not None
    assert len(partial) == 100
    done = [vector is not None for vector in partial]
    assert done[60:70] == [False] * 10
    assert all(done[:60])
    assert f"{sum(done)} of 100 are in" in str(caught.value)
    assert at_once > 1 or not any(done[60:])  # nothing was begun after it
    assert sum(done[70:]) <= 10 * (at_once - 1)  # but what was under way was finished
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.partial_embeddings == partial
    left = [text for text, vector in zip(texts, partial, strict=True) if vector is None]
    assert len(await documents(embedder(), way, left)) == len(left)


@WAYS
async def test_several_failures_are_all_named(way: str) -> None:
    gate = Gate(2, lambda _: httpx2.Response(500, json={}))
    embeddings = embedder(gate.handler(way), chunk_size=1, max_concurrency=2)
    with pytest.raises(NscaleError) as caught:
        await documents(embeddings, way, ["a", "b"])
    assert "Failed to embed texts 0, 1; the other 0 of 2" in str(caught.value)


@WAYS
async def test_a_single_request_fails_without_more_words(way: str) -> None:
    with pytest.raises(NscaleError) as caught:
        await documents(embedder(failing_on("a")), way, ["a", "b"])
    assert caught.value.partial_embeddings is None
    assert "failed;" not in str(caught.value)


@WAYS
async def test_a_text_that_is_too_long(way: str) -> None:
    said = "This model's maximum context length is 32768 tokens, you requested 40000"
    embeddings = embedder(failing_on("long" * 9, 400, said), chunk_size=2)
    with pytest.raises(NscaleContextOverflowError) as caught:
        await documents(embeddings, way, ["a", "b", "c", "long" * 9])
    assert "texts[3], with 36 characters: split it" in str(caught.value)
    assert "Failed to embed texts 2 to 3" in str(caught.value)


@WAYS
async def test_a_mistake_in_the_middle_stops_the_rest(way: str) -> None:
    calls = []

    def token() -> str:
        calls.append(1)
        if len(calls) == 2:
            msg = "no token today"
            raise RuntimeError(msg)
        return "t"

    embeddings = embedder(chunk_size=1, max_concurrency=1)
    embeddings.service_token = token
    with pytest.raises(RuntimeError, match="no token today"):
        await documents(embeddings, way, ["a"] * 10)
    assert len(calls) == 2


async def test_cancelling_stops_the_rest() -> None:
    requests = []
    begun = asyncio.Event()

    async def handler(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        if len(requests) == 2:
            begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    embeddings = embedder(handler, chunk_size=1, max_concurrency=2)
    task = asyncio.ensure_future(embeddings.aembed_documents(["a"] * 10))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(requests) == 2


class TestTransfer:
    @staticmethod
    def picky(
        formats: list[str], status: int = 400, said: str = "encoding_format: no"
    ) -> Any:
        def handler(request: httpx2.Request) -> httpx2.Response:
            formats.append(json.loads(request.content)["encoding_format"])
            if formats[-1] == "base64":
                return httpx2.Response(status, json={"error": {"message": said}})
            return answer(request)

        return handler

    @WAYS
    async def test_floats_once_base64_is_refused(self, way: str) -> None:
        formats: list[str] = []
        embeddings = embedder(self.picky(formats), chunk_size=1, max_concurrency=1)
        assert len(await documents(embeddings, way, ["a", "b"])) == 2
        assert formats == ["base64", "float", "float"]

    @WAYS
    async def test_two_requests_that_are_refused_at_once(self, way: str) -> None:
        formats: list[str] = []
        gate = Gate(2, self.picky(formats))
        embeddings = embedder(gate.handler(way), chunk_size=1, max_concurrency=2)
        assert len(await documents(embeddings, way, ["a", "b"])) == 2
        assert sorted(formats) == ["base64", "base64", "float", "float"]

    @WAYS
    async def test_what_was_asked_for_is_not_changed(self, way: str) -> None:
        formats: list[str] = []
        embeddings = embedder(self.picky(formats), encoding_format="base64")
        with pytest.raises(NscaleInvalidRequestError):
            await documents(embeddings, way, ["a"])
        assert formats == ["base64"]

    @WAYS
    async def test_another_refusal_is_an_error(self, way: str) -> None:
        formats: list[str] = []
        embeddings = embedder(self.picky(formats, said="bad dimensions"))
        with pytest.raises(NscaleInvalidRequestError, match="bad dimensions"):
            await documents(embeddings, way, ["a"])
        assert formats == ["base64"]

    def test_floats_from_the_beginning(self) -> None:
        formats: list[str] = []
        embedder(self.picky(formats), encoding_format="float").embed_documents(["a"])
        assert formats == ["float"]


MATRYOSHKA = (
    'Model "Qwen/Qwen3-Embedding-8B" does not support matryoshka representation, '
    "changing output dimensions will lead to poor results."
)


class TestDimensions:
    """`dimensions` refused, as vLLM does for Qwen3-Embedding: vectors are cut here."""

    @staticmethod
    def refusing(sent: list[dict[str, Any]], *fields: str, said: str, status: int) -> Any:
        def handler(request: httpx2.Request) -> httpx2.Response:
            body = json.loads(request.content)
            sent.append(body)
            for field in fields:
                if body.get(field) not in (None, "float"):
                    problem = {
                        "message": f"{field}: no" if field != "dimensions" else said
                    }
                    return httpx2.Response(status, json={"error": problem})
            data = [
                {"index": n, "embedding": [3.0, 4.0, *([9.0] * 6)]}
                for n in range(len(body["input"]))
            ]
            return httpx2.Response(200, json={"data": data})

        return handler

    @WAYS
    @pytest.mark.parametrize(
        ("said", "status"),
        [
            (MATRYOSHKA, 400),
            ("dimensions is currently not supported", 400),
            ("Extra inputs are not permitted: dimensions", 422),
            ('Model "m" only supports [32, 64] matryoshka dimensions', 400),
        ],
    )
    async def test_once_refused_never_sent_again(
        self, way: str, said: str, status: int
    ) -> None:
        sent: list[dict[str, Any]] = []
        handler = self.refusing(sent, "dimensions", said=said, status=status)
        embeddings = embedder(handler, dimensions=2, chunk_size=1, max_concurrency=1)
        vectors = await documents(embeddings, way, ["a", "b"])
        assert vectors == [[0.6, 0.8]] * 2
        assert embeddings.embed_query("q") == [0.6, 0.8]
        assert ["dimensions" in body for body in sent] == [True, False, False, False]

    @WAYS
    async def test_with_base64_refused_as_well(self, way: str) -> None:
        sent: list[dict[str, Any]] = []
        handler = self.refusing(
            sent, "encoding_format", "dimensions", said=MATRYOSHKA, status=400
        )
        embeddings = embedder(handler, dimensions=2)
        assert await documents(embeddings, way, ["a"]) == [[0.6, 0.8]]
        forms = [(body["encoding_format"], body.get("dimensions")) for body in sent]
        assert forms == [("base64", 2), ("float", 2), ("float", None)]

    @WAYS
    async def test_at_once(self, way: str) -> None:
        sent: list[dict[str, Any]] = []
        handler = self.refusing(sent, "dimensions", said=MATRYOSHKA, status=400)
        gate = Gate(2, handler)
        embeddings = embedder(
            gate.handler(way), dimensions=2, chunk_size=1, max_concurrency=2
        )
        assert await documents(embeddings, way, ["a", "b"]) == [[0.6, 0.8]] * 2
        assert len(sent) == 4

    @WAYS
    async def test_a_model_whose_vectors_cannot_be_cut(self, way: str) -> None:
        sent: list[dict[str, Any]] = []
        handler = self.refusing(sent, "dimensions", said=MATRYOSHKA, status=400)
        embeddings = embedder(handler, dimensions=2).model_copy(update={"model": "e5"})
        with pytest.raises(NscaleInvalidRequestError, match="matryoshka"):
            await documents(embeddings, way, ["a"])
        assert len(sent) == 1

    @WAYS
    async def test_a_refusal_that_never_ends(self, way: str) -> None:
        sent: list[dict[str, Any]] = []

        def handler(request: httpx2.Request) -> httpx2.Response:
            sent.append(json.loads(request.content))
            said = {"message": "encoding_format and dimensions: no"}
            return httpx2.Response(400, json={"error": said})

        with pytest.raises(NscaleInvalidRequestError):
            await documents(embedder(handler, dimensions=2), way, ["a"])
        assert len(sent) == 3


class TestChunkSize:
    @WAYS
    async def test_of_one_call(self, way: str) -> None:
        sizes: list[int] = []

        def handler(request: httpx2.Request) -> httpx2.Response:
            sizes.append(len(json.loads(request.content)["input"]))
            return answer(request)

        embeddings = embedder(handler, chunk_size=4, max_concurrency=1)
        texts = ["a"] * 6
        if way == "async":
            await embeddings.aembed_documents(texts, chunk_size=5)
            await embeddings.aembed_documents(texts, 2)
        else:
            embeddings.embed_documents(texts, chunk_size=5)
            embeddings.embed_documents(texts, 2)
        await documents(embeddings, way, texts)
        assert sizes == [5, 1, 2, 2, 2, 4, 2]
        with pytest.raises(ValueError, match="`chunk_size` is 0"):
            embeddings.embed_documents(texts, chunk_size=0)


async def rows(embeddings: NscaleEmbeddings, way: str, texts: Any) -> Any:
    if way == "async":
        return await embeddings.aembed_documents_as_array(texts)
    return embeddings.embed_documents_as_array(texts)


FLOATS = st.floats(width=32, min_value=-1e3, max_value=1e3)


class TestArrays:
    @WAYS
    @given(
        vectors=st.integers(1, 5).flatmap(
            lambda length: st.lists(
                st.lists(
                    st.floats(width=32, min_value=-1e3, max_value=1e3),
                    min_size=length,
                    max_size=length,
                ),
                max_size=9,
            )
        ),
        chunk_size=st.integers(1, 4),
        dimensions=st.none() | st.integers(1, 5),
        floats=st.booleans(),
        order=st.randoms(use_true_random=False),
    )
    async def test_as_lists(
        self,
        way: str,
        vectors: list[list[float]],
        chunk_size: int,
        dimensions: int | None,
        floats: bool,
        order: random.Random,
    ) -> None:
        def handler(request: httpx2.Request) -> httpx2.Response:
            data: list[dict[str, Any]] = []
            for n, text in enumerate(json.loads(request.content)["input"]):
                packed = struct.pack(f"<{len(vectors[int(text)])}f", *vectors[int(text)])
                value: Any = vectors[int(text)] if floats else b64encode(packed).decode()
                data.append({"index": n, "embedding": value})
            order.shuffle(data)
            return httpx2.Response(200, json={"data": data})

        embeddings = embedder(handler, chunk_size=chunk_size, dimensions=dimensions)
        texts = [str(n) for n in range(len(vectors))]
        try:
            expected = await documents(embeddings, way, texts)
        except NscaleMalformedResponseError as error:
            with pytest.raises(type(error)):
                await rows(embeddings, way, texts)
            return
        array = await rows(embeddings, way, texts)
        assert array.dtype == np.float32
        assert array.shape == (len(texts), array.shape[1])
        assert array.flags.writeable
        np.testing.assert_allclose(
            array, np.array(expected, np.float32).reshape(array.shape), rtol=1e-6
        )

    @WAYS
    async def test_failures_have_the_rest_as_lists(self, way: str) -> None:
        embeddings = embedder(failing_on("bad", 500), chunk_size=1, max_concurrency=1)
        with pytest.raises(NscaleError) as caught:
            await rows(embeddings, way, ["aa", "bad", "c"])
        assert caught.value.partial_embeddings == [[2.0, 1.0], None, None]

    @WAYS
    @pytest.mark.parametrize(
        "values",
        [
            [[1.0], [1.0, 2.0]],
            [[], []],
            [[float("nan")], [1.0]],
            ["AAAA", "AAAA"],
            ["x", [1.0]],
            [None, [1.0]],
            [["a"], [1.0]],
        ],
    )
    async def test_what_is_no_array(self, way: str, values: list[Any]) -> None:
        data = [{"index": n, "embedding": value} for n, value in enumerate(values)]
        body = json.dumps({"data": data})
        with pytest.raises(NscaleMalformedResponseError):
            await rows(
                embedder(lambda _: httpx2.Response(200, text=body)), way, ["a", "b"]
            )

    @WAYS
    async def test_usage(self, way: str) -> None:
        with get_nscale_usage_callback() as usage:
            await rows(embedder(chunk_size=2), way, ["a"] * 5)
        assert (usage.total.calls, usage.total.input_tokens) == (3, 5)

    def test_without_numpy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "numpy", None)
        with pytest.raises(ImportError, match="numpy"):
            embedder().embed_documents_as_array(["a"])


class TestUsage:
    @WAYS
    async def test_by_handler_and_by_context(self, way: str) -> None:
        usage = NscaleUsageCallbackHandler({MODEL: (0.04, 0)})
        embeddings = embedder(callbacks=[usage], chunk_size=2)
        with get_nscale_usage_callback() as around:
            await documents(embeddings, way, ["a"] * 5)
        await documents(embeddings, way, ["a"])
        assert (around.total.calls, around.total.input_tokens) == (3, 5)
        assert (usage.total.calls, usage.total.input_tokens) == (4, 6)
        assert float(usage.cost or 0) == pytest.approx(6 * 0.04 / 1e6)
        assert usage.total.streams == 0

    @WAYS
    async def test_a_handler_that_is_there_twice_counts_once(self, way: str) -> None:
        with get_nscale_usage_callback() as usage:
            await documents(embedder(callbacks=[usage, usage]), way, ["a"])
        assert usage.total.calls == 1

    @WAYS
    async def test_failures(self, way: str) -> None:
        with (
            get_nscale_usage_callback() as usage,
            pytest.raises(NscaleAuthenticationError),
        ):
            await documents(embedder(failing_on("a", 401)), way, ["a"])
        assert usage.total.errors == {"NscaleAuthenticationError": 1}
        assert usage.total.cost == 0


def test_pickles_have_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = NscaleUsageCallbackHandler()
    embeddings = embedder(callbacks=[usage], dimensions=7)
    data = pickle.dumps(embeddings)
    assert b"t-secret" not in data
    restored = pickle.loads(data)
    assert restored.dimensions == 7
    assert len(restored.callbacks) == 1
    with pytest.raises(ValueError, match=r"NscaleEmbeddings was unpickled.*TOKEN"):
        restored.embed_query("x")
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "from-here")
    token: Any = pickle.loads(data).service_token
    assert token.get_secret_value() == "from-here"


def test_copies() -> None:
    embeddings = embedder()
    copied = copy.deepcopy(embeddings)
    assert copied.http_client is embeddings.http_client
    assert copied.embed_documents(["aa"]) == [[2.0, 1.0]]


def test_no_token_in_what_is_shown() -> None:
    embeddings = embedder()
    shown = [repr(embeddings), str(embeddings), repr(embeddings.model_dump())]
    shown.append(embeddings.model_dump_json())
    assert not any("t-secret" in text for text in shown)


def test_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    embedder(chunk_size=1, show_progress_bar=True).embed_documents(["a", "b"])
    embedder(chunk_size=1).embed_documents(["a", "b"])
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert shown.count("2/2") == 1
