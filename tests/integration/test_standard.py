"""LangChain's standard suites: on the stand-in, and on Nscale itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
)

from langchain_nscale import NscaleEmbeddings
from langchain_nscale.testing import NscaleServer
from tests.capabilities import Capabilities
from tests.conftest import LIVE_TOKEN
from tests.integration.conftest import VISION_MODEL
from tests.integration.responder import respond

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
    # pragma: allowlist nextline secret
    "789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


class _Picture:
    content = PICTURE


@pytest.fixture(scope="module")
def responding_server() -> Iterator[NscaleServer]:
    with NscaleServer(responder=respond) as server:
        yield server


class NscaleSuite(Capabilities, ChatModelIntegrationTests):
    enable_vcr_tests = True


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    return {"ignore_localhost": True}  # nothing is replayed: the server is real


# `test_stream_time` measures replayed cassettes only; here it just streams.
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
@pytest.mark.filterwarnings("ignore:.*is in beta")
class TestStandIn(NscaleSuite):
    model_override_value = "openai/gpt-oss-20b"

    @pytest.fixture(autouse=True)
    def _settings(self, responding_server: NscaleServer) -> None:
        self.settings = responding_server.settings

    @pytest.fixture(autouse=True)
    def _local_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The suite fetches its picture from the web, which tests here don't reach.
        monkeypatch.setattr("httpx.get", lambda *_, **__: _Picture())

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": VISION_MODEL, **self.settings}


class EmbeddingsSuite(EmbeddingsIntegrationTests):
    embeddings_class = NscaleEmbeddings
    model_name = "Qwen/Qwen3-Embedding-8B"


class TestEmbeddingsOnStandIn(EmbeddingsSuite):
    @pytest.fixture(autouse=True)
    def _settings(self, responding_server: NscaleServer) -> None:
        self.settings = responding_server.settings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": self.model_name, **self.settings}


if LIVE_TOKEN:

    @pytest.mark.live
    class TestEmbeddingsLive(EmbeddingsSuite):
        @property
        def embedding_model_params(self) -> dict[str, Any]:
            return {"model": self.model_name, "service_token": LIVE_TOKEN}

    @pytest.mark.live
    class TestLive(NscaleSuite):
        supports_image_inputs = False  # not this model
        supports_image_urls = False
        supports_image_tool_message = False
        has_tool_choice = False  # Nscale documents only auto and none
        enable_vcr_tests = False

        @property
        def chat_model_params(self) -> dict[str, Any]:
            return {"model": VISION_MODEL, "service_token": LIVE_TOKEN}

else:

    def test_live() -> None:
        pytest.skip("NSCALE_SERVICE_TOKEN isn't set: the suite isn't run on Nscale")
