"""MiniLM's weights on the real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests

from langchain_nscale import NscaleEmbeddings
from langchain_nscale.__main__ import main as run
from langchain_nscale.errors import NscaleContextOverflowError
from tests.vllm.engine import KEY, Engine, running


@pytest.fixture(scope="module")
def minilm() -> Iterator[Engine]:
    with running(model="minilm") as server:
        yield server


class TestSuite(EmbeddingsIntegrationTests):
    embeddings_class = NscaleEmbeddings

    @pytest.fixture(autouse=True)
    def _engine(self, minilm: Engine) -> None:
        self.engine = minilm

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "emb", **self.engine.settings}


def test_similar_texts_are_close(minilm: Engine) -> None:
    cat, kitten, rates = minilm.embeddings().embed_documents(
        ["A cat sleeps.", "A kitten naps.", "Interest rates rose."]
    )
    near = sum(a * b for a, b in zip(cat, kitten, strict=True))
    far = sum(a * b for a, b in zip(cat, rates, strict=True))
    assert near > far + 0.3


async def test_many_texts(minilm: Engine) -> None:
    vectors = await minilm.embeddings().aembed_documents(
        [f"Text {n}" for n in range(300)]
    )
    assert len(vectors) == 300


def test_a_text_that_is_too_long(minilm: Engine) -> None:
    with pytest.raises(NscaleContextOverflowError, match="Split the text"):
        minilm.embeddings().embed_query("word " * 5000)


def test_on_the_command_line(
    minilm: Engine, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSCALE_BASE_URL", minilm.base_url)
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", KEY)
    assert run(["embed", "A cat sleeps.", "Interest rates rose.", "-m", "emb"]) == 0
    lines = capsys.readouterr().out.splitlines()
    vectors = [json.loads(line)["embedding"] for line in lines]
    assert vectors == minilm.embeddings().embed_documents(
        ["A cat sleeps.", "Interest rates rose."]
    )
