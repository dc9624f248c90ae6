"""Aggregates usage per model."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from time import perf_counter
from typing import Any

from langchain_nscale._version import PROVIDER
from langchain_nscale.models import Price

# Raised when the caller cancels a call; these are not failures.
_CANCELLATIONS = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)


@dataclass
class ModelUsage:
    """Usage of one model, or the sum over several.

    Attributes:
        calls: Calls that have ended, successfully or not. An embeddings call is one
            request.
        errors: Number of failed calls by the class of the error.
        cancelled: Calls cancelled by the caller: abandoned streams, cancelled tasks.
        retries: Retries of requests.
        cache_hits: Calls answered by LangChain's cache. Their tokens are counted, as
            LangChain's own `UsageMetadataCallbackHandler` does, and cost nothing.
        unreported: Calls that may have used tokens that the service did not report:
            replies without usage, broken and abandoned streams.
        input_tokens: Tokens of the prompts.
        cached_tokens: Input tokens that the service read from its cache.
        output_tokens: Generated tokens.
        reasoning_tokens: Output tokens that were reasoning.
        total_tokens: Total according to the service.
        free_input_tokens: Input tokens of cache hits.
        free_output_tokens: Output tokens of cache hits.
        seconds: Total duration of all calls, as if they had run one after another.
        longest: Duration of the longest call, in seconds.
        streams: Calls whose time to first token is known.
        first_token_seconds: Total time to first token of these calls.
        known_cost: The part of the cost that is known, in US dollars.
        cost: The cost in US dollars, or `None` if a price or a call's usage is unknown.
    """

    calls: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    retries: int = 0
    cache_hits: int = 0
    unreported: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    free_input_tokens: int = 0
    free_output_tokens: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    streams: int = 0
    first_token_seconds: float = 0.0
    known_cost: Decimal = Decimal(0)
    cost: Decimal | None = Decimal(0)

    def __add__(self, other: ModelUsage) -> ModelUsage:
        """Return the sum; its cost is known only if both costs are."""
        summed = {
            name: value + getattr(other, name)
            for name, value in vars(self).items()
            if name not in ("longest", "cost")
        }
        cost = None
        if self.cost is not None and other.cost is not None:
            cost = self.cost + other.cost
        return ModelUsage(**summed, longest=max(self.longest, other.longest), cost=cost)

    def priced(self, price: Price | None) -> ModelUsage:
        """Return a copy with the cost at `price`."""
        known_cost = Decimal(0)
        if price is not None:
            known_cost = price.of(
                self.input_tokens - self.free_input_tokens,
                self.output_tokens - self.free_output_tokens,
            )
        is_billed = self.total_tokens > self.free_input_tokens + self.free_output_tokens
        is_known = not self.unreported and (price is not None or not is_billed)
        return replace(self, known_cost=known_cost, cost=known_cost if is_known else None)

    @property
    def requests(self) -> int:
        """Number of requests sent, retries included."""
        return self.calls - self.cache_hits + self.retries

    @property
    def failed(self) -> int:
        """Number of calls that ended in an error."""
        return sum(self.errors.values())

    @property
    def mean_seconds(self) -> float | None:
        """Mean duration of a call, in seconds."""
        return self.seconds / self.calls if self.calls else None

    @property
    def mean_seconds_to_first_token(self) -> float | None:
        """Mean time to first token of streamed calls, in seconds."""
        return self.first_token_seconds / self.streams if self.streams else None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-compatible values, with costs as floats."""
        omitted = {"free_input_tokens", "free_output_tokens", "first_token_seconds"}
        return {
            **{key: value for key, value in vars(self).items() if key not in omitted},
            "errors": dict(self.errors),
            "requests": self.requests,
            "mean_seconds": self.mean_seconds,
            "mean_seconds_to_first_token": self.mean_seconds_to_first_token,
            "known_cost": float(self.known_cost),
            "cost": None if self.cost is None else float(self.cost),
        }


# Users import it from the package; reprs and pickles should say so too.
ModelUsage.__module__ = "langchain_nscale"


