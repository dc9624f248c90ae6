"""Usage and spend by model: a callback handler for everything that LangChain runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tracers.context import register_configure_hook

from langchain_nscale._usage.counts import (
    PriceTable as _PriceTable,  # noqa: F401  # pickles of 0.1.0 have it here
)
from langchain_nscale._usage.counts import UsageCounts, active, price_lookup
from langchain_nscale._usage.ledger import Call
from langchain_nscale._version import PROVIDER
from langchain_nscale.models import Prices


class NscaleUsageCallbackHandler(UsageCounts, BaseCallbackHandler):
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

    def on_llm_new_token(
        self,
        token: Any,  # noqa: ARG002  # interface
        *,
        run_id: UUID,
        chunk: Any = None,
        **_: Any,
    ) -> None:
        """Record the first token of a stream, whose chunk tells the retries before it."""
        for ledger in self._ledgers:
            is_first = ledger.first_token(run_id)
            if is_first and isinstance(chunk, ChatGeneration):
                retries = chunk.message.response_metadata.get("retries", 0)
                ledger.retries(run_id, retries)

    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Record the first token of an event stream, and the retries before it."""
        if event["event"] == "message-start":
            retries = (event.get("metadata") or {}).get("retries", 0)
            for ledger in self._ledgers:
                ledger.retries(run_id, retries)
        elif event["event"] == "content-block-start":
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


register_configure_hook(active, inheritable=True)


class _UsageBlock(AbstractContextManager[NscaleUsageCallbackHandler]):
    """Opens and closes a block; says so if it is taken for the handler."""

    def __init__(self, *settings: Any) -> None:
        self._settings = settings

    def __enter__(self) -> NscaleUsageCallbackHandler:
        prices, metrics, meter_provider = self._settings
        outer = active.get()
        handler = NscaleUsageCallbackHandler(
            prices,
            metrics=metrics if outer is None else False,
            meter_provider=meter_provider,
        )
        if outer is not None:
            handler._ledgers += outer._ledgers  # noqa: SLF001  # same class
        self._token = active.set(handler)
        return handler

    def __exit__(self, *_: object) -> None:
        active.reset(self._token)

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
    return _UsageBlock(prices, metrics, meter_provider)


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
    price_of = price_lookup(prices)

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
