"""Packages that need an older langchain-community."""

from __future__ import annotations

import pytest

from langchain_nscale import ChatNscale, NscaleEmbeddings
from tests.packages.conftest import PROMPT


@pytest.mark.package("llama-index-llms-langchain")
def test_llama_index_llms(model: ChatNscale) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.langchain import LangChainLLM

    llm = LangChainLLM(llm=model)
    assert llm.complete(PROMPT).text
    assert "".join(str(part.delta) for part in llm.stream_complete(PROMPT))
    assert llm.chat([ChatMessage(role="user", content=PROMPT)]).message.content
    # It knows the names of other providers only: pass these yourself.
    assert llm.metadata.model_name == "unknown"
    assert llm.metadata.context_window < 5_000


@pytest.mark.package("llama-index-embeddings-langchain")
def test_llama_index_embeddings(embeddings: NscaleEmbeddings) -> None:
    from llama_index.embeddings.langchain import LangchainEmbedding

    embedder = LangchainEmbedding(embeddings)
    assert embedder.model_name == "Qwen/Qwen3-Embedding-8B"
    assert embedder.get_text_embedding("x") == embeddings.embed_documents(["x"])[0]
    assert embedder.get_query_embedding("x") == embeddings.embed_query("x")