@dataclass
class Call:
    """A call, from its beginning to its outcome."""

    requested: str  # ID of the model
    provider: str = PROVIDER  # as LangSmith names it
    operation: str = "chat"  # or "embeddings", as OpenTelemetry names them
    began: float = field(default_factory=perf_counter)
    first_token: float | None = None  # when it arrived
    retries: int = 0  # before the first token
    seconds: float | None = None  # once the call has ended
    served: str | None = None  # ID of the model according to the reply
    clock: Callable[[], float] = perf_counter

    @property
    def model(self) -> str:
        """The ID under which the call is counted."""
        return self.served or self.requested

    def outcome(
        self,
        usage: Mapping[str, Any] | None,
        *,
        retries: int = 0,
        error: BaseException | None = None,
    ) -> ModelUsage:
        """Return what this call used, by langchain-core's `UsageMetadata` if reported."""
        cancelled = isinstance(error, _CANCELLATIONS)
        failed = error is not None and not cancelled
        # langchain-core marks the usage of cache hits with a cost of 0.
        cache_hit = usage is not None and usage.get("total_cost") == 0
        counts = usage or {}
        input_tokens = counts.get("input_tokens", 0)
        output_tokens = counts.get("output_tokens", 0)
        input_details = counts.get("input_token_details") or {}
        output_details = counts.get("output_token_details") or {}
        # Assume that a call that failed before its first token is not billed.
        is_billed = not failed or self.first_token is not None
        first = self.first_token
        seconds = self.seconds or 0.0
        return ModelUsage(
            calls=1,
            errors=Counter([type(error).__name__] if failed else []),
            cancelled=int(cancelled),
            retries=retries,
            cache_hits=int(cache_hit),
            unreported=int(is_billed and "input_tokens" not in counts and not cache_hit),
            input_tokens=input_tokens,
            cached_tokens=input_details.get("cache_read") or 0,
            output_tokens=output_tokens,
            reasoning_tokens=output_details.get("reasoning") or 0,
            total_tokens=counts.get("total_tokens", input_tokens + output_tokens),
            free_input_tokens=input_tokens if cache_hit else 0,
            free_output_tokens=output_tokens if cache_hit else 0,
            seconds=seconds,
            longest=seconds,
            streams=int(first is not None),
            first_token_seconds=first - self.began if first is not None else 0.0,
        )


class Ledger:
    """Counts calls by model as they end. Thread-safe."""

    def __init__(
        self,
        price_of: Callable[[str], Price | None],
        on_end: Callable[[Call, ModelUsage], None] | None = None,
    ) -> None:
        """Create an empty ledger; `on_end` is called with each call that ends."""
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Call] = {}
        self._entries: dict[str, ModelUsage] = {}
        self._requested: dict[str, str] = {}  # requested ID by the ID in the reply
        self._price_of = price_of
        self._on_end = on_end

    def begin(self, key: Hashable, call: Call) -> None:
        """Record the start of a call. Idempotent."""
        self._under_way.setdefault(key, call)

    def first_token(self, key: Hashable) -> bool:
        """Record the first token of a call; return `False` for later ones."""
        call = self._under_way.get(key)
        if call is None or call.first_token is not None:
            return False
        call.first_token = call.clock()
        return True

    def retries(self, key: Hashable, count: int) -> None:
        """Record the retries before the first token of a call."""
        if call := self._under_way.get(key):
            call.retries = count

    def end(
        self,
        key: Hashable,
        usage: Mapping[str, Any] | None = None,
        *,
        served: str | None = None,
        retries: int = 0,
        error: BaseException | None = None,
    ) -> None:
        """Record the end of the call that began with this key. Idempotent."""
        call = self._under_way.pop(key, None)
        if call is None:
            return
        if call.seconds is None:
            call.seconds = call.clock() - call.began
            call.served = served
        # Where a task waits for others, Python 3.10 raises another CancelledError.
        told = error if hasattr(error, "retries") else getattr(error, "__context__", None)
        retries = getattr(told, "retries", retries) or call.retries
        outcome = call.outcome(usage, retries=retries, error=error)
        self._add(call.model, outcome, call.requested)
        if self._on_end is not None:
            self._on_end(call, outcome)

    def entries(self) -> dict[str, ModelUsage]:
        """Return the usage by model, with costs where prices are known."""
        with self._lock:
            entries, requested = dict(self._entries), dict(self._requested)
        return {
            model: usage.priced(self._price_of(model) or self._price_of(requested[model]))
            for model, usage in entries.items()
        }

    def merge(self, other: Ledger) -> None:
        """Add the usage recorded by another ledger."""
        state = other.__getstate__()
        for model, usage in state["_entries"].items():
            self._add(model, usage, state["_requested"][model])

    def _add(self, model: str, usage: ModelUsage, requested: str) -> None:
        with self._lock:
            self._entries[model] = self._entries.get(model, ModelUsage()) + usage
            self._requested[model] = requested

    def __getstate__(self) -> dict[str, Any]:
        """Return the recorded usage and the prices, without calls in progress."""
        with self._lock:
            return {
                "_entries": dict(self._entries),
                "_requested": dict(self._requested),
                "_price_of": self._price_of,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle, without `on_end`."""
        self._lock = threading.Lock()
        self._under_way = {}
        self._on_end = None
        self.__dict__.update(state)
