"""Recorders of traces and metrics: what they record of a call, a stream and an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_nscale import ChatNscale, get_nscale_usage_callback
from langchain_nscale.testing import NscaleServer
from tests.packages.conftest import MODEL, PROMPT

Calls = Callable[..., None]
READER = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([READER]))


class Spans:
    """The spans of a provider."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self, key: str) -> list[Any]:
        """The value of an attribute in each span that has one of a model."""
        spans = [s for s in self._exporter.get_finished_spans() if s.attributes]
        return [
            span.attributes.get(key)
            for span in sorted(spans, key=lambda span: span.start_time or 0)
            if any("model" in name for name in span.attributes)
        ]

    def failed(self) -> list[bool]:
        spans = sorted(
            self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0
        )
        return [span.status.status_code.name == "ERROR" for span in spans]


@pytest.fixture
def spans() -> Spans:
    return Spans()


def tokens_recorded() -> float:
    """Sum the tokens of all scopes since the last call."""
    data = READER.get_metrics_data()
    return sum(
        point.sum
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "gen_ai.client.token.usage"
        for point in metric.data.data_points
    )


@pytest.fixture
def instrumented() -> Iterator[Callable[..., None]]:
    """Instrument LangChain for one test."""
    active: list[Any] = []

    def instrument(instrumentor: Any, **settings: Any) -> None:
        active.append(instrumentor)
        instrumentor.instrument(**settings)

    yield instrument
    for instrumentor in active:
        instrumentor.uninstrument()


@pytest.mark.package("langfuse")
def test_langfuse(calls: Calls, spans: Spans) -> None:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    Langfuse(
        public_key="public",
        # pragma: allowlist nextline secret
        secret_key="none",
        host="http://127.0.0.1:9",
        tracer_provider=spans.provider,
    )
    calls(CallbackHandler())
    assert spans.all("langfuse.observation.model.name") == [MODEL] * 3
    usage = spans.all("langfuse.observation.usage_details")
    assert [json.loads(each)["input"] for each in usage[:2]] == [3, 3]
    assert spans.all("langfuse.observation.level")[2] == "ERROR"


@pytest.mark.package("openinference-instrumentation-langchain")
def test_openinference(calls: Calls, spans: Spans, instrumented: Any) -> None:
    from openinference.instrumentation.langchain import (
        LangChainInstrumentor,
    )

    instrumented(LangChainInstrumentor(), tracer_provider=spans.provider)
    calls()
    assert spans.all("llm.provider") == ["nscale"] * 3
    assert spans.all("llm.model_name") == [MODEL] * 3
    assert spans.all("llm.token_count.prompt") == [3, 3, None]
    assert spans.failed() == [False, False, True]


@pytest.mark.package("opentelemetry-instrumentation-genai-langchain")
def test_opentelemetrys_own(calls: Calls, spans: Spans, instrumented: Any) -> None:
    from opentelemetry.instrumentation.genai.langchain import (
        LangChainInstrumentor,
    )

    instrumented(LangChainInstrumentor(), tracer_provider=spans.provider)
    before = tokens_recorded()
    with get_nscale_usage_callback() as usage:
        calls()
    assert tokens_recorded() - before == usage.total.total_tokens  # not twice
    assert spans.all("gen_ai.provider.name") == ["nscale"] * 3
    assert spans.all("gen_ai.request.model") == [MODEL] * 3
    assert spans.all("gen_ai.usage.input_tokens") == [3, 3, None]
    assert spans.failed() == [False, False, True]


def test_without_an_instrumentation_the_block_records(calls: Calls) -> None:
    before = tokens_recorded()
    with get_nscale_usage_callback() as usage:
        calls()
    assert tokens_recorded() - before == usage.total.total_tokens


@pytest.mark.package("opentelemetry-instrumentation-httpx")
def test_httpx(
    model: ChatNscale, server: NscaleServer, spans: Spans, instrumented: Any
) -> None:
    from opentelemetry.instrumentation.httpx import (
        HTTPXClientInstrumentor,
    )

    instrumented(HTTPXClientInstrumentor(), tracer_provider=spans.provider)
    model.invoke(PROMPT)
    assert "traceparent" not in server.requests[-1].headers  # it only knows httpx
    with httpx.Client() as client:
        own = ChatNscale(model=MODEL, http_client=client, **server.settings)
        own.invoke(PROMPT)
    assert "traceparent" in server.requests[-1].headers
    assert spans.failed() == [False]


