"""Models by name, and the patches that LangChain itself would need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import ConfigurableField
from langchain_openai import ChatOpenAI

from langchain_nscale import ChatNscale, init_chat_model
from langchain_nscale.testing import NscaleServer, ServerReply
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
PATCHES = sorted((ROOT / "docs" / "upstream").glob("*.patch"))


@pytest.mark.usefixtures("to_server")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (f"nscale:{MODEL}", {}),
        (f"Nscale:{MODEL}", {"temperature": 0}),
        (MODEL, {"model_provider": "nscale"}),
    ],
)
def test_nscales_models(name: str, settings: dict[str, Any]) -> None:
    model = init_chat_model(name, **settings)
    assert isinstance(model, ChatNscale)
    assert model.model_name == MODEL
    assert model.temperature == settings.get("temperature")
    assert model.invoke("Hi").text == "You said: Hi"


def test_other_models() -> None:
    assert isinstance(init_chat_model("openai:gpt-5", api_key="k"), ChatOpenAI)
    configurable = init_chat_model(api_key="k")
    config: Any = {"configurable": {"model": "openai:gpt-5"}}
    assert configurable.with_config(config) is not None
    with pytest.raises(ValueError, match="nobody"):
        init_chat_model("x", model_provider="nobody")


def test_without_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    with pytest.raises(ImportError, match="pip install langchain"):
        init_chat_model("openai:gpt-5")


def test_what_can_be_configured() -> None:
    with pytest.raises(ValueError, match=r"`\.configurable_fields"):
        init_chat_model("nscale:m", service_token="t", configurable_fields=("model",))
    with pytest.raises(ValueError, match="`model` is missing"):
        init_chat_model("nscale:", service_token="t")


@pytest.mark.usefixtures("to_server")
def test_a_model_chosen_when_it_is_called(server: NscaleServer) -> None:
    chosen: Any = init_chat_model(f"nscale:{MODEL}").configurable_fields(
        model_name=ConfigurableField("model"), temperature=ConfigurableField("heat")
    )
    chosen.invoke("Hi", {"configurable": {"model": "other", "heat": 0.1}})
    assert server.requests[-1].json["model"] == "other"
    assert server.requests[-1].json["temperature"] == 0.1


@pytest.mark.usefixtures("to_server")
def test_an_agent_by_name(server: NscaleServer) -> None:
    server.add(ServerReply(text="Hello"))
    agent = create_agent(init_chat_model(f"nscale:{MODEL}"))
    inputs: Any = {"messages": [("user", "Hi")]}
    result = agent.invoke(inputs)
    assert result["messages"][-1].text == "Hello"


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
        ["patch", "-p3", "-i", str(patch)],  # noqa: S607  # whichever there is
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
