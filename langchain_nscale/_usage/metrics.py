"""OpenTelemetry metrics for generative AI, if opentelemetry is installed.

Names, attributes and buckets are those of the semantic conventions
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics).
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakKeyDictionary

from langchain_nscale._usage.ledger import Call, ModelUsage
from langchain_nscale._version import __version__

_TOKEN_BUCKETS = [4**power for power in range(14)]
_SECOND_BUCKETS = [0.01 * 2**power for power in range(14)]


# Instrumentations of LangChain that record the same histograms for chat models, and the
# names of their classes: OpenTelemetry's own (1.3b0) and OpenLLMetry's (0.62).
_INSTRUMENTATIONS = {
    "opentelemetry.instrumentation.genai.langchain": "LangChainInstrumentor",
    "opentelemetry.instrumentation.langchain": "LangchainInstrumentor",
}


def is_instrumented() -> bool:
    """Return whether another package records the metrics of LangChain's chat models."""
    for module, name in _INSTRUMENTATIONS.items():
        instrumentor = getattr(sys.modules.get(module), name, None)
        if instrumentor and instrumentor().is_instrumented_by_opentelemetry:
            return True
    return False


class Metrics:
    """The instruments for token usage and for the duration of operations."""

    def __init__(self, meter: Any) -> None:
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECOND_BUCKETS,
        )

    def record(self, call: Call, outcome: ModelUsage, *, always: bool = True) -> None:
        """Record a finished call, unless another package does and not `always`."""
        if not always and call.operation == "chat" and is_instrumented():
            return
        attributes = {
            "gen_ai.operation.name": call.operation,
            "gen_ai.provider.name": call.provider,
            "gen_ai.request.model": call.requested,
            "gen_ai.response.model": call.model,
        }
        if not outcome.unreported and not outcome.errors and not outcome.cache_hits:
            counts = {"input": outcome.input_tokens, "output": outcome.output_tokens}
            if call.operation == "embeddings":
                del counts["output"]
            for kind, count in counts.items():
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})
        if outcome.errors:
            attributes["error.type"] = next(iter(outcome.errors))
        self._seconds.record(call.seconds or 0.0, attributes)


# Without an SDK, the API keeps every instrument for ever, to connect it to an SDK that is
# set later. So handlers share theirs.
_by_provider: WeakKeyDictionary[Any, Metrics] = WeakKeyDictionary()


def metrics_of(meter_provider: Any = None) -> Metrics | None:
    """Return the instruments of a provider, `None` if opentelemetry is not installed."""
    try:
        from opentelemetry.metrics import get_meter_provider  # noqa: PLC0415  # optional
    except ImportError:
        return None
    provider = meter_provider or get_meter_provider()
    if provider not in _by_provider:
        meter = provider.get_meter("langchain_nscale", __version__)
        _by_provider[provider] = Metrics(meter)
    return _by_provider[provider]
