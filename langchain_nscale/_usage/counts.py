"""Counters of usage, and the ones that count the calls of the current context."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from decimal import Decimal
from functools import partial
from typing import Any

from langchain_nscale._model_list import known_price
from langchain_nscale._usage.ledger import Ledger, ModelUsage
from langchain_nscale._usage.metrics import metrics_of
from langchain_nscale._usage.table import total_usage, usage_table
from langchain_nscale.models import Price, Prices, price_table


class UsageCounts:
    """Calls, tokens, time and US dollars by model, without LangChain's callbacks."""

    def __init__(
        self,
        prices: Prices | None = None,
        *,
        metrics: bool | None = None,
        meter_provider: Any = None,
    ) -> None:
        """Create a handler with empty counters.

        Args:
            prices: The result of `list_models`, or a dict from IDs to (input, output) in
                US dollars per million tokens. Defaults to the newest list fetched by this
                process, if any. If a price is unknown, the cost is `None`.
            metrics: Whether to record OpenTelemetry metrics if opentelemetry is
                installed. Of several handlers on one call, only one should. By default
                chat calls are left to OpenTelemetry's instrumentation of LangChain while
                it is active, because it records the same histograms.
            meter_provider: The OpenTelemetry provider, by default the global one.

        Raises:
            ValueError: A price is not a number.
        """
        instruments = None if metrics is False else metrics_of(meter_provider)
        record = None
        if instruments is not None:
            record = partial(instruments.record, always=bool(metrics or meter_provider))
        self.ledger = Ledger(price_lookup(prices), record)
        self._ledgers = [self.ledger]

    # --- results ----------------------------------------------------------------------

    @property
    def by_model(self) -> dict[str, ModelUsage]:
        """Usage by model, under the ID that the service's replies contain."""
        return self.ledger.entries()

    @property
    def total(self) -> ModelUsage:
        """Usage of all models together."""
        return total_usage(self.by_model)

    @property
    def cost(self) -> Decimal | None:
        """US dollars of all calls; `None` if a price or a call's usage is unknown."""
        return self.total.cost

    def as_dict(self) -> dict[str, Any]:
        """Return `{"models": {id: figures}, "total": figures}`; see `ModelUsage`."""
        by_model = self.by_model
        models = {model: usage.as_dict() for model, usage in by_model.items()}
        return {"models": models, "total": total_usage(by_model).as_dict()}

    def to_json(self, **kwargs: Any) -> str:
        """Return `as_dict` as JSON; `kwargs` are passed to `json.dumps`."""
        return json.dumps(self.as_dict(), **kwargs)

    def __str__(self) -> str:
        """Return a table."""
        return usage_table(self.by_model)

    def __repr__(self) -> str:
        """Return a one-line summary."""
        total = self.total
        return (
            f"{type(self).__name__}(calls={total.calls}, "
            f"total_tokens={total.total_tokens}, cost={total.cost})"
        )

    def merge(self, other: UsageCounts) -> None:
        """Add the counts of another handler, for example from another process."""
        self.ledger.merge(other.ledger)


active: ContextVar[UsageCounts | None] = ContextVar("nscale_usage", default=None)


def open_ledgers(handlers: Iterable[UsageCounts]) -> list[Ledger]:
    """Return the ledgers of handlers and of enclosing `with` blocks, each once."""
    outer = active.get()
    every = [*handlers, *([outer] if outer is not None else [])]
    ledgers = [ledger for handler in every for ledger in handler._ledgers]  # noqa: SLF001  # same module
    return list({id(ledger): ledger for ledger in ledgers}.values())


class PriceTable:
    """Looks up fixed prices. A class, because handlers are pickled."""

    def __init__(self, prices: Prices) -> None:
        self._table = price_table(prices)

    def __call__(self, model: str) -> Price | None:
        return self._table.get(model.lower())


def price_lookup(prices: Prices | None) -> Callable[[str], Price | None]:
    return known_price if prices is None else PriceTable(prices)
