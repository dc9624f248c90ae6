"""`batch`: sends each line of a file to a model, with concurrent requests."""

from __future__ import annotations

import asyncio
import codecs
import gc
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from langchain_nscale import ChatNscale, NscaleUsageCallbackHandler, errors
from langchain_nscale._cli.answer import error_object
from langchain_nscale._cli.batch.lines import read_line, result_record
from langchain_nscale._cli.batch.outage import FAIL, STOP, Outage
from langchain_nscale._cli.batch.progress import Progress
from langchain_nscale._cli.batch.store import Store, output_paths
from langchain_nscale._cli.exits import API_ERROR, INTERRUPTED
from langchain_nscale._cli.inputs import BatchOptions, read_schema
from langchain_nscale._cli.stdin import waiting_noted
from langchain_nscale._cli.terminal import echo
from langchain_nscale._usage.ledger import Call
from langchain_nscale.models import NscaleModel

_AHEAD = 16  # how far ahead of the slowest line to read, in multiples of the concurrency
_MAX_UNREPORTED = 3  # requests without usage before any with usage, under --max-spend


def main(options: BatchOptions) -> int:
    """Run `batch`; return the exit code."""
    if str(options.target) == "-":
        msg = "OUT.jsonl has to be a file: the next run continues from it."
        raise click.UsageError(msg)
    is_piped = str(options.source) == "-"
    if not is_piped and options.source.is_file():
        return _run(options)
    # A pipe (`<(…)`, /dev/stdin) can be read only once.
    piped: Any = sys.stdin.buffer if is_piped else options.source.open("rb")
    with TemporaryDirectory() as folder, piped:
        source = Path(folder) / "input.jsonl"
        with source.open("wb") as file, waiting_noted():
            shutil.copyfileobj(piped, file)
        return _run(replace(options, source=source))


def _run(options: BatchOptions) -> int:
    schema = read_schema(options.schema) if options.schema else None
    _check_source(options)
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
            settings={
                "model": options.model,
                **({"for": "all lines"} if options.replaces_model else {}),
                "system": options.system,
                "schema": schema,
                **options.sampling(),
            },
        )
        try:
            run = Batch(model, store, options, schema)
            gc.freeze()  # what has been imported stays, and needn't be looked at again
            try:
                asyncio.run(run.work())
            finally:
                store.finish()
        except KeyboardInterrupt:
            echo("Interrupted. Run it again to continue.", err=True)
            return INTERRUPTED
        finally:
            store.close()
    return run.report()


def _check_source(options: BatchOptions) -> None:
    """Check the input as a whole.

    Raises:
        click.UsageError: It is also an output, or not UTF-8.
    """
    for path in output_paths(options.target):
        if path.exists() and path.samefile(options.source):
            msg = f"{path} is the input. Write the results to another file."
            raise click.UsageError(msg)
    with options.source.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            msg = (
                f"{options.source} is UTF-16. Store it as UTF-8, in PowerShell with "
                "`Get-Content FILE | Out-File -Encoding utf8 NEW_FILE`."
            )
            raise click.UsageError(msg)


