"""`NscaleEmbeddings`: LangChain's embeddings on Nscale's API."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self, Unpack

from langchain_nscale import errors
from langchain_nscale._model_facts import facts
from langchain_nscale._replies.vectors import Vectors, read_vectors
from langchain_nscale._requests.texts import (
    check_text,
    check_texts,
    instructed_query,
    split_texts,
)
from langchain_nscale._response import Sent
from langchain_nscale._setting_names import check_names
from langchain_nscale._settings import NscaleSettings
from langchain_nscale._usage.ledger import Call
from langchain_nscale.usage import NscaleUsageCallbackHandler, open_ledgers

if TYPE_CHECKING:
    from langchain_nscale._settings import SettingsArguments
    from langchain_nscale.errors import NscaleError, NscaleInvalidRequestError

_PATH = "/embeddings"
_OWN_FIELDS = {"model", "input", "encoding_format", "dimensions"}
EncodingFormat = Literal["base64", "float"]


if TYPE_CHECKING:  # saves compiling each annotation at import

    class EmbeddingArguments(SettingsArguments, total=False):
        """The constructor's arguments as type checkers see them, aliases included."""

        model: str
        dimensions: int | None
        query_instruction: str | None
        chunk_size: int
        max_chunk_bytes: int
        max_concurrency: int
        encoding_format: EncodingFormat | None
        empty_text: str | None
        show_progress_bar: bool
        extra_body: Mapping[str, Any] | None
        callbacks: list[NscaleUsageCallbackHandler]


