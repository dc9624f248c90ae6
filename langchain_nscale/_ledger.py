"""The books: what calls did, by model. No LangChain here, and no I/O."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from time import perf_counter
from typing import Any

from langchain_nscale.models import Price, known_price

# The caller gave up; nothing has failed.
_GIVEN_UP = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)


@dataclass
class ModelUsage:
    """What one model, or all of them together, did.

    Attributes:
        calls: Calls that have ended, in whatever way. An embedding call is one request.
        errors: Failed calls by the class of their error.
        cancelled: Calls that the caller gave up: a stream left early, a cancelled task.
        retries: Requests that were repeated.
        cache_hits: Calls that LangChain's cache answered; their tokens are counted, as
            LangChain's own `UsageMetadataCallbackHandler` does, and cost nothing.
        unreported: Calls that may have used tokens without the service saying how many:
            replies without usage, broken and abandoned streams.
        input_tokens: Tokens of the prompts.
        cached_tokens: Those of them that the service had in its cache.
        output_tokens: Tokens written.
        reasoning_tokens: Those of them that were reasoning.
        total_tokens: As the service adds them up.
        free_input_tokens: Input tokens of cache hits.
        free_output_tokens: Output tokens of cache hits.
        seconds: Time of all calls, one after the other.
        longest: Seconds of the longest call.
        streams: Calls of which the first token's time is known.
        first_token_seconds: Time to the first token of all of these, added up.
        known_cost: US dollars as far as they are known.
        cost: US dollars, or `None` if the price or a call's usage isn't known.
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
        """The sum of both; the cost is known only if it is of both."""
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
        """The same with its cost by a price."""
        paid = Decimal(0)
        if price is not None:
            paid = price.of(
                self.input_tokens - self.free_input_tokens,
                self.output_tokens - self.free_output_tokens,
            )
        used = self.total_tokens > self.free_input_tokens + self.free_output_tokens
        known = not self.unreported and (price is not None or not used)
        return replace(self, known_cost=paid, cost=paid if known else None)

    @property
    def failed(self) -> int:
        """Calls that ended in an error."""
        return sum(self.errors.values())

    @property
    def mean_seconds(self) -> float | None:
        """Seconds that a call took on average."""
        return self.seconds / self.calls if self.calls else None

    @property
    def mean_seconds_to_first_token(self) -> float | None:
        """Seconds to the first token on average, of the calls that were streamed."""
        return self.first_token_seconds / self.streams if self.streams else None

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON has them; costs as floats, times with their means."""
        left_out = {"free_input_tokens", "free_output_tokens", "first_token_seconds"}
        return {
            **{key: value for key, value in vars(self).items() if key not in left_out},
            "errors": dict(self.errors),
            "mean_seconds": self.mean_seconds,
            "mean_seconds_to_first_token": self.mean_seconds_to_first_token,
            "known_cost": float(self.known_cost),
            "cost": None if self.cost is None else float(self.cost),
        }


@dataclass
class Call:
    """A call under way, and in the end what it did.

    Attributes:
        requested: The model asked for.
        provider: Whose model it is, as LangSmith calls it.
        operation: `"chat"` or `"embeddings"`, as OpenTelemetry calls it.
        began: When, by `perf_counter`.
        first_token: When it came, if it has.
        seconds: How long it all took, once it has ended.
        served: The model as the service's reply names it.
    """

    requested: str
    provider: str = "nscale"
    operation: str = "chat"
    began: float = field(default_factory=perf_counter)
    first_token: float | None = None
    seconds: float | None = None
    served: str | None = None

    @property
    def model(self) -> str:
        """The id under which it is counted."""
        return self.served or self.requested

    def outcome(
        self,
        usage: Mapping[str, Any] | None,
        *,
        retries: int = 0,
        error: BaseException | None = None,
    ) -> ModelUsage:
        """What it did, with the usage reported (langchain-core's `UsageMetadata`)."""
        given_up = isinstance(error, _GIVEN_UP)
        failed = error is not None and not given_up
        hit = usage is not None and usage.get("total_cost") == 0
        counts = usage or {}
        given, made = counts.get("input_tokens", 0), counts.get("output_tokens", 0)
        read = (counts.get("input_token_details") or {}).get("cache_read") or 0
        thought = (counts.get("output_token_details") or {}).get("reasoning") or 0
        # An error before the first token is taken for one that nobody pays for.
        spent = not failed or self.first_token is not None
        first = self.first_token
        seconds = self.seconds or 0.0
        return ModelUsage(
            calls=1,
            errors=Counter([type(error).__name__] if failed else []),
            cancelled=int(given_up),
            retries=retries,
            cache_hits=int(hit),
            unreported=int(spent and "input_tokens" not in counts and not hit),
            input_tokens=given,
            cached_tokens=read,
            output_tokens=made,
            reasoning_tokens=thought,
            total_tokens=counts.get("total_tokens", given + made),
            free_input_tokens=given if hit else 0,
            free_output_tokens=made if hit else 0,
            seconds=seconds,
            longest=seconds,
            streams=int(first is not None),
            first_token_seconds=first - self.began if first is not None else 0.0,
        )


class Ledger:
    """Counts calls as they end, by model. Any number of threads may write into it."""

    def __init__(
        self,
        prices: Mapping[str, Price] | None = None,
        tell: Callable[[Call, ModelUsage], None] | None = None,
    ) -> None:
        """Start at nothing.

        Args:
            prices: By id in lower case; `None` for those of the newest model list.
            tell: Called with each call that ends, and with what it did.
        """
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Call] = {}
        self._entries: dict[str, ModelUsage] = {}
        self._requested: dict[str, str] = {}  # the id that replies have -> asked for
        self._prices = prices
        self._tell = tell

    def begin(self, key: Hashable, call: Call) -> None:
        """A call has begun. Being told twice of the same changes nothing."""
        self._under_way.setdefault(key, call)

    def first_token(self, key: Hashable) -> None:
        """A token has come; only a call's first one is noted."""
        call = self._under_way.get(key)
        if call is not None and call.first_token is None:
            call.first_token = perf_counter()

    def end(
        self,
        key: Hashable,
        usage: Mapping[str, Any] | None = None,
        *,
        served: str | None = None,
        retries: int = 0,
        error: BaseException | None = None,
    ) -> None:
        """A call has ended. Being told twice of the same changes nothing.

        Args:
            key: What `begin` was given.
            usage: What the service reported, as langchain-core's `UsageMetadata`.
            served: The model's id in the reply.
            retries: How often the request was repeated.
            error: Why it failed, if it did.
        """
        call = self._under_way.pop(key, None)
        if call is None:
            return
        if call.seconds is None:
            call.seconds = perf_counter() - call.began
            call.served = served
        retries = getattr(error, "retries", retries)
        outcome = call.outcome(usage, retries=retries, error=error)
        self._add(call.model, outcome, call.requested)
        if self._tell is not None:
            self._tell(call, outcome)

    def entries(self) -> dict[str, ModelUsage]:
        """What has been counted, with costs as far as prices are known."""
        with self._lock:
            entries, requested = dict(self._entries), dict(self._requested)
        return {
            model: used.priced(self._price(model) or self._price(requested[model]))
            for model, used in entries.items()
        }

    def merge(self, other: Ledger) -> None:
        """Add what another ledger has counted."""
        state = other.__getstate__()
        for model, used in state["_entries"].items():
            self._add(model, used, state["_requested"][model])

    def _add(self, model: str, used: ModelUsage, requested: str) -> None:
        with self._lock:
            self._entries[model] = self._entries.get(model, ModelUsage()) + used
            self._requested[model] = requested

    def _price(self, model: str) -> Price | None:
        if self._prices is None:
            return known_price(model)
        return self._prices.get(model.lower())

    def __getstate__(self) -> dict[str, Any]:
        """What has been counted, and the prices; calls under way stay behind."""
        with self._lock:
            return {
                "_entries": dict(self._entries),
                "_requested": dict(self._requested),
                "_prices": self._prices,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle; nobody is told any more."""
        self._lock = threading.Lock()
        self._under_way = {}
        self._tell = None
        self.__dict__.update(state)
