"""`NscaleEmbeddings`: LangChain's embeddings on Nscale's API."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self

from langchain_nscale import errors
from langchain_nscale._model_facts import facts
from langchain_nscale._replies.vectors import Vectors, read_array, read_vectors
from langchain_nscale._requests.texts import (
    check_text,
    check_texts,
    instructed_query,
    split_texts,
)
from langchain_nscale._response import Sent
from langchain_nscale._settings.connection import NscaleSettings
from langchain_nscale._settings.names import check_names
from langchain_nscale._usage.counts import UsageCounts, open_ledgers
from langchain_nscale._usage.ledger import Call

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_nscale._http.token import Token
    from langchain_nscale._settings.connection import AsyncClient, Client, Timeout
    from langchain_nscale.errors import NscaleError, NscaleInvalidRequestError
    from langchain_nscale.usage import NscaleUsageCallbackHandler

    Array = NDArray[np.float32]
else:
    # What pydantic checks; the handler itself would import LangSmith.
    NscaleUsageCallbackHandler = UsageCounts
    Array = Any  # numpy is optional, and annotations can be resolved without it

_PATH = "/embeddings"
_OWN_FIELDS = {"model", "input", "encoding_format", "dimensions"}
EncodingFormat = Literal["base64", "float"]
_Read = Callable[..., Vectors]  # `read_vectors` or `read_array`


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
    (4,096 for Qwen3-Embedding-8B, which supports any length below). If the service
    ignores or rejects it, the vectors of such models are shortened here."""

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

    _rejected: set[str] = PrivateAttr(default_factory=set)

    # --- constructor for editors: `python -m scripts.constructors`

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            model: str,
            dimensions: int | None = None,
            query_instruction: str | None = None,
            chunk_size: int | None = 256,
            max_chunk_bytes: int | None = 1000000,
            max_concurrency: int | None = 4,
            encoding_format: EncodingFormat | None = None,
            empty_text: str | None = None,
            show_progress_bar: bool | None = False,
            extra_body: Mapping[str, Any] | None = None,
            callbacks: list[NscaleUsageCallbackHandler] | None = None,
            service_token: Token | None = None,
            api_key: Token | None = None,
            base_url: str | None = None,
            allow_insecure_http: bool | None = False,
            timeout: Timeout = None,
            request_timeout: Timeout = None,
            max_retries: int | None = 2,
            total_timeout: float | None = None,
            max_response_bytes: int | None = 268435456,
            default_headers: Mapping[str, str] | None = None,
            default_query: Mapping[str, object] | None = None,
            http_client: Client = None,
            http_async_client: AsyncClient = None,
        ) -> None:
            """Create the embeddings.

            Args:
                model: ID of the model, as listed by `list_models` (case-sensitive).
                    Required.
                dimensions: Length of the vectors, for models that offer a choice.
                    Defaults to the model's own (4,096 for Qwen3-Embedding-8B, which
                    supports any length below). If the service ignores or rejects it,
                    the vectors of such models are shortened here.
                query_instruction: Instruction added to queries, for models that
                    expect one; documents are embedded as they are. Defaults to `Given
                    a web search query, retrieve relevant passages that answer the
                    query` for Qwen3-Embedding models, and to nothing for others. An
                    empty string disables it. With `{query}` it is a template for the
                    whole query, such as `query: {query}` for E5 models.
                chunk_size: Maximum number of texts per request.
                max_chunk_bytes: Maximum number of bytes of text (UTF-8) per request;
                    a longer text is sent in a separate request.
                max_concurrency: Maximum number of concurrent requests.
                encoding_format: Transfer format of vectors. base64 costs a fraction
                    of float, and both are exact. Defaults to base64, and to float
                    once the service has rejected it.
                empty_text: Text to embed in place of an empty one, for example `" "`.
                    By default an empty text raises a ValueError, because services
                    reject it.
                show_progress_bar: Whether to show a progress bar (tqdm) on standard
                    error.
                extra_body: Extra request fields, such as vLLM's
                    `truncate_prompt_tokens`.
                callbacks: Handlers that count usage and spend; the context manager
                    `get_nscale_usage_callback` works without this.
                service_token: Nscale service token; `api_key` is accepted too. A
                    string, or a sync or async callable that returns one and is called
                    for each request. Defaults to `NSCALE_SERVICE_TOKEN`, then
                    `NSCALE_API_KEY`.
                api_key: The same as `service_token`.
                base_url: Address of the API. Defaults to `NSCALE_BASE_URL`, then
                    `NSCALE_API_BASE`, then `https://inference.api.nscale.com/v1`.
                allow_insecure_http: Whether `base_url` may be an `http://` address on
                    another machine, which would send the token in clear text.
                timeout: Timeout in seconds: a number (applies to every phase), a
                    `(connect, read)` pair, an `httpx` or `httpx2` Timeout, or `None`
                    for 10 s to connect and 600 s to read.
                request_timeout: The same as `timeout`.
                max_retries: Maximum number of retries after a transient failure.
                total_timeout: Limit in seconds for a whole call: retries, waits and
                    the stream included. The default is no limit; `timeout` limits
                    each phase of each attempt.
                max_response_bytes: Largest size of a response in bytes, decompressed;
                    a larger one is an error. `None` for no limit.
                default_headers: Headers to send with every request. Dumps and traces
                    leave them out.
                default_query: Query parameters to add to every request. Dumps and
                    traces leave them out.
                http_client: Your own `httpx2.Client` or `httpx.Client`, instead of
                    the shared one.
                http_async_client: Your own `httpx2.AsyncClient` or
                    `httpx.AsyncClient`, instead of the shared one.
            """

    # --- end of the constructor

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

    def embed_documents(
        self, texts: list[str], chunk_size: int | None = None
    ) -> list[list[float]]:
        """Return the vectors of texts, in the order of the texts.

        Args:
            texts: The texts.
            chunk_size: Maximum number of texts per request, instead of the setting.

        Raises:
            TypeError: `texts` is not a list of strings.
            ValueError: A text is empty, and `empty_text` is not set; or `chunk_size` is
                less than 1.
            NscaleError: A request failed. Requests in progress are completed and no new
                ones are sent; `partial_embeddings` has the vectors that succeeded.
        """
        batches = self._embed_all(self._job(texts, chunk_size, read_vectors))
        return [vector for batch in batches for vector in batch]

    async def aembed_documents(
        self, texts: list[str], chunk_size: int | None = None
    ) -> list[list[float]]:
        """Async version of `embed_documents`."""
        batches = await self._aembed_all(self._job(texts, chunk_size, read_vectors))
        return [vector for batch in batches for vector in batch]

    def embed_documents_as_array(
        self, texts: list[str], chunk_size: int | None = None
    ) -> Array:
        """Return the vectors of texts as a numpy array, one row for each text.

        The shape is (texts, dimensions), the type float32, in which the service computes
        them. This takes less time and an eighth of the memory of `embed_documents`.

        Args:
            texts: As for `embed_documents`.
            chunk_size: As for `embed_documents`.

        Raises:
            ImportError: numpy is not installed.
            TypeError: As for `embed_documents`.
            ValueError: As for `embed_documents`.
            NscaleError: As for `embed_documents`.
        """
        import numpy as np  # noqa: PLC0415  # optional

        batches = self._embed_all(self._job(texts, chunk_size, read_array))
        empty = np.empty((0, self.dimensions or 0), np.float32)
        return np.concatenate(batches) if batches else empty

    async def aembed_documents_as_array(
        self, texts: list[str], chunk_size: int | None = None
    ) -> Array:
        """Async version of `embed_documents_as_array`."""
        import numpy as np  # noqa: PLC0415  # optional

        batches = await self._aembed_all(self._job(texts, chunk_size, read_array))
        empty = np.empty((0, self.dimensions or 0), np.float32)
        return np.concatenate(batches) if batches else empty

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query, embedded with `query_instruction`.

        Raises:
            TypeError: `text` is not a string.
            ValueError: The text is empty, and `empty_text` is not set.
            NscaleError: The request failed.
        """
        vectors: list[list[float]] = self._embed([self._query(text)], read_vectors)
        return vectors[0]

    async def aembed_query(self, text: str) -> list[float]:
        """Async version of `embed_query`."""
        vectors: list[list[float]] = await self._aembed([self._query(text)], read_vectors)
        return vectors[0]

    def _query(self, text: str) -> str:
        checked = check_text(text, instead_of_empty=self.empty_text)
        return instructed_query(self.model, self.query_instruction, checked)

    def _job(self, texts: Sequence[str], chunk_size: int | None, read: _Read) -> _Job:
        if chunk_size is not None and chunk_size < 1:
            msg = f"`chunk_size` is {chunk_size}: it must be at least 1."
            raise ValueError(msg)
        checked = check_texts(texts, self.empty_text)
        size = chunk_size or self.chunk_size
        batches = split_texts(checked, size, self.max_chunk_bytes)
        return _Job(checked, batches, read, show_progress=self.show_progress_bar)

    # --- requests -----------------------------------------------------------------------

    def _embed_all(self, job: _Job) -> list[Any]:
        """Send the requests of a job; return the vectors of each."""

        def work() -> None:
            for batch in job:
                with job.reporting(batch):
                    job.done(batch, self._embed(job.texts_of(batch), job.read))

        workers = min(self.max_concurrency, job.size)
        if workers > 1:
            # Exit the job before the pool: that stops the workers the pool waits for.
            with ThreadPoolExecutor(workers) as pool, job:
                tasks = [pool.submit(copy_context().run, work) for _ in range(workers)]
                for task in tasks:
                    task.result()
        else:
            with job:
                work()
        return job.result()

    async def _aembed_all(self, job: _Job) -> list[Any]:
        """Async version of `_embed_all`."""

        async def work() -> None:
            for batch in job:
                with job.reporting(batch):
                    job.done(batch, await self._aembed(job.texts_of(batch), job.read))

        workers = min(self.max_concurrency, job.size)
        with job:
            await asyncio.gather(*(work() for _ in range(workers)))
        return job.result()

    def _embed(self, texts: list[str], read: _Read) -> Any:
        """Return the vectors of the texts of one request."""
        with _CountedCall(self.model, self.callbacks) as call:
            transport = self._transport()
            reader = partial(self._read, call, len(texts), read)
            while True:
                form = self._form()
                try:
                    return transport.call(_PATH, self._body(texts, form), reader)
                except errors.NscaleInvalidRequestError as error:
                    self._do_without(form, error)

    async def _aembed(self, texts: list[str], read: _Read) -> Any:
        """Async version of `_embed`."""
        with _CountedCall(self.model, self.callbacks) as call:
            transport = self._transport()
            reader = partial(self._read, call, len(texts), read)
            while True:
                form = self._form()
                try:
                    return await transport.acall(_PATH, self._body(texts, form), reader)
                except errors.NscaleInvalidRequestError as error:
                    self._do_without(form, error)

    def _form(self) -> _Form:
        """Return how vectors are requested, without what the service has rejected."""
        base64: EncodingFormat = "float" if "base64" in self._rejected else "base64"
        dimensions = None if "dimensions" in self._rejected else self.dimensions
        return _Form(self.encoding_format or base64, dimensions)

    def _body(self, texts: list[str], form: _Form) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "model": self.model,
            "input": texts,
            "encoding_format": form.encoding,
        }
        if form.dimensions is not None:
            fields["dimensions"] = form.dimensions
        return {**fields, **(self.extra_body or {})}

    def _do_without(self, form: _Form, error: NscaleInvalidRequestError) -> None:
        """Remember what the service rejected, if the vectors can do without."""
        # vLLM rejects `dimensions` for Qwen3-Embedding ("does not support matryoshka
        # representation"), because the model's config.json lacks `is_matryoshka`, and
        # older versions for every model (QwenLM/Qwen3-Embedding#188, vllm-project/vllm
        # #23435). Each rejection removes one field, so a request is sent three times at
        # most.
        reason = f"{error.param} {error.message}".lower()
        is_length = "dimension" in reason or "matryoshka" in reason
        is_encoding = "encoding_format" in reason and not self.encoding_format
        if form.dimensions and is_length and facts(self.model).shortens_vectors:
            self._rejected.add("dimensions")
        elif form.encoding == "base64" and is_encoding:
            self._rejected.add("base64")
        else:
            raise error

    def _read(self, call: _CountedCall, count: int, read: _Read, sent: Sent) -> Any:
        shorten = facts(self.model).shortens_vectors
        vectors = read(sent.response, count, self.dimensions, shorten=shorten)
        return call.end(vectors, sent.retries)


class _Form(NamedTuple):
    """The options of a request for vectors."""

    encoding: EncodingFormat
    dimensions: int | None


class _CountedCall:
    """Reports one request to the open ledgers, whether it succeeds or fails."""

    def __init__(
        self, model: str, handlers: Sequence[NscaleUsageCallbackHandler]
    ) -> None:
        self._ledgers = open_ledgers(handlers)
        call = Call(model, operation="embeddings")
        for ledger in self._ledgers:
            ledger.begin(self, call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            for ledger in self._ledgers:
                ledger.end(self, error=error)

    def end(self, result: Vectors, retries: int) -> Any:
        """Report a successful request; return its vectors."""
        for ledger in self._ledgers:
            ledger.end(self, result.usage, served=result.model, retries=retries)
        return result.vectors


class _Job:
    """Tracks the batches of one `embed_documents` call."""

    def __init__(
        self, texts: list[str], batches: list[range], read: _Read, *, show_progress: bool
    ) -> None:
        self.size = len(batches)
        self.read = read
        self._texts = texts
        self._batches = batches
        self._waiting = deque(batches)
        self._vectors: dict[range, Any] = {}
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

    def done(self, batch: range, vectors: Any) -> None:
        self._vectors[batch] = vectors
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

    def result(self) -> list[Any]:
        """Return each batch's vectors, or raise a failure with those that succeeded."""
        if not self._failures:
            return [self._vectors[batch] for batch in self._batches]
        failures = sorted(self._failures, key=lambda failure: failure[0].start)
        batch, error = failures[0]
        if isinstance(error, errors.NscaleContextOverflowError):
            longest = max(batch, key=lambda number: len(self._texts[number]))
            error.add_to_message(
                f"The longest text is texts[{longest}], with {len(self._texts[longest])} "
                "characters: split it with a text splitter."
            )
        if self.size > 1:
            failed = ", ".join(_numbers(failed_batch) for failed_batch, _ in failures)
            error.partial_embeddings = self._partial()
            done = sum(map(len, self._vectors))
            error.add_to_message(
                f"Failed to embed texts {failed}; the other {done} of "
                f"{len(self._texts)} are in `error.partial_embeddings`."
            )
        raise error

    def _partial(self) -> list[list[float] | None]:
        partial: list[list[float] | None] = [None] * len(self._texts)
        for batch, vectors in self._vectors.items():
            partial[batch.start : batch.stop] = map(list, vectors)
        return partial


def _numbers(batch: range) -> str:
    return f"{batch.start}" if len(batch) == 1 else f"{batch.start} to {batch.stop - 1}"
