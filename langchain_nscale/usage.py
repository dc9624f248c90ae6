"""Use and spend by model: a callback handler for everything that LangChain runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tracers.context import register_configure_hook

from langchain_nscale._ledger import Call, Ledger, ModelUsage
from langchain_nscale._metrics import Metrics
from langchain_nscale.models import Prices, known_price, price_table


class NscaleUsageCallbackHandler(BaseCallbackHandler):
    """Counts calls, tokens, time and US dollars by model.

    Works wherever LangChain takes callbacks, sync and async, in any number of threads
    and tasks at once; `NscaleEmbeddings` takes it as `callbacks=[...]`. Calls of other
    integrations are counted too. Pickles keep what has been counted; see `merge`.

    Examples:
        >>> from langchain_nscale import NscaleUsageCallbackHandler
        >>> usage = NscaleUsageCallbackHandler(prices={"m": (0.06, 0.06)})
        >>> chain.invoke("Hi", {"callbacks": [usage]})  # doctest: +SKIP
        >>> print(usage)  # doctest: +SKIP
    """

    run_inline = True  # otherwise each token would go through a thread

    def __init__(
        self,
        prices: Prices | None = None,
        *,
        metrics: bool = True,
        meter_provider: Any = None,
    ) -> None:
        """Start at nothing.

        Args:
            prices: What `list_models` returns, or a dict from ids to (input, output) in
                US dollars per million tokens. By default the prices of the newest list
                that this process has fetched, if any. A price that isn't known makes
                the cost `None`.
            metrics: Whether to record OpenTelemetry metrics if opentelemetry is there.
                Of several handlers on one call, only one should.
            meter_provider: OpenTelemetry's, by default the global one.

        Raises:
            ValueError: A price isn't a number.
        """
        table = None if prices is None else price_table(prices)
        instruments = Metrics.of(meter_provider) if metrics else None
        self.ledger = Ledger(table, instruments.record if instruments else None)
        self._ledgers = [self.ledger]

    # --- what it has counted ----------------------------------------------------------

    @property
    def by_model(self) -> dict[str, ModelUsage]:
        """Figures by the id that the service wrote in its replies."""
        return self.ledger.entries()

    @property
    def total(self) -> ModelUsage:
        """Figures of all models together."""
        return _total(self.by_model)

    @property
    def cost(self) -> Decimal | None:
        """US dollars of all calls; `None` if a price or a call's usage isn't known."""
        return self.total.cost

    def as_dict(self) -> dict[str, Any]:
        """`{"models": {id: figures}, "total": figures}`; see `ModelUsage`."""
        by_model = self.by_model
        models = {model: used.as_dict() for model, used in by_model.items()}
        return {"models": models, "total": _total(by_model).as_dict()}

    def to_json(self, **kwargs: Any) -> str:
        """`as_dict` as JSON; arguments as for `json.dumps`."""
        return json.dumps(self.as_dict(), **kwargs)

    def __str__(self) -> str:
        """A table."""
        return _table(self.by_model)

    def __repr__(self) -> str:
        """In short."""
        total = self.total
        return (
            f"{type(self).__name__}(calls={total.calls}, "
            f"total_tokens={total.total_tokens}, cost={total.cost})"
        )

    def merge(self, other: NscaleUsageCallbackHandler) -> None:
        """Add what another handler has counted, for example in another process."""
        self.ledger.merge(other.ledger)

    # --- what it is told --------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002  # interface
        messages: list[list[BaseMessage]],  # noqa: ARG002  # interface
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note when a call began, and with which model."""
        told = metadata or {}
        params = kwargs.get("invocation_params") or {}
        model = told.get("ls_model_name") or params.get("model") or "unknown"
        call = Call(str(model), told.get("ls_provider") or "unknown")
        for ledger in self._ledgers:
            ledger.begin(run_id, call)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  # interface
        """Note when the first token came."""
        for ledger in self._ledgers:
            ledger.first_token(run_id)

    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Likewise, where a stream comes as events."""
        if event["event"] == "content-block-start":
            for ledger in self._ledgers:
                ledger.first_token(run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Count a reply."""
        replies = (
            generation.message
            for batch in response.generations
            for generation in batch
            if isinstance(generation, ChatGeneration)
        )
        # With `n`, each reply is one of the same request, whose usage is on the first.
        first = next(replies, None)
        metadata = first.response_metadata if first is not None else {}
        for ledger in self._ledgers:
            ledger.end(
                run_id,
                first.usage_metadata if isinstance(first, AIMessage) else None,
                served=metadata.get("model_name"),
                retries=metadata.get("retries", 0),
            )

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Count a failure, or a call that the caller gave up."""
        for ledger in self._ledgers:
            ledger.end(run_id, error=error)


_active: ContextVar[NscaleUsageCallbackHandler | None] = ContextVar(
    "nscale_usage", default=None
)
register_configure_hook(_active, inheritable=True)


@contextmanager
def get_nscale_usage_callback(
    prices: Prices | None = None, *, metrics: bool = True, meter_provider: Any = None
) -> Generator[NscaleUsageCallbackHandler, None, None]:
    """Count everything that runs inside the `with` block, embeddings included.

    Blocks may be nested; the outer one counts what the inner one does. Tasks and
    threads that are started by hand see the block if their context is copied from it,
    as asyncio and LangChain do.

    Args:
        prices: As for `NscaleUsageCallbackHandler`.
        metrics: Likewise.
        meter_provider: Likewise.

    Yields:
        The handler.
    """
    outer = _active.get()
    handler = NscaleUsageCallbackHandler(
        prices, metrics=metrics and outer is None, meter_provider=meter_provider
    )
    if outer is not None:
        handler._ledgers += outer._ledgers  # noqa: SLF001  # made here
    token = _active.set(handler)
    try:
        yield handler
    finally:
        _active.reset(token)


def open_ledgers(handlers: Iterable[NscaleUsageCallbackHandler]) -> list[Ledger]:
    """The ledgers of handlers and of the `with` blocks around, each once."""
    active = _active.get()
    every = [*handlers, *([active] if active is not None else [])]
    ledgers = [ledger for handler in every for ledger in handler._ledgers]  # noqa: SLF001  # made here
    return list({id(ledger): ledger for ledger in ledgers}.values())


def langsmith_costs(
    prices: Prices | None = None,
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """For LangSmith's `Client(hide_metadata=...)`: adds the costs of calls to traces.

    LangSmith displays `input_cost`, `output_cost` and `total_cost` in a run's
    `usage_metadata`. They can't be in the messages themselves: langchain-core's
    `add_usage` refuses what isn't a whole number.

    Args:
        prices: As for `NscaleUsageCallbackHandler`.
    """
    table = None if prices is None else price_table(prices)

    def add_costs(metadata: dict[str, Any]) -> dict[str, Any]:
        usage = metadata.get("usage_metadata")
        model = str(metadata.get("ls_model_name")).lower()
        price = known_price(model) if table is None else table.get(model)
        ours = metadata.get("ls_provider") == "nscale"
        if not ours or not usage or price is None or "total_cost" in usage:
            return metadata
        given = float(price.of(usage["input_tokens"], 0))
        made = float(price.of(0, usage["output_tokens"]))
        costs = {"input_cost": given, "output_cost": made, "total_cost": given + made}
        return {**metadata, "usage_metadata": {**usage, **costs}}

    return add_costs


def _total(by_model: Mapping[str, ModelUsage]) -> ModelUsage:
    return sum(by_model.values(), ModelUsage())


_ALWAYS = {"model", "calls", "input", "output", "US dollars"}
_SMALL = Decimal("0.001")  # US dollars; less is shown to more places
_COLUMNS = (
    "model",
    "calls",
    "errors",
    "retries",
    "input",
    "cached",
    "output",
    "reasoning",
    "first token",
    "mean time",
    "US dollars",
)


def _table(by_model: Mapping[str, ModelUsage]) -> str:
    rows = [_row(model, used) for model, used in by_model.items()]
    if len(by_model) > 1:
        rows.append(_row("total", _total(by_model)))
    # What never happened needs no column.
    columns = [
        column
        for column in zip(_COLUMNS, *rows, strict=True)
        if column[0] in _ALWAYS or set(column[1:]) - {"0", "-"}
    ]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    )


def _row(model: str, used: ModelUsage) -> tuple[str, ...]:
    counts = (
        used.calls,
        used.failed,
        used.retries,
        used.input_tokens,
        used.cached_tokens,
        used.output_tokens,
        used.reasoning_tokens,
    )
    means = (used.mean_seconds_to_first_token, used.mean_seconds)
    times = ("-" if mean is None else f"{mean:.2f} s" for mean in means)
    spent = f"{used.known_cost:.{6 if used.known_cost > _SMALL else 9}f}"
    if used.cost is None:
        spent = f"at least {spent}" if used.known_cost else "unknown"
    return (model, *(f"{count:,}" for count in counts), *times, spent)
