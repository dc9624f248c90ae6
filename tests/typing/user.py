"""What users write; `.ci/package` has type checkers read it from outside."""

from __future__ import annotations

from decimal import Decimal

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from langchain_nscale import (
    ChatNscale,
    NscaleEmbeddings,
    NscaleError,
    NscaleModel,
    NscaleUsageCallbackHandler,
    get_nscale_usage_callback,
    list_models,
)
from langchain_nscale.testing import NscaleServer, ServerReply


def chat() -> BaseChatModel:
    """Settings have types, by their aliases too."""
    return ChatNscale(
        model="m", temperature=0.5, max_tokens=9, timeout=3.0, max_retries=1
    )


def embed() -> Embeddings:
    """Embeddings are LangChain's."""
    return NscaleEmbeddings(model="m", dimensions=3)


def ask(model: ChatNscale) -> str:
    """Answers and errors have types."""
    try:
        reply: AIMessage = model.invoke("Hi")
    except NscaleError as error:
        status: int | None = error.status_code
        return f"{error.message} {status}"
    return reply.text


def spend() -> Decimal | None:
    """So do use, spend and the model list."""
    models: list[NscaleModel] = list_models()
    usage: NscaleUsageCallbackHandler
    with get_nscale_usage_callback(prices=models) as usage:
        ask(ChatNscale(model=models[0].id))
    return usage.cost


def stand_in() -> None:
    """And the stand-in server."""
    with NscaleServer() as server:
        server.add(ServerReply(text="Hi"))
        ask(ChatNscale(model="m", **server.settings))
