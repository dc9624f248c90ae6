"""Usage and spend by model: a callback handler for everything that LangChain runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tracers.context import register_configure_hook

from langchain_nscale._model_list import known_price
from langchain_nscale._usage.ledger import Call, Ledger, ModelUsage
from langchain_nscale._usage.metrics import metrics_of
from langchain_nscale._usage.table import total_usage, usage_table
from langchain_nscale._version import PROVIDER
from langchain_nscale.models import Price, Prices, price_table


class NscaleUsageCallbackHandler(BaseCallbackHandler):
    """Counts calls, tokens, time and US dollars by model.

    Works wherever LangChain accepts callbacks, sync and async, in any number of
    concurrent threads and tasks; `NscaleEmbeddings` accepts it as `callbacks=[...]`.
    Calls of other integrations are counted too. Pickles keep the counts; see `merge`.

    Examples:
        >>> from langchain_nscale import NscaleUsageCallbackHandler
        >>> usage = NscaleUsageCallbackHandler(prices={"m": (0.06, 0.06)})
        >>> chain.invoke("Hi", {"callbacks": [usage]})  # doctest: +SKIP
        >>> print(usage)  # doctest: +SKIP
    """

    run_inline = True  # avoids a thread hop per token

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
        self.ledger = Ledger(_price_lookup(prices), record)
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

    def merge(self, other: NscaleUsageCallbackHandler) -> None:
        """Add the counts of another handler, for example from another process."""
        self.ledger.merge(other.ledger)

    # --- callbacks --------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002  # interface
        messages: list[list[BaseMessage]],  # noqa: ARG002  # interface
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the start of a call, with its model."""
        metadata = metadata or {}
        params = kwargs.get("invocation_params") or {}
        model = metadata.get("ls_model_name") or params.get("model") or "unknown"
        call = Call(str(model), metadata.get("ls_provider") or "unknown")
        for ledger in self._ledgers:
            ledger.begin(run_id, call)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  # interface
        """Record the first token of a stream."""
        for ledger in self._ledgers:
            ledger.first_token(run_id)

    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Record the first token of an event stream."""
        if event["event"] == "content-block-start":
            for ledger in self._ledgers:
                ledger.first_token(run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Record a reply."""
        replies = (
            generation.message
            for batch in response.generations
            for generation in batch
            if isinstance(generation, ChatGeneration)
        )
        # With `n`, all replies belong to one request, whose usage is on the first.
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
        """Record a failed or cancelled call, with the usage of what was received."""
        partial = getattr(error, "partial", None)
        usage = partial.usage_metadata if isinstance(partial, AIMessage) else None
        for ledger in self._ledgers:
            ledger.end(run_id, usage, error=error)


_active: ContextVar[NscaleUsageCallbackHandler | None] = ContextVar(
    "nscale_usage", default=None
)
register_configure_hook(_active, inheritable=True)


class _UsageBlock(AbstractContextManager[NscaleUsageCallbackHandler]):
    """Opens and closes a block; says so if it is taken for the handler."""

    def __init__(self, block: Any) -> None:
        self._block = block

    def __enter__(self) -> NscaleUsageCallbackHandler:
        handler: NscaleUsageCallbackHandler = self._block.__enter__()
        return handler

    def __exit__(self, *exception: object) -> None:
        self._block.__exit__(*exception)

    def __getattr__(self, name: str) -> Any:
        msg = (
            f"A block has no attribute {name!r}: write `with get_nscale_usage_callback() "
            "as usage:`, or pass a NscaleUsageCallbackHandler() as a callback."
        )
        raise AttributeError(msg)


def get_nscale_usage_callback(
    prices: Prices | None = None,
    *,
    metrics: bool | None = None,
    meter_provider: Any = None,
) -> AbstractContextManager[NscaleUsageCallbackHandler]:
    """Track every call made inside the `with` block, embeddings included.

    Blocks can be nested: the outer one also counts the calls of the inner one. Tasks and
    threads see the block if their context is copied from it, as asyncio and LangChain do;
    the threads of a plain `ThreadPoolExecutor` don't.

    Args:
        prices: As for `NscaleUsageCallbackHandler`.
        metrics: As for `NscaleUsageCallbackHandler`.
        meter_provider: As for `NscaleUsageCallbackHandler`.

    Returns:
        A context manager whose `with` statement yields the handler.
    """
    return _UsageBlock(_usage_block(prices, metrics, meter_provider))


@contextmanager
def _usage_block(
    prices: Prices | None, metrics: bool | None, meter_provider: Any
) -> Generator[NscaleUsageCallbackHandler, None, None]:
    outer = _active.get()
    handler = NscaleUsageCallbackHandler(
        prices, metrics=metrics if outer is None else False, meter_provider=meter_provider
    )
    if outer is not None:
        handler._ledgers += outer._ledgers  # noqa: SLF001  # same class
    token = _active.set(handler)
    try:
        yield handler
    finally:
        _active.reset(token)


def open_ledgers(handlers: Iterable[NscaleUsageCallbackHandler]) -> list[Ledger]:
    """Return the ledgers of handlers and of enclosing `with` blocks, each once."""
    active = _active.get()
    every = [*handlers, *([active] if active is not None else [])]
    ledgers = [ledger for handler in every for ledger in handler._ledgers]  # noqa: SLF001  # same module
    return list({id(ledger): ledger for ledger in ledgers}.values())


def langsmith_costs(
    prices: Prices | None = None,
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function for LangSmith's `Client(hide_metadata=...)` that adds costs.

    LangSmith displays `input_cost`, `output_cost` and `total_cost` of a run's
    `usage_metadata`. They can't be part of the messages, because langchain-core's
    `add_usage` rejects all values but integers.

    Args:
        prices: As for `NscaleUsageCallbackHandler`.
    """
    price_of = _price_lookup(prices)

    def add_costs(metadata: dict[str, Any]) -> dict[str, Any]:
        usage = metadata.get("usage_metadata")
        price = price_of(str(metadata.get("ls_model_name")))
        is_ours = metadata.get("ls_provider") == PROVIDER
        if not is_ours or not usage or price is None or "total_cost" in usage:
            return metadata
        costs = {
            "input_cost": float(price.of(usage["input_tokens"], 0)),
            "output_cost": float(price.of(0, usage["output_tokens"])),
        }
        costs["total_cost"] = costs["input_cost"] + costs["output_cost"]
        return {**metadata, "usage_metadata": {**usage, **costs}}

    return add_costs


class _PriceTable:
    """Looks up fixed prices. A class, because handlers are pickled."""

    def __init__(self, prices: Prices) -> None:
        self._table = price_table(prices)

    def __call__(self, model: str) -> Price | None:
        return self._table.get(model.lower())


def _price_lookup(prices: Prices | None) -> Callable[[str], Price | None]:
    return known_price if prices is None else _PriceTable(prices)