class NscaleEmbeddings(NscaleSettings, Embeddings):
    """Embeddings on Nscale's serverless inference API.

    Examples:
        >>> from langchain_nscale import NscaleEmbeddings
        >>> embeddings = NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B")
        >>> embeddings.embed_query("What is a vector?")  # doctest: +SKIP

    Raises:
        ValueError: A setting is missing or invalid; the error names it and its variable.
        NscaleError: A call failed; `langchain_nscale.errors` has a class for each cause.
    """

    model: str = ""
    """ID of the model, as listed by `list_models` (case-sensitive). Required."""

    dimensions: int | None = None
    """Length of the vectors, for models that offer a choice. Defaults to the model's own
    (4,096 for Qwen3-Embedding-8B, which supports any length below)."""

    query_instruction: str | None = None
    """Instruction added to queries, for models that expect one; documents are embedded as
    they are. Defaults to `Given a web search query, retrieve relevant passages that
    answer the query` for Qwen3-Embedding models, and to nothing for others. An empty
    string disables it. With `{query}` it is a template for the whole query, such as
    `query: {query}` for E5 models."""

    chunk_size: int = Field(default=256, ge=1)
    """Maximum number of texts per request."""

    max_chunk_bytes: int = Field(default=1_000_000, ge=1)
    """Maximum number of bytes of text (UTF-8) per request; a longer text is sent
    in a separate request."""

    max_concurrency: int = Field(default=4, ge=1)
    """Maximum number of concurrent requests."""

    encoding_format: EncodingFormat | None = None
    """Transfer format of vectors. base64 costs a fraction of float, and both are exact.
    Defaults to base64, and to float once the service has rejected it."""

    empty_text: str | None = Field(default=None, min_length=1)
    """Text to embed in place of an empty one, for example `" "`. By default an empty text
    raises a ValueError, because services reject it."""

    show_progress_bar: bool = False
    """Whether to show a progress bar (tqdm) on standard error."""

    extra_body: Mapping[str, Any] | None = None
    """Extra request fields, such as vLLM's `truncate_prompt_tokens`."""

    callbacks: list[NscaleUsageCallbackHandler] = Field(
        default_factory=list, exclude=True, repr=False
    )
    """Handlers that count usage and spend; the context manager
    `get_nscale_usage_callback` works without this."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True,  # the handlers
        defer_build=False,
    )

    _base64_rejected: bool = PrivateAttr(default=False)

    if TYPE_CHECKING:

        def __init__(self, **kwargs: Unpack[EmbeddingArguments]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        """Reject unknown settings, which pydantic would ignore."""
        return check_names(cls, values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        if not self.model:
            msg = (
                "`model` is missing: pass the ID of a model, for example "
                'NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B").'
            )
            raise ValueError(msg)
        if self.dimensions is not None and self.dimensions < 1:
            msg = f"`dimensions` is {self.dimensions}: it must be at least 1."
            raise ValueError(msg)
        for name in _OWN_FIELDS & set(self.extra_body or {}):
            msg = f"`extra_body` has `{name}`: set it as a setting instead."
            raise ValueError(msg)
        return self

    # --- LangChain's interface ----------------------------------------------------------

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of texts, in the order of the texts.

        Raises:
            TypeError: `texts` is not a list of strings.
            ValueError: A text is empty, and `empty_text` is not set.
            NscaleError: A request failed. Requests in progress are completed and no new
                ones are sent; `partial_embeddings` has the vectors that succeeded.
        """
        job = self._job(texts)

        def work() -> None:
            for batch in job:
                with job.reporting(batch):
                    job.done(batch, self._embed(job.texts_of(batch)))

        workers = min(self.max_concurrency, job.size)
        if workers > 1:
            # Exit the job before the pool: that stops the workers the pool waits for.
            with ContextThreadPoolExecutor(workers) as pool, job:
                tasks = [pool.submit(work) for _ in range(workers)]
                for task in tasks:
                    task.result()
        else:
            with job:
                work()
        return job.result()

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Async version of `embed_documents`."""
        job = self._job(texts)

        async def work() -> None:
            for batch in job:
                with job.reporting(batch):
                    job.done(batch, await self._aembed(job.texts_of(batch)))

        workers = min(self.max_concurrency, job.size)
        with job:
            await asyncio.gather(*(work() for _ in range(workers)))
        return job.result()

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query, embedded with `query_instruction`.

        Raises:
            TypeError: `text` is not a string.
            ValueError: The text is empty, and `empty_text` is not set.
            NscaleError: The request failed.
        """
        return self._embed([self._query(text)])[0]

    async def aembed_query(self, text: str) -> list[float]:
        """Async version of `embed_query`."""
        return (await self._aembed([self._query(text)]))[0]

    def _query(self, text: str) -> str:
        checked = check_text(text, instead_of_empty=self.empty_text)
        return instructed_query(self.model, self.query_instruction, checked)

    def _job(self, texts: Sequence[str]) -> _Job:
        checked = check_texts(texts, self.empty_text)
        batches = split_texts(checked, self.chunk_size, self.max_chunk_bytes)
        return _Job(checked, batches, show_progress=self.show_progress_bar)

    # --- requests -----------------------------------------------------------------------

    def _embed(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of the texts of one request."""
        with self._counted() as call:
            transport, read = self._transport(), partial(self._read, call, len(texts))
            body = self._body(texts, self._encoding())
            try:
                return transport.call(_PATH, body, read)
            except errors.NscaleInvalidRequestError as error:
                body = self._body(texts, self._other_encoding(body, error))
                return transport.call(_PATH, body, read)

    async def _aembed(self, texts: list[str]) -> list[list[float]]:
        """Async version of `_embed`."""
        with self._counted() as call:
            transport, read = self._transport(), partial(self._read, call, len(texts))
            body = self._body(texts, self._encoding())
            try:
                return await transport.acall(_PATH, body, read)
            except errors.NscaleInvalidRequestError as error:
                body = self._body(texts, self._other_encoding(body, error))
                return await transport.acall(_PATH, body, read)

    def _body(self, texts: list[str], encoding: EncodingFormat) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "model": self.model,
            "input": texts,
            "encoding_format": encoding,
        }
        if self.dimensions is not None:
            fields["dimensions"] = self.dimensions
        return {**fields, **(self.extra_body or {})}

    def _encoding(self) -> EncodingFormat:
        return self.encoding_format or ("float" if self._base64_rejected else "base64")

    def _other_encoding(
        self, body: Mapping[str, Any], error: NscaleInvalidRequestError
    ) -> EncodingFormat:
        """Switch to floats permanently if the service rejected base64; else raise."""
        is_reason = "encoding_format" in f"{error.param} {error.message}"
        if self.encoding_format or body["encoding_format"] == "float" or not is_reason:
            raise error
        self._base64_rejected = True
        return "float"

    def _read(self, call: _CountedCall, count: int, sent: Sent) -> list[list[float]]:
        vectors = read_vectors(
            sent.response,
            count,
            self.dimensions,
            shorten=facts(self.model).shortens_vectors,
        )
        return call.end(vectors, sent.retries)

    @contextmanager
    def _counted(self) -> Generator[_CountedCall, None, None]:
        """Report one request to the open ledgers, whether it succeeds or fails."""
        call = _CountedCall(self.model, self.callbacks)
        try:
            yield call
        except BaseException as error:
            call.fail(error)
            raise


class _CountedCall:
    """Reports one request to the open ledgers."""

    def __init__(
        self, model: str, handlers: Sequence[NscaleUsageCallbackHandler]
    ) -> None:
        self._ledgers = open_ledgers(handlers)
        call = Call(model, operation="embeddings")
        for ledger in self._ledgers:
            ledger.begin(self, call)

    def end(self, result: Vectors, retries: int) -> list[list[float]]:
        """Report a successful request; return its vectors."""
        for ledger in self._ledgers:
            ledger.end(self, result.usage, served=result.model, retries=retries)
        return result.vectors

    def fail(self, error: BaseException) -> None:
        """Report a failed request."""
        for ledger in self._ledgers:
            ledger.end(self, error=error)


class _Job:
    """Tracks the batches of one `embed_documents` call."""

    def __init__(
        self, texts: list[str], batches: list[range], *, show_progress: bool
    ) -> None:
        self.size = len(batches)
        self._texts = texts
        self._waiting = deque(batches)
        self._vectors: list[list[float] | None] = [None] * len(texts)
        self._failures: list[tuple[range, NscaleError]] = []
        self._bar: Any = None
        if show_progress:
            # Imported lazily: it warns in notebooks without ipywidgets.
            from tqdm.auto import tqdm  # noqa: PLC0415

            self._bar = tqdm(total=len(texts), unit="text")

    def __iter__(self) -> Iterator[range]:
        """Yield the next batches; ends for all workers once one has failed."""
        with suppress(IndexError):  # another thread took the last batch
            while self._waiting:
                yield self._waiting.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Discard the remaining batches if the caller gives up."""
        if kind is not None:
            self._waiting.clear()
        if self._bar is not None:
            self._bar.close()

    def texts_of(self, batch: range) -> list[str]:
        return self._texts[batch.start : batch.stop]

    def done(self, batch: range, vectors: list[list[float]]) -> None:
        self._vectors[batch.start : batch.stop] = vectors
        if self._bar is not None:
            self._bar.update(len(batch))

    @contextmanager
    def reporting(self, batch: range) -> Generator[None, None, None]:
        """Keep a batch's failure until the end."""
        try:
            yield
        except errors.NscaleError as error:
            self._failures.append((batch, error))
            self._waiting.clear()

    def result(self) -> list[list[float]]:
        """Return all vectors.

        Raises:
            NscaleError: The first failure, with the vectors of all other texts.
        """
        if not self._failures:
            return [vector for vector in self._vectors if vector is not None]
        failures = sorted(self._failures, key=lambda failure: failure[0].start)
        batch, error = failures[0]
        if isinstance(error, errors.NscaleContextOverflowError):
            longest = max(batch, key=lambda number: len(self._texts[number]))
            error.add_to_message(
                f"The longest text is texts[{longest}], with {len(self._texts[longest])} "
                "characters: split it with a text splitter."
            )
        if self.size > 1:
            done = sum(vector is not None for vector in self._vectors)
            failed = ", ".join(_numbers(failed_batch) for failed_batch, _ in failures)
            error.partial_embeddings = self._vectors
            error.add_to_message(
                f"Failed to embed texts {failed}; the other {done} of "
                f"{len(self._texts)} are in `error.partial_embeddings`."
            )
        raise error


def _numbers(batch: range) -> str:
    return f"{batch.start}" if len(batch) == 1 else f"{batch.start} to {batch.stop - 1}"
