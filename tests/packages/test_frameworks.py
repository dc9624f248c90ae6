"""Frameworks, memory, guardrails, stores and servers that take a model or embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from langchain_nscale import ChatNscale, NscaleEmbeddings
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.packages.conftest import MODEL, PROMPT

TEXTS = ["Cats sleep a lot.", "Rust has no garbage."]


def requests_to(server: NscaleServer, path: str) -> list[Any]:
    return [r.json for r in server.requests if r.path.endswith(path)]


@pytest.mark.package("deepeval")
def test_deepeval(model: ChatNscale, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepeval.integrations.langchain import CallbackHandler
    from deepeval.tracing import trace_manager

    spans: list[Any] = []
    add_span = trace_manager.add_span
    monkeypatch.setattr(
        trace_manager, "add_span", lambda span: spans.append(span) or add_span(span)
    )
    model.invoke(PROMPT, {"callbacks": [CallbackHandler()]})
    (span,) = [span for span in spans if getattr(span, "model", None)]
    assert span.model == MODEL
    assert span.input_token_count == 3


@pytest.mark.package("langgraph-supervisor")
def test_supervisor(model: ChatNscale, server: NscaleServer) -> None:
    from langchain.agents import create_agent
    from langgraph_supervisor import create_supervisor

    worker = create_agent(model, [], name="worker")
    team = create_supervisor([worker], model=model).compile()
    call = ToolCallReply("transfer_to_worker")
    server.add(ServerReply(tool_calls=[call]), ServerReply(text="done"), "over")
    answer = team.invoke({"messages": [("user", "work")]})
    assert answer["messages"][-1].text == "over"


@pytest.mark.package("langgraph-swarm")
def test_swarm(model: ChatNscale, server: NscaleServer) -> None:
    from langchain.agents import create_agent
    from langgraph_swarm import create_handoff_tool, create_swarm

    to_second = create_handoff_tool(agent_name="second")
    first = create_agent(model, [to_second], name="first")
    second = create_agent(model, [], name="second")
    swarm = create_swarm([first, second], default_active_agent="first").compile()
    server.add(ServerReply(tool_calls=[ToolCallReply("transfer_to_second")]), "done")
    answer = swarm.invoke({"messages": [("user", "work")]})
    assert (answer["active_agent"], answer["messages"][-1].text) == ("second", "done")


@pytest.mark.package("langgraph-bigtool")
def test_bigtool(
    model: ChatNscale, embeddings: NscaleEmbeddings, server: NscaleServer
) -> None:
    from langchain_core.tools import tool
    from langgraph.store.memory import InMemoryStore
    from langgraph_bigtool import create_agent

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    length = len(embeddings.embed_query("x"))
    store = InMemoryStore(index={"embed": embeddings, "dims": length, "fields": ["text"]})
    store.put(("tools",), "1", {"text": "add: Add two numbers."})
    agent = create_agent(model, {"1": add}).compile(store=store)
    look = ToolCallReply("retrieve_tools", {"query": "add"})
    server.add(
        ServerReply(tool_calls=[look]),
        ServerReply(tool_calls=[ToolCallReply("add", {"a": 1, "b": 2})]),
        "3",
    )
    # It finds tools, but can't call them with langgraph 1.2: only upstream can.
    with pytest.raises(AttributeError, match="inject_tool_args"):
        agent.invoke({"messages": [("user", "1 + 2?")]})
    assert [tool["function"]["name"] for tool in server.requests[-1].json["tools"]] == [
        "retrieve_tools",
        "add",
    ]


@pytest.mark.package("trustcall")
def test_trustcall(model: ChatNscale, server: NscaleServer) -> None:
    from pydantic import BaseModel
    from trustcall import create_extractor

    class Person(BaseModel):
        """A person."""

        name: str

    extractor = create_extractor(model, tools=[Person], tool_choice="Person")
    server.add(ServerReply(tool_calls=[ToolCallReply("Person", {"name": "Ada"})]))
    assert extractor.invoke("Ada")["responses"] == [Person(name="Ada")]


@pytest.mark.package("langmem")
def test_langmem(model: ChatNscale, server: NscaleServer) -> None:
    from langmem import create_memory_manager

    manager = create_memory_manager(model)
    call = ToolCallReply("Memory", {"content": "likes cats"})
    server.add(ServerReply(tool_calls=[call]), "done", "done")
    (memory, *_) = manager.invoke({"messages": [{"role": "user", "content": "cats"}]})
    assert memory.content.content == "likes cats"


@pytest.mark.package("langchain-classic")
def test_classic(
    embeddings: NscaleEmbeddings, server: NscaleServer, tmp_path: Path
) -> None:
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_classic.storage import LocalFileStore

    def cached(queries: Any) -> CacheBackedEmbeddings:
        return CacheBackedEmbeddings.from_bytes_store(
            embeddings,
            LocalFileStore(tmp_path / "documents"),
            namespace="documents",
            key_encoder="sha256",
            query_embedding_cache=queries,
        )

    one = cached(LocalFileStore(tmp_path / "queries"))  # a store per side
    assert one.embed_documents(["x"]) == one.embed_documents(["x"])
    assert one.embed_query("x") == one.embed_query("x")
    assert len(requests_to(server, "/embeddings")) == 2
    # With one store for both, a query is answered with a document's vector.
    both = cached(True)  # its argument
    assert both.embed_query("x") == both.embed_documents(["x"])[0]


@pytest.mark.package("langchain-community")
def test_community(model: ChatNscale) -> None:
    from langchain_community.callbacks import get_openai_callback

    with get_openai_callback() as usage:
        model.invoke(PROMPT)
        list(model.stream(PROMPT))
    assert usage.prompt_tokens == 6
    assert usage.total_cost == 0  # it has no price for these models, and says nothing


@pytest.mark.package("langchain-experimental")
def test_experimental(model: ChatNscale, server: NscaleServer) -> None:
    from langchain_core.documents import Document
    from langchain_experimental.graph_transformers import (
        LLMGraphTransformer,
    )

    from langchain_nscale.openai import as_openai

    def enums(each: Any) -> bool:
        server.reset()
        transformer = LLMGraphTransformer(llm=each, allowed_nodes=["Person"])
        transformer.convert_to_graph_documents([Document("Ada knows Bob.")])
        return '"enum"' in json.dumps(server.requests[0].json)

    assert not enums(model)  # it only restricts the types for `_llm_type` openai-chat
    assert enums(as_openai(model))


@pytest.mark.package("langchain-chroma")
def test_chroma(embeddings: NscaleEmbeddings, tmp_path: Path) -> None:
    from langchain_chroma import Chroma

    store = Chroma.from_texts(TEXTS, embeddings, persist_directory=str(tmp_path))
    assert store.similarity_search(TEXTS[0], k=1)[0].page_content in TEXTS
    assert len(store.similarity_search("cats", k=2)) == 2


@pytest.mark.package("faiss-cpu")
def test_faiss(
    embeddings: NscaleEmbeddings, server: NscaleServer, tmp_path: Path
) -> None:
    from langchain_community.vectorstores import FAISS

    FAISS.from_texts(TEXTS, embeddings).save_local(str(tmp_path))
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert server.token.encode() not in stored
    again = FAISS.load_local(
        str(tmp_path), embeddings, allow_dangerous_deserialization=True
    )
    assert len(again.similarity_search("cats", k=2)) == 2


@pytest.mark.package("langchain-lancedb")
def test_lancedb(embeddings: NscaleEmbeddings, tmp_path: Path) -> None:
    from langchain_lancedb import LanceDB

    store = LanceDB(embeddings, uri=str(tmp_path))
    store.add_texts(TEXTS)
    assert len(store.similarity_search("cats", k=2)) == 2


@pytest.mark.package("langserve")
def test_langserve(model: ChatNscale) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from langserve import add_routes

    app = FastAPI()
    add_routes(app, model)
    with TestClient(app) as client:
        answer = client.post("/invoke", json={"input": PROMPT}).json()
        streamed = client.post("/stream", json={"input": PROMPT}).text
    assert answer["output"]["usage_metadata"]["input_tokens"] == 3
    assert "event: end" in streamed


@pytest.mark.package("mem0ai")
@pytest.mark.parametrize("instruction", [None, ""])
def test_mem0(
    model: ChatNscale, server: NscaleServer, tmp_path: Path, instruction: str | None
) -> None:
    from mem0 import Memory

    embeddings = NscaleEmbeddings(
        model="Qwen/Qwen3-Embedding-8B", query_instruction=instruction, **server.settings
    )
    length = len(embeddings.embed_query("x"))
    store = {
        "path": str(tmp_path),
        "embedding_model_dims": length,
        "collection_name": "c",
    }
    memory = Memory.from_config(
        {
            "llm": {"provider": "langchain", "config": {"model": model}},
            "embedder": {"provider": "langchain", "config": {"model": embeddings}},
            "vector_store": {"provider": "qdrant", "config": store},
            "history_db_path": str(tmp_path / "history.db"),
        }
    )
    server.reset()
    memory.add("I like cats", user_id="u", infer=False)
    sent = str([body["input"] for body in requests_to(server, "/embeddings")])
    # It embeds what it stores as a query, so that memories begin with an instruction.
    assert ("Instruct:" in sent) == (instruction is None)
    assert "I like cats" in sent


@pytest.mark.package("nemoguardrails")
def test_nemo_guardrails(
    model: ChatNscale, server: NscaleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOGUARDRAILS_LLM_FRAMEWORK", "langchain")
    from nemoguardrails import LLMRails, RailsConfig

    server.add("Hello from Nscale")
    config = RailsConfig.from_content(yaml_content="models: []")
    rails = LLMRails(config, llm=model)
    answer = rails.generate(messages=[{"role": "user", "content": "Hi"}])
    assert answer["content"] == "Hello from Nscale"
