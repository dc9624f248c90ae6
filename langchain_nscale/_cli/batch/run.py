"""`batch`: sends each line of a file to a model, with concurrent requests."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
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

from langchain_nscale import ChatNscale, NscaleUsageCallbackHandler, errors
from langchain_nscale._cli.answer import error_object
from langchain_nscale._cli.batch.outage import Outage, Verdict
from langchain_nscale._cli.batch.store import Store, output_paths, paid
from langchain_nscale._cli.exits import API_ERROR
from langchain_nscale._cli.inputs import BatchOptions, read_schema
from langchain_nscale._cli.terminal import echo
from langchain_nscale._usage.ledger import Call
from langchain_nscale.models import NscaleModel, Price

_AHEAD = 16  # how far ahead of the slowest line to read, in multiples of the concurrency
_MAX_REFUSED = 5  # 403 answers in a row; more are not about single lines
_INTERVAL = 10.0  # seconds between lines of progress
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
_COPIED = ("id", "custom_id", "metadata")  # from a line to its result
_OPENAI_FIELDS = {"custom_id", "method", "url", "body"}
_OPENAI_URL = "/v1/chat/completions"
_FIELDS = {"prompt", "messages", "system", "id", "metadata"} | _OVERRIDES
# In lines copied from a file of failed lines.
_RESULT_FIELDS = {
    "line",
    "input_hash",
    "settings_hash",
    "error",
    "usage",
    "earlier_attempts",
}


def main(options: BatchOptions) -> int:
    """Run `batch`; return the exit code."""
    if str(options.source) != "-":
        return _run(options)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "input.jsonl"
        with source.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return _run(replace(options, source=source))


def _run(options: BatchOptions) -> int:
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
            settings={
                "model": options.model,
                "system": options.system,
                "schema": schema,
                **options.sampling(),
            },
        )
        try:
            run = Batch(model, store, options, schema)
            try:
                asyncio.run(run.work())
            finally:
                store.finish()
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
        self._outage = Outage(options.max_wait)
        self._progress = progress(options.progress, options.source)

    async def work(self) -> None:
        """Send all unfinished lines."""
        await self._fetch_prices()
        for number, record in enumerate(self._store.load()):
            for attempt, call in enumerate(paid(record)):
                key = ("earlier run", number, attempt)
                self._usage.ledger.begin(key, Call(call["model"]))
                self._usage.ledger.end(key, call["usage"])
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
            self._stopped = f"${cost:.6f} spent (--max-spend)."
        elif not cost and self._usage.total.unreported >= _MAX_UNREPORTED:
            self._stopped = "The service does not report usage, but --max-spend needs it."

    async def _line(self, number: int, raw: bytes) -> None:
        """Send a line until it succeeds or fails permanently; store the outcome."""
        line: Any = None
        for attempt in itertools.count(1):
            begun = self._outage.begin()
            try:
                line = json.loads(raw, parse_constant=_reject_constant)
                record = await self._result(line)
            except (
                # Errors that would fail every other line too.
                errors.NscaleAuthenticationError,
                errors.NscaleInsufficientCreditError,
            ) as error:
                self._stopped = error.message
                return
            except Exception as error:  # noqa: BLE001  # a line can contain anything
                verdict = self._outage.judge(error, begun, attempt)
                if not isinstance(verdict, Verdict):
                    await self._pause(verdict, error)
                    if self._stopped:
                        return
                elif verdict is Verdict.FAIL or await self._may_give_up(error):
                    self._fail(number, raw, line, error)
                    return
                else:
                    self._stopped = str(error)
                    return
            else:
                self._outage.succeeded()
                self._refused_in_a_row = 0
                self._store.add(number, record, raw)
                return

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
        if isinstance(error, errors.NscalePermissionDeniedError):
            self._refused_in_a_row += 1
            if self._refused_in_a_row > _MAX_REFUSED:
                self._stopped = error.message
                return
        text = raw.decode("utf-8", "replace")
        fields = line if isinstance(line, dict) else {"raw": text}
        failure: dict[str, Any] = {}
        if isinstance(error, _UnusableReplyError):
            failure = {"model": error.model, "usage": error.usage}
            error = error.cause
        failure["error"] = error_object(error)
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
            reply, parsed = result["raw"], result["parsed"]
            if result["parsing_error"] is not None:
                raise _UnusableReplyError(result["parsing_error"], model_id, reply)
        return {
            **{key: line[key] for key in _COPIED if key in line},
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


class _UnusableReplyError(Exception):
    """A reply that was paid for, but does not conform to the schema."""

    def __init__(self, cause: Exception, model: str, reply: AIMessage) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.model = model
        self.usage = reply.usage_metadata


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
    if "body" in line:
        return _read_openai_line(line, system)
    if unknown := line.keys() - _FIELDS - _RESULT_FIELDS:
        msg = f"unknown field {min(unknown)!r}; your own data belongs in `metadata`"
        raise ValueError(msg)
    if ("prompt" in line) == ("messages" in line):
        msg = "the line needs either `prompt` or `messages`"
        raise ValueError(msg)
    messages: list[BaseMessage]
    if "messages" in line:
        messages = _messages(line["messages"])
    else:
        messages = [HumanMessage(_content(line["prompt"], "prompt"))]
    if system := line.get("system", system):
        messages.insert(0, SystemMessage(_content(system, "system")))
    return messages, {key: line[key] for key in _OVERRIDES if key in line}


def _read_openai_line(
    line: dict[str, Any], system: str | None
) -> tuple[list[Any], dict[str, Any]]:
    """Read a line of OpenAI's batch format: `custom_id`, `method`, `url` and `body`."""
    body = line["body"]
    if unknown := line.keys() - _OPENAI_FIELDS - _RESULT_FIELDS:
        msg = f"unknown field {min(unknown)!r}"
        raise ValueError(msg)
    if not str(line.get("url") or _OPENAI_URL).endswith(_OPENAI_URL):
        msg = f"`url` is {line['url']!r}, but only {_OPENAI_URL} is supported"
        raise ValueError(msg)
    if not isinstance(body, dict) or "messages" not in body:
        msg = "`body` is not an object with `messages`"
        raise ValueError(msg)
    messages = _messages(body["messages"])
    if system and not any(isinstance(each, SystemMessage) for each in messages):
        messages.insert(0, SystemMessage(system))
    fields = {
        key: value
        for key, value in body.items()
        if key not in ("messages", "stream", "stream_options") and value is not None
    }
    settings = {key: fields.pop(key) for key in _OVERRIDES if key in fields}
    extra = settings.get("extra_body", {})
    if fields and isinstance(extra, dict):
        settings["extra_body"] = {**fields, **extra}
    return messages, settings


