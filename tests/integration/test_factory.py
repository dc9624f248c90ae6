"""Models by name, and the patches that LangChain itself would need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain.chat_models import base as chat_models
from langchain.chat_models import init_chat_model
from langchain.embeddings import base as embeddings
from langchain.embeddings import init_embeddings
from langchain_core.runnables import ConfigurableField
from langchain_openai import ChatOpenAI

from langchain_nscale import (
    ChatNscale,
    NscaleEmbeddings,
    register,
)
from langchain_nscale.testing import NscaleServer
from tests.integration.conftest import MODEL
from tests.pages.runner import ROOT

# What a user can write once a patch is in.
WITH_PATCH = {
    "langchain": """
from langchain.chat_models import init_chat_model
assert type(init_chat_model("nscale:m")).__name__ == "ChatNscale"
""",
    "langchain_core": """
from langchain_core.load import dumps, loads
from langchain_nscale import ChatNscale
loaded = loads(dumps(ChatNscale(model="m")), allowed_objects="all", secrets_from_env=True)
assert type(loaded) is ChatNscale
""",
}
GNU_PATCH: Any = shutil.which("patch")
PATCHES = sorted((ROOT / "docs" / "upstream").glob("*.patch"))


@pytest.fixture(autouse=True)
def _unregistered() -> Iterator[None]:
    yield
    chat_models._BUILTIN_PROVIDERS.pop("nscale", None)
    embeddings._BUILTIN_PROVIDERS.pop("nscale", None)


@pytest.mark.usefixtures("to_server")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (f"nscale:{MODEL}", {}),
        (f"nscale:{MODEL}", {"temperature": 0}),
        (MODEL, {"model_provider": "nscale"}),
        (f"Nscale:{MODEL}", {"model_provider": "nscale"}),
    ],
)
def test_nscales_models(name: str, settings: dict[str, Any]) -> None:
    register()
    model = init_chat_model(name, **settings)
    assert isinstance(model, ChatNscale)
    assert model.model_name == MODEL
    assert model.temperature == settings.get("temperature")
    assert model.invoke("Hi").text == "You said: Hi"


def test_other_models() -> None:
    register()
    assert isinstance(init_chat_model("openai:gpt-5", api_key="k"), ChatOpenAI)
    with pytest.raises(ValueError, match="nobody"):
        init_chat_model("x", model_provider="nobody")
    theirs = init_embeddings("openai:text-embedding-3-small", api_key="k")
    assert type(theirs).__name__ == "OpenAIEmbeddings"


def test_without_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("chat_models", "chat_models.base", "embeddings"):
        monkeypatch.setitem(sys.modules, f"langchain.{module}", None)
    with pytest.raises(ImportError, match="pip install langchain"):
        register()


@pytest.mark.usefixtures("to_server")
@pytest.mark.parametrize("name", [f"nscale:{MODEL}", None])
def test_models_that_the_configuration_chooses(
    server: NscaleServer, name: str | None
) -> None:
    register()
    settings: Any = {"configurable_fields": ("model", "model_provider")}
    model = init_chat_model(name, **(settings if name else {}))
    config: Any = {"configurable": {"model": "nscale:other"}}
    model.invoke("Hi", config)
    assert server.requests[-1].json["model"] == "other"


def test_a_name_without_a_model() -> None:
    register()
    with pytest.raises(ValueError, match="`model` is missing"):
        init_chat_model("nscale:", service_token="t")


@pytest.mark.usefixtures("to_server")
def test_a_model_chosen_when_it_is_called(server: NscaleServer) -> None:
    chosen: Any = ChatNscale(model=MODEL).configurable_fields(
        model_name=ConfigurableField("model"), temperature=ConfigurableField("heat")
    )
    chosen.invoke("Hi", {"configurable": {"model": "other", "heat": 0.1}})
    assert server.requests[-1].json["model"] == "other"
    assert server.requests[-1].json["temperature"] == 0.1


def test_embeddings_by_name() -> None:
    register()
    made = init_embeddings("nscale:Qwen/Qwen3-Embedding-8B", service_token="t")
    assert isinstance(made, NscaleEmbeddings)
    assert made.model == "Qwen/Qwen3-Embedding-8B"
    assert isinstance(
        init_embeddings("m", provider="nscale", service_token="t"), NscaleEmbeddings
    )


@pytest.mark.usefixtures("to_server")
def test_names_in_langchains_own_functions(server: NscaleServer) -> None:
    name = f"nscale:{MODEL}"
    with pytest.raises(ValueError, match="nscale"):
        create_agent(name)
    register()
    register()
    inputs: Any = {"messages": [("user", "Hi")]}
    summaries: Any = SummarizationMiddleware(name, trigger=("tokens", 9))
    for agent in (create_agent(name), create_agent(name, middleware=[summaries])):
        result: Any = agent.invoke(inputs)
        assert result["messages"][-1].text == "You said: Hi"
    assert isinstance(init_chat_model(name), ChatNscale)
    chosen = init_chat_model()
    config: Any = {"configurable": {"model": name}}
    assert chosen.invoke("Hi", config).text == "You said: Hi"
    made = init_embeddings("nscale:Qwen/Qwen3-Embedding-8B")
    assert isinstance(made, NscaleEmbeddings)
    assert server.requests


@pytest.mark.parametrize("other", [None, {}, {"openai": ("a", "B")}, [1]], ids=str)
def test_a_list_that_has_changed_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, other: Any
) -> None:
    monkeypatch.setattr(embeddings, "_BUILTIN_PROVIDERS", other)
    with pytest.raises(RuntimeError, match="an instance of NscaleEmbeddings"):
        register()
    assert "nscale" not in chat_models._BUILTIN_PROVIDERS
    monkeypatch.undo()


@pytest.mark.skipif(GNU_PATCH is None, reason="GNU patch is not installed")
@pytest.mark.usefixtures("to_server")
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_patch_does_what_it_says(patch: Path, tmp_path: Path) -> None:
    """It applies to the installed package, and the name then leads to us."""
    package = patch.name.partition(".")[0]
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, tmp_path / package)
    done = subprocess.run(  # noqa: S603  # our own
        [GNU_PATCH, "-p3", "-i", str(patch)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    ran = subprocess.run(  # noqa: S603  # our own
        [sys.executable, "-c", WITH_PATCH[package]],
        cwd=tmp_path,  # comes first in the module path
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_there_are_patches() -> None:
    assert [patch.name for patch in PATCHES] == [
        "langchain.patch",
        "langchain_core.patch",
    ]
