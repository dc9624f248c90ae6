"""LangChain's standard suites, without network."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from langchain_core.load import load
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from langchain_tests.unit_tests import chat_models as suite

from langchain_nscale import ChatNscale, NscaleEmbeddings
from tests.capabilities import Capabilities


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
class TestChatNscale(Capabilities, ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "from-the-environment")

    @pytest.fixture(autouse=True)
    def _third_party_load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # `allowed_objects="all"` means langchain-core's own list of packages; a class
        # that isn't on it is named in this argument, by our users too.
        path = tuple(ChatNscale.lc_id())
        named = partial(load, additional_import_mappings={path: path})
        monkeypatch.setattr(suite, "load", named)

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "meta-llama/Llama-3.1-8B-Instruct"}

    @property
    def init_from_env_params(
        self,
    ) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return (
            {"NSCALE_SERVICE_TOKEN": "t", "NSCALE_BASE_URL": "https://x/v1"},
            self.chat_model_params,
            {"service_token": "t", "base_url": "https://x/v1"},
        )

    model_override_value = "openai/gpt-oss-20b"


class TestNscaleEmbeddings(EmbeddingsUnitTests):
    embeddings_class = NscaleEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "Qwen/Qwen3-Embedding-8B", "service_token": "t"}

    @property
    def init_from_env_params(
        self,
    ) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return (
            {"NSCALE_SERVICE_TOKEN": "t", "NSCALE_BASE_URL": "https://x/v1"},
            {"model": "Qwen/Qwen3-Embedding-8B"},
            {"service_token": "t", "base_url": "https://x/v1"},
        )