def _messages(value: Any) -> list[BaseMessage]:
    if not isinstance(value, list):
        msg = "`messages` is not a list"
        raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
    try:
        return convert_to_messages(value)
    except ValueError:
        raise
    except Exception:  # noqa: BLE001  # whatever langchain-core raises
        msg = "`messages` has an entry that is not a message"
        raise ValueError(msg) from None


def _content(value: Any, field: str) -> str | list[str | dict[Any, Any]]:
    """Return the content of a message."""
    is_list = isinstance(value, list) and all(isinstance(v, (str, dict)) for v in value)
    if not isinstance(value, str) and not is_list:
        msg = f"`{field}` is neither a text nor a list of content blocks"
        raise ValueError(msg)
    content: str | list[str | dict[Any, Any]] = value
    return content


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
        "tool_calls": reply.tool_calls or None,
        "finish_reason": metadata.get("finish_reason"),
        "request_id": metadata.get("request_id"),
        "usage": reply.usage_metadata,
    }
    return {key: value for key, value in values.items() if value is not None}


def progress(kind: str, source: Path) -> Progress:
    """Return what reports progress on standard error."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    kinds = {"bar": ProgressBar, "lines": ProgressLines}
    return kinds.get(kind, Progress)(source)


class Progress:
    """Reports no progress; the base class of those that do."""

    def __init__(self, source: Path) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Report how far the run is."""

    def note(self, text: str) -> None:
        """Report that the run waits."""


class ProgressLines(Progress):
    """Writes a line from time to time."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._total = _count_lines(source)
        self._next = monotonic() + _INTERVAL
        self._note = ""

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Write a line if the last one was long ago."""
        if monotonic() >= self._next:
            self._next = monotonic() + _INTERVAL
            counts = f"{done + failed} of {self._total} lines, {failed} failed"
            echo(f"{counts}, {tokens} tokens, {cost}.", err=True)

    def note(self, text: str) -> None:
        """Write a line if it is not the last one again."""
        if text != self._note:
            echo(text, err=True)
        self._note = text


class ProgressBar(Progress):
    """Shows a bar in a terminal."""

    def __init__(self, source: Path) -> None:
        from rich import progress as rich  # noqa: PLC0415  # slow to import
        from rich.console import Console  # noqa: PLC0415  # slow to import

        super().__init__(source)
        self._bar = rich.Progress(
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[more]}"),
            rich.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=_count_lines(source), more="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, failed: int, tokens: int, cost: str) -> None:
        """Update the bar."""
        more = f"{failed} failed, {tokens:,} tokens, {cost}"
        self._bar.update(self._task, completed=done + failed, more=more)

    def note(self, text: str) -> None:
        """Show that the run waits."""
        self._bar.update(self._task, more=text)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
