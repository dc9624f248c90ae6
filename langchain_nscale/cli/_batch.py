"""`batch`: sends each line of a file to a model, with concurrent requests."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)
from typing_extensions import Self

from langchain_nscale import ChatNscale, NscaleUsageCallbackHandler
from langchain_nscale._lazy import errors
from langchain_nscale._usage.ledger import Call
from langchain_nscale.cli._answer import error_object
from langchain_nscale.cli._exits import API_ERROR
from langchain_nscale.cli._inputs import BatchOptions, read_schema
from langchain_nscale.cli._store import Store, output_paths
from langchain_nscale.cli._terminal import echo
from langchain_nscale.models import NscaleModel, Price

_AHEAD = 16  # how far ahead of the slowest line to read, in multiples of the concurrency
_MAX_REFUSED = 5  # 403 answers in a row; more are not about single lines
_MAX_UNREPORTED = 3  # requests without usage before any with usage, under --max-spend
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
_RESULT_FIELDS = {
    "line",
    "input_hash",
    "error",
}  # in lines copied from a file of failed lines


def main(options: BatchOptions) -> int:
    """Run `batch`; return the exit code."""
    schema = read_schema(options.schema) if options.schema else None
    for path in output_paths(options.target):
        if path.exists() and path.samefile(options.source):
            msg = f"{path} is the input. Write the results to another file."
            raise click.UsageError(msg)
    with options.settings() as settings:
        model = ChatNscale(
            model=options.model,
            max_retries=options.max_retries,
            **settings,
            **options.sampling(),
        )
        store = Store(
            options.target,
            ordered=not options.as_completed,
            retry_failed=options.retry_failed,
        )
        try:
            run = Batch(model, store, options, schema)
            asyncio.run(run.work())
        finally:
            store.close()
    return run.report()


class Batch:
    """Sends the lines of a file to a model and stores the results."""

    def __init__(
        self,
        model: ChatNscale,
        store: Store,
        options: BatchOptions,
        schema: dict[str, Any] | None,
    ) -> None:
        """Prepare a run; `work` executes it."""
        self._model = model
        self._store = store
        self._options = options
        self._schema = schema
        self._prices: dict[str, Price] = {}
        self._usage = NscaleUsageCallbackHandler(metrics=False)
        self._stopped: str | None = None  # the reason
        self._refused_in_a_row = 0
        self._in_flight = 0
        self._room = asyncio.Condition()
        self._progress = Progress(options.source)

    async def work(self) -> None:
        """Send all lines that are not finished."""
        await self._fetch_prices()
        for number, record in enumerate(self._store.load()):
            key = ("earlier run", number)
            self._usage.ledger.begin(key, Call(record.get("model", "")))
            self._usage.ledger.end(key, record.get("usage"))
        self._store.check_input(self._options.source)
        # Blocking reads are fine: one buffer takes microseconds.
        with self._options.source.open("rb") as file, self._progress:
            self._show()
            lines = enumerate(file, 1)
            workers = [
                asyncio.ensure_future(self._worker(lines))
                for _ in range(self._options.concurrency)
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _fetch_prices(self) -> None:
        listed: list[NscaleModel] = []
        with suppress(errors.NscaleError):
            listed = await self._model.alist_models()
        self._prices = {model.id: model.price for model in listed if model.price}
        self._usage = NscaleUsageCallbackHandler(listed, metrics=False)
        if self._options.max_spend is not None and not self._price_is_known(
            self._model.model_name
        ):
            msg = f"The price of {self._model.model_name} is unknown."
            raise click.BadParameter(msg, param_hint="--max-spend")

    def _price_is_known(self, model: str) -> bool:
        return model in self._prices

    async def _worker(self, lines: Iterator[tuple[int, bytes]]) -> None:
        for number, raw in lines:
            if number in self._store:
                continue
            if not raw.strip():
                self._store.skip(number)
                continue
            async with self._room:
                await self._room.wait_for(lambda: self._may_begin(number))  # noqa: B023  # awaited here
                self._check_spend()
                self._in_flight += not self._stopped
            if not self._stopped:
                await self._line(number, raw)
                self._in_flight -= 1
                self._show()
            async with self._room:
                self._room.notify_all()
            if self._stopped:
                return

    def _may_begin(self, number: int) -> bool:
        """Whether the next line may start, or the run has been stopped."""
        ahead = _AHEAD * self._options.concurrency
        return self._stopped is not None or (
            number < self._store.next + ahead and self._can_pay()
        )

    def _can_pay(self) -> bool:
        """Whether another request is likely to stay below `--max-spend`.

        Requests before the first one whose cost is known are sent one by one.
        """
        limit = self._options.max_spend
        if limit is None or not self._in_flight:
            return True
        cost = self._expected_cost(self._in_flight)
        return cost is not None and cost < limit

    def _expected_cost(self, in_flight: int = 0) -> float | None:
        """Return the cost in US dollars, or `None` if no request has a known cost.

        Requests in flight, and those whose usage the service did not report, are expected
        to cost as much as the others did on average.
        """
        usage = self._usage.total
        known = usage.calls - usage.unreported
        if not known:
            return None
        return float(usage.known_cost) * (1 + (in_flight + usage.unreported) / known)

    def _check_spend(self) -> None:
        """Stop the run once it has cost as much as allowed."""
        limit, cost = self._options.max_spend, self._expected_cost() or 0.0
        if limit is None or self._stopped:
            return
        if cost >= limit:
            self._stopped = f"${cost:.6f} spent (--max-spend)."
        elif not cost and self._usage.total.unreported >= _MAX_UNREPORTED:
            self._stopped = "The service does not report usage, but --max-spend needs it."

    async def _line(self, number: int, raw: bytes) -> None:
        """Send a line; store its result or its failure."""
        line: Any = None
        try:
            line = json.loads(raw, parse_constant=_reject_constant)
            record = await self._result(line)
        except (
            # Errors that would fail every other line too.
            errors.NscaleAuthenticationError,
            errors.NscaleInsufficientCreditError,
        ) as error:
            self._stopped = error.message
        except Exception as error:  # noqa: BLE001  # a line can contain anything
            self._fail(number, raw, line, error)
        else:
            self._refused_in_a_row = 0
            self._store.add(number, record, raw)

    def _fail(self, number: int, raw: bytes, line: Any, error: Exception) -> None:
        """Store the failure of a line; stop if the service refuses one after another."""
        if isinstance(error, errors.NscalePermissionDeniedError):
            self._refused_in_a_row += 1
            if self._refused_in_a_row > _MAX_REFUSED:
                self._stopped = error.message
                return
        text = raw.decode("utf-8", "replace")
        fields = line if isinstance(line, dict) else {"raw": text}
        failure = {"error": error_object(error)}
        try:
            self._store.fail(number, {**fields, **failure}, raw)
        except (ValueError, RecursionError):  # too deeply nested to be written again
            self._store.fail(number, {"raw": text, **failure}, raw)

    async def _result(self, line: Any) -> dict[str, Any]:
        messages, settings = read_line(line, self._options.system)
        model_id = settings.get("model", self._model.model_name)
        if self._options.max_spend is not None and not self._price_is_known(model_id):
            msg = f"The price of `model` {model_id} is unknown, but --max-spend needs it."
            raise ValueError(msg)
        config: Any = {"callbacks": [self._usage]}
        parsed = None
        if self._schema is None:
            reply = await self._model.ainvoke(messages, config, **settings)
        else:
            chain = self._model.with_structured_output(
                self._schema, include_raw=True, **settings
            )
            result = await chain.ainvoke(messages, config)
            if result["parsing_error"] is not None:
                raise result["parsing_error"]
            reply, parsed = result["raw"], result["parsed"]
        return {
            **{key: line[key] for key in ("id", "metadata") if key in line},
            **_record(reply, model_id, parsed),
        }

    # --- output ---------------------------------------------------------------------

    def _show(self) -> None:
        store, usage = self._store, self._usage.total
        cost = "$?" if usage.cost is None else f"${usage.cost:.4f}"
        self._progress.show(store.written, store.failed, usage.total_tokens, cost)

    def report(self) -> int:
        """Print a summary; return the exit code."""
        store, usage = self._store, self._usage.total
        cost = f"${usage.known_cost:.6f}"
        if usage.cost is None:
            cost = f"at least {cost}" if usage.known_cost else "an unknown amount"
        counts = f"{store.written} done, {store.failed} failed"
        echo(f"{counts}, {usage.total_tokens} tokens, {cost}.", err=True)
        if store.failed:
            echo(f"The failed lines are in {store.failed_path}.", err=True)
        if self._stopped:
            echo(f"Stopped: {self._stopped} Run it again to continue.", err=True)
        return API_ERROR if self._stopped or store.failed else 0


def read_line(line: Any, system: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Return the messages and settings of a line.

    Raises:
        ValueError: The line does not have the form that `batch` accepts.
    """
    if isinstance(line, str):
        line = {"prompt": line}
    if not isinstance(line, dict):
        msg = "the line is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
    if unknown := line.keys() - _FIELDS - _RESULT_FIELDS:
        msg = f"unknown field {min(unknown)!r}; your own data belongs in `metadata`"
        raise ValueError(msg)
    if ("prompt" in line) == ("messages" in line):
        msg = "the line needs either `prompt` or `messages`"
        raise ValueError(msg)
    messages: list[BaseMessage]
    if "messages" in line:
        messages = convert_to_messages(line["messages"])
    else:
        messages = [HumanMessage(line["prompt"])]
    if system := line.get("system", system):
        messages.insert(0, SystemMessage(system))
    return messages, {key: line[key] for key in _OVERRIDES if key in line}


def _reject_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _record(reply: AIMessage, model_id: str, parsed: Any) -> dict[str, Any]:
    metadata = reply.response_metadata
    values = {
        "model": model_id,
        "content": reply.text,
        "parsed": parsed,
        "reasoning": reply.additional_kwargs.get("reasoning_content"),
        "finish_reason": metadata.get("finish_reason"),
        "request_id": metadata.get("request_id"),
        "usage": reply.usage_metadata,
    }
    return {key: value for key, value in values.items() if value is not None}


class Progress:
    """A progress bar on standard error, if that is a terminal."""

    def __init__(self, source: Path) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich import progress  # noqa: PLC0415  # slow to import
            from rich.console import Console  # noqa: PLC0415  # slow to import

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

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Update the bar."""
        if self._bar is not None:
            more = f"{failed} failed, {tokens:,} tokens, {cost}"
            self._bar.update(self._task, completed=done + failed, more=more)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
