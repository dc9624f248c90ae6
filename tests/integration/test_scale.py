"""Models, embeddings and usage handlers in the workers of a cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import distributed
import pytest

from langchain_nscale import ChatNscale, NscaleEmbeddings, NscaleUsageCallbackHandler
from langchain_nscale.testing import NscaleServer
from tests.integration.conftest import MODEL
from tests.pages.runner import environment

dask: Any = distributed  # it has few types
PRICES: Any = {MODEL: (1, 2), "e": (1, 0)}
PARTS = [[f"question {10 * part + n}" for n in range(10)] for part in range(12)]

pytestmark = [
    pytest.mark.usefixtures("to_server"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def client() -> Iterator[Any]:
    with (
        dask.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        dask.Client(cluster) as client,
    ):
        yield client


def work(
    part: list[Any],
    model: ChatNscale,
    embeddings: NscaleEmbeddings,
    usage: NscaleUsageCallbackHandler,
    victim: str | None,
) -> Any:
    if victim is not None and dask.get_worker().address == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    replies = model.batch(part, {"callbacks": [usage], "max_concurrency": 4})
    embeddings.callbacks = [usage]
    vectors = embeddings.embed_documents(part)
    return [reply.text for reply in replies], len(vectors), usage


@pytest.mark.parametrize("kill", [False, True], ids=["all well", "a worker dies"])
def test_a_data_set(client: Any, server: NscaleServer, kill: bool) -> None:
    model = ChatNscale(model=MODEL)
    embeddings = NscaleEmbeddings(model="e")
    usage = NscaleUsageCallbackHandler(PRICES)
    victim = next(iter(client.scheduler_info()["workers"])) if kill else None
    results = client.gather(
        client.map(
            work,
            PARTS,
            model=model,
            embeddings=embeddings,
            usage=usage,
            victim=victim,
            retries=2,
        )
    )
    texts = [text for part, _, _ in results for text in part]
    assert texts == [f"You said: question {n}" for n in range(120)]
    for _, vectors, counted in results:
        assert vectors == 10
        usage.merge(counted)
    chat = usage.by_model[MODEL]
    assert (chat.calls, chat.input_tokens, chat.output_tokens) == (120, 240, 480)
    assert usage.by_model["e"].calls == 12
    assert usage.by_model["e"].input_tokens == 240
    assert usage.cost == Decimal(240 + 2 * 480 + 240) / 1_000_000
    tokens = {request.headers["authorization"] for request in server.requests}
    assert tokens == {f"Bearer {server.token}"}


def test_ray(server: NscaleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray is installed, which is too large to be so for every test run."""
    ray = pytest.importorskip("ray", reason="ray isn't installed: it takes 80 MB")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    usage = NscaleUsageCallbackHandler(PRICES)
    model, embeddings = ChatNscale(model=MODEL), NscaleEmbeddings(model="e")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        remote = ray.remote(max_retries=2)(work)
        tasks = [remote.remote(part, model, embeddings, usage, None) for part in PARTS]
        results = ray.get(tasks)
    finally:
        ray.shutdown()
    for _, _, counted in results:
        usage.merge(counted)
    assert [text for part, _, _ in results for text in part] == [
        f"You said: question {n}" for n in range(120)
    ]
    assert usage.by_model[MODEL].input_tokens == 240
    assert len(server.requests) == 120 + 12


def test_the_pages_program_for_ray(tmp_path: Path) -> None:
    """The tests of the pages leave it out, since Ray is in another environment."""
    pytest.importorskip("ray", reason="ray isn't installed: run `make test-ray`")
    page = Path(__file__).parents[2] / "docs" / "scale.md"
    program, shown = re.findall(
        r"```py\n(.*?)```\n\n```text\n(.*?)```", page.read_text(), re.DOTALL
    )[0]
    with environment() as variables:
        output = subprocess.run(  # noqa: S603  # the page's own program
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, **variables, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
            text=True,
            timeout=300,
        ).stdout
    assert output.endswith(shown)
