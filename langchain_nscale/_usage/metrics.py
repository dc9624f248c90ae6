"""OpenTelemetry metrics for generative AI, if opentelemetry is installed.

Names, attributes and buckets are those of the semantic conventions
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics).
"""

from __future__ import annotations

from typing import Any

from typing_extensions import Self

from langchain_nscale._usage.ledger import Call, ModelUsage
from langchain_nscale._version import __version__

_TOKEN_BUCKETS = [4**power for power in range(14)]
_SECOND_BUCKETS = [0.01 * 2**power for power in range(14)]


class Metrics:
    """The instruments for token usage and for the duration of operations."""

    def __init__(self, meter: Any) -> None:
        """Create the instruments with an OpenTelemetry meter."""
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

    @classmethod
    def of(cls, meter_provider: Any = None) -> Self | None:
        """Create instruments with a provider, by default the global one.

        Returns `None` if opentelemetry is not installed.
        """
        try:
            from opentelemetry.metrics import get_meter  # noqa: PLC0415  # optional
        except ImportError:
            return None
        return cls(get_meter("langchain_nscale", __version__, meter_provider))

    def record(self, call: Call, outcome: ModelUsage) -> None:
        """Record a finished call."""
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
