"""`NscaleEmbeddings`: LangChain's embeddings on Nscale's API."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self

from langchain_nscale._connection import Connection, refuse_unknown, setting_names
from langchain_nscale._ledger import Call
from langchain_nscale._requests import encode
from langchain_nscale._vectors import (
    check_text,
    check_texts,
    instructed_query,
    may_shorten,
    read_vectors,
    split,
)
from langchain_nscale.errors import (
    NscaleContextOverflowError,
    NscaleError,
    NscaleInvalidRequestError,
)
from langchain_nscale.usage import NscaleUsageCallbackHandler, open_ledgers

_PATH = "/embeddings"
# Response, retries, number of texts -> vectors.
_Reader = Callable[[Any, int, int], list[list[float]]]
_OWN_FIELDS = {"model", "input", "encoding_format", "dimensions"}


class NscaleEmbeddings(Connection, Embeddings):
    """Embeddings on Nscale's serverless inference API.

    Examples:
        >>> from langchain_nscale import NscaleEmbeddings
        >>> embeddings = NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B")
        >>> embeddings.embed_query("What is a vector?")  # doctest: +SKIP

    Raises:
        ValueError: A setting is missing or wrong; the text names it and its variable.
        NscaleError: A call failed; `langchain_nscale.errors` has a class per cause.
    """

    model: str = ""
    """Id of the model, as `list_models` gives it (case-sensitive). Required."""

    dimensions: int | None = None
    """Length of the vectors, for models that offer a choice; by default the model's own
    (4,096 for Qwen3-Embedding-8B, which takes any length below)."""

    query_instruction: str | None = None
    """What queries are for, in a sentence, for models that want to be told; documents
    are embedded as they are. By default `Given a web search query, retrieve relevant
    passages that answer the query` for Qwen3-Embedding models, nothing for others. An
    empty string: nothing. With `{query}` in it, it is the whole form of a query, such as
    `query: {query}` for E5 models."""

    chunk_size: int = Field(default=256, ge=1)
    """At most so many texts in a request."""

    max_chunk_bytes: int = Field(default=1_000_000, ge=1)
    """At most so many bytes of text (UTF-8) in a request; a longer text goes alone."""

    max_concurrency: int = Field(default=4, ge=1)
    """At most so many requests at once."""

    encoding_format: Literal["base64", "float"] | None = None
    """How vectors are transferred: base64 costs a fraction of floats, and both are exact.
    By default base64, and floats once the service has refused it."""

    show_progress_bar: bool = False
    """Whether to show a bar (tqdm) on standard error."""

    extra_body: Mapping[str, Any] | None = None
    """Further fields of the request, such as vLLM's `truncate_prompt_tokens`."""

    callbacks: list[NscaleUsageCallbackHandler] = Field(
        default_factory=list, exclude=True, repr=False
    )
    """Handlers that count use and spend; `get_nscale_usage_callback` needs no mention."""

    model_config = ConfigDict(arbitrary_types_allowed=True)  # the handlers

    _base64_refused: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_unknown(cls, values, setting_names(cls))
        return values

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        if not self.model:
            msg = (
                "`model` is missing: give the id of a model, for example "
                'NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B").'
            )
            raise ValueError(msg)
        if self.dimensions is not None and self.dimensions < 1:
            msg = f"`dimensions` is {self.dimensions}: it has to be at least 1."
            raise ValueError(msg)
        for name in _OWN_FIELDS & set(self.extra_body or {}):
            msg = f"`extra_body` has `{name}`: give it as a setting of its own."
            raise ValueError(msg)
        return self

    # --- LangChain's interface ----------------------------------------------------------

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of texts, in their order.

        Raises:
            TypeError: `texts` isn't a list of strings.
            ValueError: A text is empty.
            NscaleError: A request failed. Requests under way are finished, no further
                ones begun; `partial_embeddings` has the vectors of all that succeeded.
        """
        job = self._job(texts)

        def work() -> None:
            for batch in job:
                with job.reporting(batch):
                    job.done(batch, self._embed(job.texts_of(batch)))

        workers = min(self.max_concurrency, job.size)
        if workers > 1:
            # The job is left first: it ends the workers for whom the pool waits.
            with ContextThreadPoolExecutor(workers) as pool, job:
                tasks = [pool.submit(work) for _ in range(workers)]
                for task in tasks:
                    task.result()
        else:
            with job:
                work()
        return job.result()

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """The async twin of `embed_documents`."""
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
        """The vector of a query, which is embedded with `query_instruction`.

        Raises:
            TypeError: `text` isn't a string.
            ValueError: It is empty.
            NscaleError: The request failed.
        """
        return self._embed([self._query(text)])[0]

    async def aembed_query(self, text: str) -> list[float]:
        """The async twin of `embed_query`."""
        return (await self._aembed([self._query(text)]))[0]

    def _query(self, text: str) -> str:
        check_text(text)
        return instructed_query(self.model, self.query_instruction, text)

    def _job(self, texts: Sequence[str]) -> _Job:
        checked = check_texts(texts)
        batches = split(checked, self.chunk_size, self.max_chunk_bytes)
        return _Job(checked, batches, show=self.show_progress_bar)

    # --- requests -----------------------------------------------------------------------

    def _embed(self, texts: list[str]) -> list[list[float]]:
        """The vectors of the texts of one request."""
        with self._counted() as count:
            form = self._format()
            try:
                response, retries = self._send(_PATH, self._body(texts, form))
            except NscaleInvalidRequestError as error:
                form = self._other_format(form, error)
                response, retries = self._send(_PATH, self._body(texts, form))
            return count(response, retries, len(texts))

    async def _aembed(self, texts: list[str]) -> list[list[float]]:
        """The async twin of `_embed`."""
        with self._counted() as count:
            form = self._format()
            try:
                response, retries = await self._asend(_PATH, self._body(texts, form))
            except NscaleInvalidRequestError as error:
                form = self._other_format(form, error)
                response, retries = await self._asend(_PATH, self._body(texts, form))
            return count(response, retries, len(texts))

    def _body(self, texts: list[str], form: str) -> bytes:
        fields: dict[str, Any] = {
            "model": self.model,
            "input": texts,
            "encoding_format": form,
        }
        if self.dimensions is not None:
            fields["dimensions"] = self.dimensions
        return encode({**fields, **(self.extra_body or {})})

    def _format(self) -> str:
        return self.encoding_format or ("float" if self._base64_refused else "base64")

    def _other_format(self, form: str, error: NscaleInvalidRequestError) -> str:
        """Floats from now on, if it was base64 that has been refused."""
        about = error.param == "encoding_format" or "encoding_format" in error.message
        if self.encoding_format or form == "float" or not about:
            raise error
        self._base64_refused = True
        return "float"

    @contextmanager
    def _counted(self) -> Generator[_Reader, None, None]:
        """Keep the books of a request; yields what reads its response."""
        ledgers = open_ledgers(self.callbacks)
        key, call = object(), Call(self.model, operation="embeddings")
        for ledger in ledgers:
            ledger.begin(key, call)

        def count(response: Any, retries: int, texts: int) -> list[list[float]]:
            vectors, usage, served = read_vectors(
                response, texts, self.dimensions, shorten=may_shorten(self.model)
            )
            for ledger in ledgers:
                ledger.end(key, usage, served=served, retries=retries)
            return vectors

        try:
            yield count
        except BaseException as error:
            for ledger in ledgers:
                ledger.end(key, error=error)
            raise


class _Job:
    """Many texts on their way through several requests at once."""

    def __init__(self, texts: list[str], batches: list[range], *, show: bool) -> None:
        self.size = len(batches)
        self._texts = texts
        self._waiting = deque(batches)
        self._vectors: list[list[float] | None] = [None] * len(texts)
        self._failures: list[tuple[range, NscaleError]] = []
        self._bar: Any = None
        if show:
            # Not before it is wanted: in a notebook without widgets its import warns.
            from tqdm.auto import tqdm  # noqa: PLC0415

            self._bar = tqdm(total=len(texts), unit="text")

    def __iter__(self) -> Iterator[range]:
        """The batches to do next; ends for all workers when one has failed."""
        with suppress(IndexError):  # another thread was faster
            while self._waiting:
                yield self._waiting.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave the rest undone if the caller gives up."""
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
        """Keep a batch's failure for the end."""
        try:
            yield
        except NscaleError as error:
            self._failures.append((batch, error))
            self._waiting.clear()

    def result(self) -> list[list[float]]:
        """All vectors.

        Raises:
            NscaleError: The first failure, which says what has been done.
        """
        if not self._failures:
            return [vector for vector in self._vectors if vector is not None]
        failures = sorted(self._failures, key=lambda failure: failure[0].start)
        batch, error = failures[0]
        if isinstance(error, NscaleContextOverflowError):
            longest = max(batch, key=lambda number: len(self._texts[number]))
            error.add_to_message(
                f"The longest text is texts[{longest}], of {len(self._texts[longest])} "
                "characters: split it with a text splitter."
            )
        if self.size > 1:
            done = sum(vector is not None for vector in self._vectors)
            failed = ", ".join(f"{b.start} to {b.stop - 1}" for b, _ in failures)
            error.partial_embeddings = self._vectors
            error.add_to_message(
                f"Texts {failed} failed; {done} of {len(self._texts)} are embedded and "
                "in the error's `partial_embeddings`."
            )
        raise error
