"""A stand-in server, and no other address."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from langchain_nscale import ChatNscale, NscaleEmbeddings, NscaleInvalidRequestError
from langchain_nscale.testing import NscaleServer, ServerReply

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PROMPT = "one two three"  # 3 tokens by the stand-in's count

# Nothing is sent to anybody: recorders hand over what they would send.
os.environ.update(
    DEEPEVAL_TELEMETRY_OPT_OUT="YES",
    LANGSMITH_ENDPOINT="http://127.0.0.1:9",
    # pragma: allowlist nextline secret
    LANGSMITH_API_KEY="none",
    MEM0_TELEMETRY="False",
    NO_PROXY="127.0.0.1,localhost",
)


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    connect = socket.socket.connect

    def checked(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"):
            return connect(self, address)
        message = f"{address} is not on this machine"
        raise OSError(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked)
        yield


@pytest.fixture
def server() -> Iterator[NscaleServer]:
    with NscaleServer() as server:
        yield server


@pytest.fixture
def model(server: NscaleServer) -> ChatNscale:
    return ChatNscale(model=MODEL, max_retries=0, **server.settings)


@pytest.fixture
def embeddings(server: NscaleServer) -> NscaleEmbeddings:
    return NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B", **server.settings)


@pytest.fixture
def calls(model: ChatNscale, server: NscaleServer) -> Callable[..., None]:
    """Make a call, a stream, and a call that fails."""

    def make(*callbacks: Any) -> None:
        config: Any = {"callbacks": list(callbacks)}
        model.invoke(PROMPT, config)
        list(model.stream(PROMPT, config))
        server.add(ServerReply.error(400, "bad"))
        with pytest.raises(NscaleInvalidRequestError):
            model.invoke(PROMPT, config)

    return make