@pytest.mark.package("langsmith")
def test_langsmith(calls: Calls, server: NscaleServer) -> None:
    from langchain_core.tracers.langchain import LangChainTracer
    from langsmith import Client

    sent: list[dict[str, Any]] = []

    class Recording(Client):
        def request_with_retries(self, *_: Any, **kwargs: Any) -> Any:
            sent.append(json.loads(kwargs["request_kwargs"]["data"]))

    client = Recording(
        api_url="http://127.0.0.1:9",
        # pragma: allowlist nextline secret
        api_key="none",
        auto_batch_tracing=False,
    )
    tracer = LangChainTracer(client=client)
    calls(tracer)
    tracer.wait_for_futures()
    ends = [run for run in sent if run.get("end_time")]
    usage = [run["extra"]["metadata"].get("usage_metadata") for run in ends]
    assert [each and each["input_tokens"] for each in usage] == [3, 3, None]
    assert [bool(run.get("error")) for run in ends] == [False, False, True]
    assert server.token not in json.dumps(sent)


@pytest.mark.package("logfire")
def test_logfire(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    import logfire
    from langchain_core.tracers.langchain import wait_for_all_tracers
    from langsmith import utils

    for name in ("LANGSMITH_OTEL_ENABLED", "LANGSMITH_OTEL_ONLY", "LANGSMITH_TRACING"):
        monkeypatch.setenv(name, "true")
    utils.get_env_var.cache_clear()
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    logfire.configure(
        send_to_logfire=False, console=False, additional_span_processors=[processor]
    )
    calls()
    wait_for_all_tracers()
    spans = [span.attributes or {} for span in exporter.get_finished_spans()]
    recorded = [span for span in spans if "gen_ai.request.model" in span]
    assert {span["gen_ai.system"] for span in recorded} == {"nscale"}
    tokens = [span.get("gen_ai.usage.input_tokens") for span in recorded]
    assert sorted(tokens, key=str) == [3, 3, None]


@pytest.mark.package("posthog")
def test_posthog(calls: Calls) -> None:
    from posthog import Posthog
    from posthog.ai.langchain import CallbackHandler

    seen: list[dict[str, Any]] = []
    client: Any = Posthog("none", host="http://127.0.0.1:9")
    client.capture = lambda *_, **kwargs: seen.append(kwargs["properties"])
    calls(CallbackHandler(client=client))
    assert [each["$ai_provider"] for each in seen] == ["nscale"] * 3
    assert [each["$ai_model"] for each in seen] == [MODEL] * 3
    assert [each.get("$ai_input_tokens") for each in seen] == [3, 3, None]
    assert [each["$ai_http_status"] for each in seen] == [200, 200, 400]


@pytest.mark.package("sentry-sdk")
def test_sentry(calls: Calls, server: NscaleServer) -> None:
    import sentry_sdk
    from sentry_sdk.integrations.langchain import LangchainIntegration

    sent: list[str] = []

    class Kept(sentry_sdk.transport.Transport):
        def capture_envelope(self, envelope: Any) -> None:
            sent.append(envelope.serialize().decode("utf-8", "replace"))

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Kept,
        traces_sample_rate=1.0,
        integrations=[LangchainIntegration()],
    )
    with sentry_sdk.start_transaction(name="calls"):
        calls()
    sentry_sdk.flush()
    text = "".join(sent)
    assert MODEL in text
    assert "gen_ai.usage.input_tokens" in text
    # Handled errors are reported as issues too: wrong upstream.
    assert "NscaleInvalidRequestError" in text
    assert server.token not in text


@pytest.mark.package("opentelemetry-instrumentation-langchain")
def test_openllmetry(calls: Calls, spans: Spans, instrumented: Any) -> None:
    from opentelemetry.instrumentation.langchain import (
        LangchainInstrumentor,
    )

    # The last test, because it can't be uninstrumented.
    instrumented(LangchainInstrumentor(), tracer_provider=spans.provider)
    before = tokens_recorded()
    with get_nscale_usage_callback() as usage:
        calls()
    assert tokens_recorded() - before == usage.total.total_tokens  # not twice
    assert spans.all("gen_ai.request.model") == [MODEL] * 3
    assert spans.all("gen_ai.usage.input_tokens") == [3, 3, None]
    # Found by parts of the class's name: wrong, and only upstream can change it.
    assert spans.all("gen_ai.provider.name") == ["langchain"] * 3