@dataclass
class Batch:
    """Sends the lines of a file to a model and stores the results."""

    _model: ChatNscale
    _store: Store
    _options: BatchOptions
    _schema: dict[str, Any] | None

    def __post_init__(self) -> None:
        self._priced: set[str] = set()  # models
        self._usage = NscaleUsageCallbackHandler(metrics=False)
        self._stopped: str | None = None  # the reason
        self._continue = "Run it again to continue."
        self._in_flight = 0
        self._earlier = 0  # lines that were finished before this run
        self._room = asyncio.Condition()
        self._outage = Outage(self._options.max_wait)

    async def work(self) -> None:
        """Send all unfinished lines."""
        await self._fetch_prices()
        for call in self._store.paid():
            self._usage.ledger.begin("earlier run", Call(call["model"]))
            self._usage.ledger.end("earlier run", call["usage"])
        self._earlier = self._store.done + self._store.failed
        self._store.check(self._options.source)
        self._progress = Progress(self._options.progress, self._options.source)
        # Blocking reads are fine: one buffer takes microseconds.
        with closing(self._progress), self._options.source.open("rb") as file:
            self._show()
            lines = self._store.unfinished(file)
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
        self._priced = {model.id for model in listed if model.price}
        self._usage = NscaleUsageCallbackHandler(listed, metrics=False)
        default = self._model.model_name
        if self._options.max_spend is not None and default not in self._priced:
            msg = f"The price of {default} is unknown."
            raise click.BadParameter(msg, param_hint="--max-spend")

    async def _worker(self, lines: Iterator[tuple[int, bytes]]) -> None:
        for number, raw in lines:
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
        """Return whether the next line may start, or the run has been stopped."""
        ahead = _AHEAD * self._options.concurrency
        return self._stopped is not None or (
            number < self._store.next + ahead
            and not self._outage.waiting
            and self._can_pay()
        )

    def _can_pay(self) -> bool:
        """Return whether another request is likely to stay below `--max-spend`.

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
            self._stopped = f"${cost:.6f} spent."
            self._continue = "Raise --max-spend to continue."
        elif not cost and self._usage.total.unreported >= _MAX_UNREPORTED:
            self._stopped = "The service does not report usage, but --max-spend needs it."

    async def _line(self, number: int, raw: bytes) -> None:
        """Send a line until it succeeds or fails permanently; store the outcome."""
        line: Any = None
        for attempt in itertools.count(1):
            successes = self._outage.successes
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
                pause = self._outage.judge(error, successes, attempt)
                if pause == FAIL or (pause == STOP and await self._may_give_up(error)):
                    self._fail(number, raw, line, error)
                    return
                if pause == STOP:
                    self._stopped = str(error)
                else:
                    await self._pause(pause, error)
            else:
                self._outage.succeeded()
                self._add(number, raw, record)
                return
            if self._stopped:
                return

    def _add(self, number: int, raw: bytes, record: dict[str, Any]) -> None:
        """Store the result of a line."""
        try:
            self._store.add(number, record, raw)
        except RecursionError:  # metadata or arguments nested too deeply
            flat = {k: v for k, v in record.items() if k == "usage" or isinstance(v, str)}
            self._store.add(number, flat, raw)

    async def _pause(self, seconds: float, error: Exception) -> None:
        """Begin no other lines for a while."""
        self._outage.waiting += 1
        self._progress.note(f"Waiting {seconds:.0f} s after {type(error).__name__}.")
        try:
            await asyncio.sleep(seconds)
        finally:
            self._outage.waiting -= 1
            async with self._room:
                self._room.notify_all()

    async def _may_give_up(self, error: Exception) -> bool:
        """Return whether the service still answers, so that the line was at fault."""
        if getattr(error, "retry_after", None):
            return False
        try:
            await self._model.alist_models(refresh=True)
        except errors.NscaleError:
            return False
        return self._outage.give_up()

    def _fail(self, number: int, raw: bytes, line: Any, error: Exception) -> None:
        """Store the failure of a line; stop if the service refuses one after another."""
        refused = isinstance(error, errors.NscalePermissionDeniedError)
        if refused and not self._outage.give_up():
            self._stopped = str(error)
            return
        unread = {"raw": raw.decode("utf-8", "replace")}
        failure = {**getattr(error, "paid", {}), "error": error_object(error)}
        try:
            fields = line if isinstance(line, dict) else unread
            self._store.fail(number, {**fields, **failure}, raw)
        except (ValueError, RecursionError):  # too deeply nested to be written again
            self._store.fail(number, {**unread, **failure}, raw)

    async def _result(self, line: Any) -> dict[str, Any]:
        messages, settings = read_line(line, self._options.system)
        if self._options.replaces_model:
            settings["model"] = self._model.model_name
        model_id = settings.get("model", self._model.model_name)
        if self._options.max_spend is not None and model_id not in self._priced:
            msg = f"The price of `model` {model_id} is unknown, but --max-spend needs it."
            raise ValueError(msg)
        if self._schema is None:
            result = await self._model.agenerate(
                [messages], callbacks=[self._usage], **settings
            )
            replies: Any = result.generations[0]
            return result_record(line, model_id, [each.message for each in replies], None)
        if settings.get("extra_body", {}).get("n", 1) != 1:
            msg = "`n` asks for several answers, but --json-schema is applied to one."
            raise ValueError(msg)
        chain = self._model.with_structured_output(
            self._schema, include_raw=True, **settings
        )
        result = await chain.ainvoke(messages, {"callbacks": [self._usage]})
        if (error := result["parsing_error"]) is not None:
            # It was paid for all the same, which the failed line has to say.
            error.paid = {"model": model_id, "usage": result["raw"].usage_metadata}
            raise error
        return result_record(line, model_id, [result["raw"]], result["parsed"])

    # --- output ---------------------------------------------------------------------

    def _show(self) -> None:
        store, usage = self._store, self._usage.total
        cost = "$?" if usage.cost is None else f"${usage.cost:.4f}"
        self._progress.show(store.done, store.failed, usage.total_tokens, cost)

    def report(self) -> int:
        """Print a summary; return the exit code."""
        store, usage = self._store, self._usage.total
        cost = f"${usage.known_cost:.6f}"
        if usage.cost is None:
            cost = f"at least {cost}" if usage.known_cost else "an unknown amount"
        counts = f"{store.done} done, {store.failed} failed"
        when = ""
        if self._earlier:
            is_new = store.done + store.failed > self._earlier
            when = " in all, with earlier runs" if is_new else ", all by earlier runs"
        echo(f"{counts}, {usage.total_tokens} tokens, {cost}{when}.", err=True)
        if store.failed:
            echo(f"The failed lines are in {store.failed_path}.", err=True)
        if self._stopped:
            echo(f"Stopped: {self._stopped} {self._continue}", err=True)
        return API_ERROR if self._stopped or store.failed else 0


def _reject_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)
