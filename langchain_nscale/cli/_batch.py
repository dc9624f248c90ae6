"""`batch`: each line of a file through a model, several at once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)
from typing_extensions import Self

from langchain_nscale import (
    ChatNscale,
    NscaleAuthenticationError,
    NscaleError,
    NscaleInsufficientCreditError,
    NscalePermissionDeniedError,
)
from langchain_nscale.cli import API_ERROR
from langchain_nscale.cli._answer import error_object
from langchain_nscale.cli._model import connection, read_schema, sampling
from langchain_nscale.cli._store import Store
from langchain_nscale.models import Price

_AHEAD = 16  # times the concurrency: how far lines may be ahead of one that takes long
# After these no other line would fare better.
_HOPELESS = (
    NscaleAuthenticationError,
    NscaleInsufficientCreditError,
    NscalePermissionDeniedError,
)
_OVERRIDES = {
    "model",
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "seed",
    "reasoning_effort",
    "extra_body",
}
_FIELDS = {"prompt", "messages", "system", "id", "metadata"} | _OVERRIDES
_RESULTS = {"line", "error"}  # in lines that come from a file of failures


def main(source: Path, target: Path, **options: Any) -> int:
    """Run `batch`; return the exit code."""
    schema = read_schema(options["schema"]) if options["schema"] else None
    with connection(options) as settings:
        model = ChatNscale(
            model=options["model"],
            max_retries=options["max_retries"],
            **settings,
            **sampling(options),
        )
        store = Store(
            target,
            ordered=not options["as_completed"],
            retry_failed=options["retry_failed"],
        )
        try:
            run = Batch(model, store, options, schema)
            asyncio.run(run.work(source))
        finally:
            store.close()
    return run.report()


@dataclass
class Totals:
    """What all lines together have used, those of earlier runs included."""

    tokens: int = 0
    spent: Decimal = Decimal(0)
    unpriced: int = 0
    prices: dict[str, Price] = field(default_factory=dict)

    def add(self, model: str, usage: dict[str, Any] | None) -> None:
        """Add the use of a line."""
        usage = usage or {}
        price = self.prices.get(model)
        self.tokens += usage.get("total_tokens", 0)
        if price is None or "input_tokens" not in usage:
            self.unpriced += 1
            return
        self.spent += price.of(usage["input_tokens"], usage["output_tokens"])


class Batch:
    """Lines on their way through a model."""

    def __init__(
        self,
        model: ChatNscale,
        store: Store,
        options: dict[str, Any],
        schema: dict[str, Any] | None,
    ) -> None:
        """Set up; `work` does the rest."""
        self._model = model
        self._store = store
        self._options = options
        self._schema = schema
        self._totals = Totals()
        self._stopped: str | None = None  # why
        self._room = asyncio.Condition()

    async def work(self, source: Path) -> None:
        """Send all lines that aren't done."""
        await self._learn_prices()
        for record in self._store.load():
            self._totals.add(record.get("model", ""), record.get("usage"))
        count = self._options["concurrency"]
        # Reads of a buffer's size are too short to hold the others up.
        with source.open("rb") as file, Progress(source) as bar:
            self._bar = bar
            self._show()
            lines = enumerate(file, 1)
            workers = [asyncio.ensure_future(self._worker(lines)) for _ in range(count)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _learn_prices(self) -> None:
        with suppress(NscaleError):
            for listed in await self._model.alist_models():
                if price := listed.price:
                    self._totals.prices[listed.id] = price
        limit = self._options["max_spend"]
        if limit is not None and self._model.model_name not in self._totals.prices:
            msg = f"The price of {self._model.model_name} isn't known."
            raise click.BadParameter(msg, param_hint="--max-spend")

    async def _worker(self, lines: Iterator[tuple[int, bytes]]) -> None:
        for number, raw in lines:
            if number in self._store:
                continue
            if not raw.strip():
                self._store.skip(number)
                continue
            async with self._room:
                await self._room.wait_for(lambda: self._may_begin(number))  # noqa: B023  # awaited here
            if not self._stopped:
                await self._line(number, raw)
                self._show()
            async with self._room:
                self._room.notify_all()
            if self._stopped:
                return

    def _may_begin(self, number: int) -> bool:
        """Whether a line isn't too far ahead of others, or nothing begins any more."""
        limit = self._options["max_spend"]
        if limit is not None and float(self._totals.spent) >= limit and not self._stopped:
            self._stopped = f"${self._totals.spent:.6f} are spent (--max-spend)."
        ahead = _AHEAD * self._options["concurrency"]
        return self._stopped is not None or number < self._store.next + ahead

    async def _line(self, number: int, raw: bytes) -> None:
        """Send a line; keep its result or its failure."""
        given: Any = None
        try:
            given = json.loads(raw)
            record = await self._result(given)
        except _HOPELESS as error:
            self._stopped = error.message
        except (NscaleError, ValueError, TypeError, OutputParserException) as error:
            text = raw.decode("utf-8", "replace")
            whole = given if isinstance(given, dict) else {"raw": text}
            said = error_object(error)
            self._store.fail(number, {**whole, "line": number, "error": said})
        else:
            self._store.add(number, record)
            self._totals.add(record["model"], record.get("usage"))

    async def _result(self, given: Any) -> dict[str, Any]:
        messages, settings = read_line(given, self._options["system"])
        asked = settings.get("model", self._model.model_name)
        if self._options["max_spend"] is not None and asked not in self._totals.prices:
            msg = f"The price of `model` {asked} isn't known, which --max-spend needs."
            raise ValueError(msg)
        parsed = None
        if self._schema is None:
            reply = await self._model.ainvoke(messages, **settings)
        else:
            chain = self._model.with_structured_output(
                self._schema, include_raw=True, **settings
            )
            result = await chain.ainvoke(messages)
            if result["parsing_error"] is not None:
                raise result["parsing_error"]
            reply, parsed = result["raw"], result["parsed"]
        return {
            **{key: given[key] for key in ("id", "metadata") if key in given},
            **_record(reply, asked, parsed),
        }

    # --- what the user sees ---------------------------------------------------------

    def _show(self) -> None:
        store, totals = self._store, self._totals
        cost = f"${totals.spent:.4f}" if not totals.unpriced else "$?"
        self._bar(store.written, store.failed, totals.tokens, cost)

    def report(self) -> int:
        """Say how it ended; return the exit code."""
        store, totals = self._store, self._totals
        cost = f"${totals.spent:.6f}"
        if totals.unpriced:
            cost = f"at least {cost}" if totals.spent else "an unknown amount"
        counts = f"{store.written} done, {store.failed} failed"
        click.echo(f"{counts}, {totals.tokens} tokens, {cost}.", err=True)
        if store.failed:
            click.echo(f"The failed lines are in {store.failed_path}.", err=True)
        if self._stopped:
            click.echo(f"Stopped: {self._stopped} Run it again to go on.", err=True)
        return API_ERROR if self._stopped or store.failed else 0


def read_line(given: Any, system: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Messages and settings of a line.

    Raises:
        ValueError: It isn't of the form that `batch` takes.
    """
    if isinstance(given, str):
        given = {"prompt": given}
    if not isinstance(given, dict):
        msg = "the line isn't a JSON object"
        raise ValueError(msg)  # noqa: TRY004  # JSON of the wrong form is a wrong value
    if unknown := given.keys() - _FIELDS - _RESULTS:
        msg = f"unknown field {min(unknown)!r}; data of your own goes into `metadata`"
        raise ValueError(msg)
    if ("prompt" in given) == ("messages" in given):
        msg = "the line needs one of `prompt` and `messages`"
        raise ValueError(msg)
    if "messages" in given:
        messages = convert_to_messages(given["messages"])
    else:
        messages = [HumanMessage(given["prompt"])]
    if system := given.get("system", system):
        messages.insert(0, SystemMessage(system))
    return messages, {key: given[key] for key in _OVERRIDES if key in given}


def _record(reply: AIMessage, asked: str, parsed: Any) -> dict[str, Any]:
    metadata = reply.response_metadata
    found = {
        "model": asked,
        "content": reply.text,
        "parsed": parsed,
        "reasoning": reply.additional_kwargs.get("reasoning_content"),
        "finish_reason": metadata.get("finish_reason"),
        "request_id": metadata.get("request_id"),
        "usage": reply.usage_metadata,
    }
    return {key: value for key, value in found.items() if value is not None}


class Progress:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, source: Path) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich import progress  # noqa: PLC0415  # likewise
            from rich.console import Console  # noqa: PLC0415  # slow, and not for pipes

            self._bar = progress.Progress(
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[more]}"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=_count_lines(source), more="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Show how far it is."""
        if self._bar is not None:
            more = f"{failed} failed, {tokens:,} tokens, {cost}"
            self._bar.update(self._task, completed=done + failed, more=more)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
