"""LangChain's standard suites on the real engine, with ChatOpenAI next to ChatNscale.

The suite of ChatOpenAI is for comparison: what it fails is no fault of this package.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_nscale import ChatNscale
from tests.vllm.engine import KEY, Engine

pytestmark = [
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),
    pytest.mark.filterwarnings("ignore:.*is in beta"),
]


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    return {"ignore_localhost": True}  # nothing is replayed


class Suite(ChatModelIntegrationTests):
    supports_json_mode = True
    supports_anthropic_inputs = True
    # vLLM answers requests for the second name of a model with its first name.
    supports_model_override = False
    kind: type[BaseChatModel] = ChatNscale
    more: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _engine(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return self.kind

    @property
    def chat_model_params(self) -> dict[str, Any]:
        base = {"model": "smol", "max_tokens": 300, "temperature": 0}
        address = {"base_url": self.engine.base_url, "api_key": KEY}
        return {**base, **address, **self.more}


class TestChatNscale(Suite):
    pass


class TestChatNscaleV1(Suite):
    more: ClassVar[dict[str, Any]] = {"output_version": "v1"}


class TestChatNscaleFunctions(Suite):
    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


@pytest.mark.xfail(strict=False, reason="it is not ours; only for comparison")
class TestChatOpenAI(Suite):
    kind = ChatOpenAI
    # Without it, it does not ask for usage at an address that is not OpenAI's.
    more: ClassVar[dict[str, Any]] = {"stream_usage": True}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def collect_its_sockets(cls) -> Iterator[None]:
        """Collect the connections it leaves open, which would fail the whole run."""
        yield
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for _ in range(3):
                gc.collect()
