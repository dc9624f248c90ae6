"""Observability products with an agent of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_nscale import ChatNscale
from langchain_nscale.testing import NscaleServer
from tests.packages.conftest import MODEL, PROMPT

Calls = Callable[..., None]


@pytest.mark.package("mlflow")
def test_mlflow(calls: Calls, server: NscaleServer, tmp_path: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.langchain.autolog()
    calls()
    mlflow.langchain.autolog(disable=True)
    mlflow.flush_trace_async_logging()
    traces = mlflow.search_traces(return_type="list")
    (spans,) = zip(*[trace.data.spans for trace in traces], strict=True)
    attributes = [span.attributes for span in spans]
    assert {each["mlflow.llm.provider"] for each in attributes} == {"nscale"}
    assert {each["mlflow.llm.model"] for each in attributes} == {MODEL}
    used = [each.get("mlflow.chat.tokenUsage") for each in attributes]
    assert sorted(each["input_tokens"] for each in used if each) == [3, 3]
    assert server.token.encode() not in (tmp_path / "mlflow.db").read_bytes()


@pytest.mark.package("opik")
def test_opik(model: ChatNscale, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OPIK_URL_OVERRIDE": "http://127.0.0.1:9/api",
        # pragma: allowlist nextline secret
        "OPIK_API_KEY": "none",
        "OPIK_WORKSPACE": "none",
        "OPIK_SENTRY_ENABLE": "false",
    }.items():
        monkeypatch.setenv(name, value)
    from opik.integrations.langchain import OpikTracer
    from opik.message_processing import streamer

    sent: list[Any] = []
    monkeypatch.setattr(streamer.Streamer, "put", lambda _, item: sent.append(item))
    model.invoke(PROMPT, {"callbacks": [OpikTracer()]})
    span = next(item for item in sent if type(item).__name__ == "CreateSpanMessage")
    assert PROMPT in str(span.input)
    # Only seven providers have an extractor: wrong upstream.
    assert (span.model, span.provider, span.usage) == (None, None, None)
