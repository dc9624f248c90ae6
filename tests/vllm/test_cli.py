"""The command line against the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from langchain_nscale.__main__ import main as run
from tests.vllm.engine import KEY, Engine


@pytest.fixture
def to_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("NSCALE_BASE_URL", engine.base_url)
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", KEY)
    return engine


@pytest.mark.usefixtures("to_engine")
class TestCommands:
    def test_chat(self, capsys: Any) -> None:
        assert run(["chat", "-m", "smol", "Say hello."]) == 0
        assert capsys.readouterr().out.startswith("Hello! I am a language model.")

    def test_models(self, capsys: Any) -> None:
        assert run(["models", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert [model["id"] for model in listed] == ["smol", "smol-too"]
        assert listed[0]["context_length"] == 4096

    def test_doctor(self, capsys: Any) -> None:
        """Without a model, it takes one that the server lists."""
        status = run(["doctor"])
        assert "smol" in capsys.readouterr().out
        assert status == 0

    def test_embed_where_there_are_no_embeddings(self, capsys: Any) -> None:
        assert run(["embed", "A text.", "-m", "smol"]) == 1
        assert "offers no embeddings" in capsys.readouterr().err

    def test_batch(self, tmp_path: Path) -> None:
        source = tmp_path / "in.jsonl"
        source.write_text("".join(f'"[[say: Number {n}.]]"\n' for n in range(40)))
        target = tmp_path / "out.jsonl"
        assert run(["batch", str(source), str(target), "-m", "smol"]) == 0
        results = [json.loads(line) for line in target.read_text().splitlines()]
        assert [r["content"] for r in results] == [f"Number {n}." for n in range(40)]
