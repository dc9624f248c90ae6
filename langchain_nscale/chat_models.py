"""`ChatNscale`: LangChain's chat model for Nscale's Chat Completions API."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import closing, suppress
from contextvars import ContextVar
from functools import partial
from inspect import isawaitable, signature
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManagerForLLMRun,
    BaseRunManager,
    CallbackManagerForLLMRun,
    LLMManagerMixin,
)
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_model_stream import ChatModelStream
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    convert_to_messages,
)
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.utils.pydantic import is_basemodel_subclass
from langchain_core.utils.utils import LC_ID_PREFIX
from langchain_protocol.protocol import MessagesData
from pydantic import BaseModel, ConfigDict

from langchain_nscale._event_streams import EventStream, as_event_stream, until_ended
from langchain_nscale._http.inner import Inner
from langchain_nscale._replies.chunks import ChunkWriter
from langchain_nscale._replies.events import ChunkAndEventWriter, EventWriter
from langchain_nscale._replies.reader import chat_result
from langchain_nscale._replies.think_tags import ThinkTags
from langchain_nscale._replies.writer import Writer
from langchain_nscale._requests import tokens
from langchain_nscale._requests.body import ReasoningHistory, api_messages, fitted
from langchain_nscale._requests.exchange import Exchange, SchemaWithTools
from langchain_nscale._requests.schemas import response_format as to_response_format
from langchain_nscale._requests.schemas import schema_of_response_format, with_title
from langchain_nscale._requests.tool_formats import format_tools
from langchain_nscale._requests.tools import (
    ParsedChoice,
    check_choice_without_tools,
    convert_tool_choice,
    tool_names,
)
from langchain_nscale._response import Sent
from langchain_nscale._settings.chat import ChatSettings
from langchain_nscale._settings.fields import PATH
from langchain_nscale._structured import (
    Method,
    add_instructions,
    check_arguments,
    parsed,
    parser_for,
    pipeline,
)
from langchain_nscale.templates import TemplateRules

if TYPE_CHECKING:
    from langchain_core.caches import BaseCache
    from langchain_core.callbacks.base import Callbacks
    from langchain_core.rate_limiters import BaseRateLimiter
    from langchain_core.runnables import RunnableConfig
    from langchain_core.runnables.schema import StreamEvent
    from langchain_core.tools import BaseTool

    from langchain_nscale._http.token import Token
    from langchain_nscale._settings.connection import AsyncClient, Client, Timeout

    Tools = Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool]

else:
    # The annotations of public methods exist at run time: langchain-core resolves them
    # to see which methods return a runnable (`RunnableWithFallbacks.__getattr__`).
    Tools = Sequence[Any]

_Outcome = ChatResult | BaseException | None  # of a run; `None` while it is under way

# The runs of the current `agenerate` call, and the outcome of each.
_started_runs: ContextVar[dict[AsyncCallbackManagerForLLMRun, _Outcome]] = ContextVar(
    "nscale_started_runs"
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class ChatNscale(ChatSettings):
    """Chat models on Nscale's serverless inference API.

    Examples:
        >>> from langchain_nscale import ChatNscale
        >>> model = ChatNscale(model="meta-llama/Llama-3.1-8B-Instruct")
        >>> model.invoke("Hello")  # doctest: +SKIP

    Raises:
        ValueError: A setting is missing or invalid; the error names it and its variable.
        NscaleError: A call failed; `langchain_nscale.errors` has a class for each cause.
    """

    model_config = ConfigDict(defer_build=False)

    # --- constructor for editors: `python -m scripts.constructors`

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            *,
            model: str,
            temperature: float | None = None,
            max_tokens: int | None = None,
            max_completion_tokens: int | None = None,
            top_p: float | None = None,
            stop: str | list[str] | None = None,
            stop_sequences: str | list[str] | None = None,
            seed: int | None = None,
            n: int | None = None,
            presence_penalty: float | None = None,
            frequency_penalty: float | None = None,
            logit_bias: dict[int, int] | None = None,
            logprobs: bool | None = None,
            top_logprobs: int | None = None,
            reasoning_effort: str | None = None,
            streaming: bool | None = False,
            stream_usage: bool | None = True,
            stream_chunk_timeout: float | None = 120.0,
            reasoning_history: ReasoningHistory | None = "never",
            template_rules: TemplateRules | Literal["as_is"] | None = None,
            think_tags: ThinkTags | None = None,
            tokenizer: Any = None,
            schema_with_tools: SchemaWithTools | None = "separate",
            include_response_headers: bool | None = False,
            model_kwargs: dict[str, Any] | None = None,
            extra_body: Mapping[str, Any] | None = None,
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
            cache: BaseCache | bool | None = None,
            callbacks: Callbacks | None = None,
            custom_get_token_ids: Callable[[str], list[int]] | None = None,
            disable_streaming: bool | Literal["tool_calling"] | None = False,
            metadata: dict[str, Any] | None = None,
            name: str | None = None,
            output_version: str | None = None,
            profile: ModelProfile | None = None,
            rate_limiter: BaseRateLimiter | None = None,
            tags: list[str] | None = None,
            verbose: bool | None = None,
        ) -> None:
            """Create the model.

            Args:
                model: ID of the model, as listed by `GET /v1/models`
                    (case-sensitive). Required.
                model_name: The same as `model`.
                temperature: Sampling temperature, from 0 to 2.
                max_tokens: Maximum number of tokens to generate;
                    `max_completion_tokens` is accepted too.
                max_completion_tokens: The same as `max_tokens`.
                top_p: Nucleus sampling: sample only from the most likely tokens with
                    this total probability.
                stop: Stop sequences: texts at which the answer ends.
                stop_sequences: The same as `stop`.
                seed: Seed for best-effort reproducible sampling.
                n: Number of answers; with several, `stream` yields the first in one
                    piece.
                presence_penalty: Penalizes tokens that have already appeared, from -2
                    to 2.
                frequency_penalty: Penalizes tokens in proportion to their frequency
                    so far, from -2 to 2.
                logit_bias: Values to add to the logits of token IDs, from -100 to
                    100.
                logprobs: Whether to return log probabilities.
                top_logprobs: Number of alternatives with log probabilities for each
                    token.
                reasoning_effort: Reasoning effort: `'low'`, `'medium'`, `'high'`, and
                    `'none'` for some models.
                streaming: Whether `invoke` requests a stream too.
                stream_usage: Whether to request usage at the end of streams.
                stream_chunk_timeout: Seconds without a new event after which a stream
                    has stalled; keep-alives do not count as events. `None` or 0
                    leaves `timeout` as the only limit.
                reasoning_history: Which earlier assistant turns are sent with their
                    reasoning: none, those with tool calls, or all.
                template_rules: Capabilities of the model's chat template, as
                    `TemplateRules`; messages are rewritten so that nothing is missing
                    from the prompt. Defaults to what is known about the model;
                    `"as_is"` sends messages unchanged.
                think_tags: Whether the model writes its reasoning into the text:
                    `"both"` if between `<think>` and `</think>`, `"closing"` if the
                    opening tag is missing, `"off"` if not at all. Defaults to what is
                    known about the model.
                tokenizer: For exact token counts: the path of the model's
                    `tokenizer.json`, or a tokenizer of the packages tokenizers,
                    tiktoken or transformers.
                schema_with_tools: How to request an answer by a schema from a model
                    that may also call tools, since most versions of vLLM call no tool
                    if they get both. `"separate"` asks with the tools first and, if
                    no tool is called, again with the schema instead: one more request
                    for the last turn. `"together"` sends both at once, with strict
                    tools: vLLM 0.32 or later can call them if the model's tool parser
                    has a grammar (Hermes, Llama 3, Qwen3-Coder). Either way, the
                    reply arrives in one piece.
                include_response_headers: Whether `response_metadata` includes the
                    response headers.
                model_kwargs: Extra request fields; arguments of a call take
                    precedence.
                extra_body: Extra request fields, such as vLLM's `top_k`; they take
                    precedence over everything else.
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
                cache: Whether to use LangChain's global cache, or a cache for this
                    model.
                callbacks: Callbacks for every call of this model.
                custom_get_token_ids: A function that returns the token IDs of a text.
                disable_streaming: Whether `stream` makes a single call;
                    `'tool_calling'`: only with tools.
                metadata: Metadata to add to traces.
                name: Name of the model in traces.
                output_version: `'v1'` for content as a list of LangChain's content
                    blocks.
                profile: The model's capabilities. Defaults to what is known about the
                    model.
                rate_limiter: LangChain's rate limiter for requests.
                tags: Tags to add to traces.
                verbose: Whether to print every call.
            """

        @overload
        def __init__(
            self,
            *,
            model_name: str,
            temperature: float | None = None,
            max_tokens: int | None = None,
            max_completion_tokens: int | None = None,
            top_p: float | None = None,
            stop: str | list[str] | None = None,
            stop_sequences: str | list[str] | None = None,
            seed: int | None = None,
            n: int | None = None,
            presence_penalty: float | None = None,
            frequency_penalty: float | None = None,
            logit_bias: dict[int, int] | None = None,
            logprobs: bool | None = None,
            top_logprobs: int | None = None,
            reasoning_effort: str | None = None,
            streaming: bool | None = False,
            stream_usage: bool | None = True,
            stream_chunk_timeout: float | None = 120.0,
            reasoning_history: ReasoningHistory | None = "never",
            template_rules: TemplateRules | Literal["as_is"] | None = None,
            think_tags: ThinkTags | None = None,
            tokenizer: Any = None,
            schema_with_tools: SchemaWithTools | None = "separate",
            include_response_headers: bool | None = False,
            model_kwargs: dict[str, Any] | None = None,
            extra_body: Mapping[str, Any] | None = None,
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
            cache: BaseCache | bool | None = None,
            callbacks: Callbacks | None = None,
            custom_get_token_ids: Callable[[str], list[int]] | None = None,
            disable_streaming: bool | Literal["tool_calling"] | None = False,
            metadata: dict[str, Any] | None = None,
            name: str | None = None,
            output_version: str | None = None,
            profile: ModelProfile | None = None,
            rate_limiter: BaseRateLimiter | None = None,
            tags: list[str] | None = None,
            verbose: bool | None = None,
        ) -> None: ...

        def __init__(self, **_: Any) -> None: ...

    # --- end of the constructor

    # --- calls ----------------------------------------------------------------------

    async def agenerate(self, *args: Any, **kwargs: Any) -> LLMResult:
        """Answer several prompts, as `ainvoke` and `abatch` do.

        If the task is cancelled, callbacks receive `on_llm_error`, or `on_llm_end` for a
        reply that has arrived. langchain-core 1.8 reports neither then, so traces would
        have no end and usage reports would omit the call.
        """
        started: dict[AsyncCallbackManagerForLLMRun, _Outcome] = {}
        _started_runs.set(started)
        try:
            return await super().agenerate(*args, **kwargs)
        except asyncio.CancelledError as error:
            ends = asyncio.gather(
                *(_ended(run, outcome or error) for run, outcome in started.items())
            )
            await asyncio.shield(ends)  # anyio cancels again at every `await`
            raise
        finally:
            started.clear()  # the variable keeps the dict as long as the context lives

    def _agenerate_with_cache(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, ChatResult]:
        """Note the run. Not a coroutine: one that is cancelled early never runs."""
        if run_manager is not None:
            _started_runs.get()[run_manager] = None
        return super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  # interface
        **kwargs: Any,
    ) -> ChatResult:
        exchange, transport = self._exchange(messages, stop, kwargs)
        read = partial(self._result, exchange, kwargs)
        return transport.call(PATH, exchange.body, read)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        exchange, transport = self._exchange(messages, stop, kwargs)
        read = partial(self._result, exchange, kwargs)
        outcome: _Outcome = None
        try:
            outcome = result = await transport.acall(PATH, exchange.body, read)
        except BaseException as error:
            outcome = error
            raise
        finally:
            # If the task is canceled right now, `agenerate` gets an error without it.
            if run_manager in (started := _started_runs.get({})):
                started[run_manager] = outcome
        return result

    def _result(
        self, exchange: Exchange, call: Mapping[str, Any], sent: Sent
    ) -> ChatResult:
        """Read a reply that was not streamed."""
        return chat_result(sent.response, self._reply_options(sent, exchange, call))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        writer = partial(ChunkWriter, v1=self.output_version == "v1")
        with closing(self._receive(writer, messages, stop, kwargs)) as chunks:
            if run_manager is None:
                yield from chunks  # langchain-core reports tokens itself
                return
            for chunk in chunks:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        writer = partial(ChunkWriter, v1=self.output_version == "v1")
        receiving = self._areceive(writer, messages, stop, kwargs)
        if _started_runs.get(None):  # in `agenerate`, whose task reads all of it
            receiving.until_task_ends()
        async with receiving as chunks:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    @overload  # type: ignore[override]  # langchain-core overrides Runnable's likewise
    def stream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: Literal["v1", "v2"] = "v2",
        **kwargs: Any,
    ) -> Iterator[StreamEvent]: ...

    @overload
    def stream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: Literal["v3"],
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> EventStream: ...

    def stream_events(self, *args: Any, **kwargs: Any) -> Any:
        """Stream events; with `version="v3"`, leaving the stream ends it."""
        stream = super().stream_events(*args, **kwargs)
        return EventStream(stream) if isinstance(stream, ChatModelStream) else stream

    if not TYPE_CHECKING:  # type checkers see the overloads of langchain-core

        def astream_events(self, *args: Any, **kwargs: Any) -> Any:
            """Async version of `stream_events`."""
            stream = super().astream_events(*args, **kwargs)
            return as_event_stream(stream) if isawaitable(stream) else stream

    def _stream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[MessagesData]:
        """Yield langchain-protocol events; `stream_events(version="v3")` uses this."""
        message_id = _message_id(run_manager)
        if run_manager is None or not _wants_chunks(run_manager):
            plain = partial(EventWriter, message_id)
            with closing(self._receive(plain, messages, stop, kwargs)) as events:
                yield from until_ended(message_id, cast("Iterator[MessagesData]", events))
            return
        writer = partial(ChunkAndEventWriter, message_id)
        with closing(self._receive(writer, messages, stop, kwargs)) as items:
            yield from until_ended(message_id, _reported(items, run_manager))

    async def _astream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[MessagesData]:
        """Async version of `_stream_chat_model_events`."""
        message_id = _message_id(run_manager)
        if run_manager is None or not _wants_chunks(run_manager):
            plain = partial(EventWriter, message_id)
            receiving = self._areceive(plain, messages, stop, kwargs)
            async with receiving.until_task_ends() as events:
                async for event in events:
                    yield cast("MessagesData", event)
            return
        writer = partial(ChunkAndEventWriter, message_id)
        both = self._areceive(writer, messages, stop, kwargs)
        async with both.until_task_ends() as items:
            async for chunks, both_events in items:
                for chunk in chunks:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                for event in both_events:
                    yield cast("MessagesData", event)

    def _streaming_disabled(self, **kwargs: Any) -> bool:
        """Return whether langchain-core must not turn `invoke` into a stream."""
        # A stream has one answer, so several are requested whole.
        n = kwargs.get("n", self.n) or 1
        return n > 1 or super()._streaming_disabled(**kwargs)

    def _areceive(
        self,
        new_writer: Callable[[], Writer[T]],
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
    ) -> Inner[T]:
        """Async version of `_receive`, as a context manager."""
        exchange, transport = self._exchange(messages, stop, kwargs, stream=True)
        new_reader = partial(self._reader, new_writer, exchange, kwargs)
        return Inner(transport.astream(PATH, exchange.body, new_reader))

    def request_body(
        self,
        input: LanguageModelInput,  # noqa: A002  # LangChain's name
        *,
        stop: list[str] | None = None,
        stream: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the body of the request that a call would send; nothing is sent.

        Its messages have the form that the model's chat template carries.

        Args:
            input: The input of the call.
            stop: Stop sequences of the call.
            stream: Whether the reply would be streamed.
            kwargs: Further arguments of the call. A bound model has its own in `kwargs`:
                `model.request_body(input, **bound.kwargs)`.

        Raises:
            ValueError: The call would not be sent, because something in it is invalid.
        """
        messages = convert_to_messages([input] if isinstance(input, str) else input)
        return self._body(messages, stop, kwargs, stream=stream)

    def _parse(self, schema: Any) -> Callable[[AIMessage], dict[str, Any]] | None:
        return partial(parsed, schema) if _is_parsed(schema) else None

    # --- tools and structured output --------------------------------------------------

    def bind_tools(
        self,
        tools: Tools,
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: dict[str, Any] | type | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a runnable that offers tools to the model.

        Args:
            tools: Functions, Pydantic classes, TypedDicts, tools, or their schemas.
            tool_choice: The name of a tool, `"auto"`, `"none"`, `"any"` or `"required"`,
                `True` for any, or a dict that names a tool. `None` and `False` leave the
                choice to the model. Nscale only documents auto and none; a reply without
                the demanded call is a `NscaleMissingToolCallError`.
            strict: Whether the arguments must match the schema exactly.
            parallel_tool_calls: Whether the model may make several calls at once; sent
                only if set.
            response_format: A schema for the answer if no tool is called. If it is a
                Pydantic class, `additional_kwargs["parsed"]` has an instance of it.
            kwargs: Further fields of the request.

        Raises:
            ValueError: The API would reject a tool's name, or the choice names no tool.
        """
        formatted = format_tools(tools, strict=strict)
        if not formatted:
            check_choice_without_tools(tool_choice or None)
        choice = convert_tool_choice(tool_choice, tool_names(formatted))
        if formatted:
            kwargs["tools"] = formatted
            if choice is not None:
                kwargs["tool_choice"] = choice
            if parallel_tool_calls is not None:
                kwargs["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            is_parsed = strict is None and _is_parsed(response_format)
            kwargs["response_format"] = (
                response_format
                if is_parsed
                else to_response_format(response_format, strict=strict)
            )
        return cast("Runnable[LanguageModelInput, AIMessage]", self.bind(**kwargs))

    @overload
    def with_structured_output(
        self,
        schema: type[M],
        *,
        method: Method | None = None,
        include_raw: Literal[False] = False,
        strict: bool | None = None,
        tools: list[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, M]: ...

    @overload
    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: list[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]: ...

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: list[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable whose output conforms to `schema`.

        Args:
            schema: A Pydantic class or a dataclass (the output is an instance of it), or
                a TypedDict or JSON Schema (the output is a dict).
            method: `"json_schema"` constrains the answer to the schema; `"json_mode"`
                to any JSON object, which the prompt must describe; `"function_calling"`
                has the model call a tool; `"prompt"` only describes the schema in the
                prompt. Defaults to `"json_schema"`, since Nscale documents no way to
                force a tool call, and to `"prompt"` if the model's profile says that it
                has no structured output.
            include_raw: Whether to return `{"raw", "parsed", "parsing_error"}`, where a
                reply that can't be parsed is reported instead of raised.
            strict: Sent with the schema if set.
            tools: Tools that the model may call instead of answering.
            kwargs: Further fields of the request.

        Raises:
            ValueError: The arguments are incompatible with each other.
        """
        schema = with_title(schema)
        if method not in (None, "json_schema"):
            schema = schema_of_response_format(schema)
        method = method or self._default_method(schema, kwargs.get("model"))
        check_arguments(schema, method, strict=strict)
        trace = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        kwargs = {"ls_structured_output_format": trace, **kwargs}
        target: Any = schema
        model: Runnable[LanguageModelInput, AIMessage]
        if method == "function_calling":
            # Newer versions of vLLM only follow the schema of a strict tool.
            (tool,) = format_tools([target], strict=strict)
            tool["function"] = {"strict": True, **tool["function"]}
            kwargs.setdefault("tool_choice", tool["function"]["name"])
            bound: Any = self.bind_tools([tool, *(tools or [])], strict=strict, **kwargs)
            choice = bound.kwargs["tool_choice"]
            is_demand = isinstance(choice, dict)
            model = bound.bind(tool_choice=ParsedChoice(choice)) if is_demand else bound
        elif method == "prompt":
            ask = RunnableLambda(partial(add_instructions, schema), name="instruct")
            model = ask | self.bind_tools(tools or [], **kwargs)
        else:
            form: Any = {"type": "json_object"}
            if method == "json_schema":
                form = to_response_format(target, strict=strict)
            model = self.bind_tools(tools or [], strict=strict, **kwargs).bind(
                response_format=form
            )
        parser = parser_for(schema, method, has_tools=bool(tools))
        return pipeline(model, parser, include_raw=include_raw)

    def _default_method(self, schema: object, model: str | None = None) -> Method:
        profile = self._profile_of(model or self.model_name)
        unsupported = profile.get("structured_output") is False
        return "prompt" if unsupported and schema is not None else "json_schema"

    # --- token counts -----------------------------------------------------------------

    def _token_ids(self) -> Callable[[str], list[int]] | None:
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids
        return None if self.tokenizer is None else tokens.encoder(self.tokenizer)

    def get_token_ids(self, text: str) -> list[int]:
        """Return token IDs from `custom_get_token_ids` or `tokenizer`.

        Raises:
            NotImplementedError: Neither is set; the package includes no tokenizer.
        """
        if token_ids := self._token_ids():
            return token_ids(text)
        msg = (
            "ChatNscale includes no tokenizer: set `tokenizer` or "
            "`custom_get_token_ids`, or use `get_num_tokens`, which estimates."
        )
        raise NotImplementedError(msg)

    def get_num_tokens(self, text: str) -> int:
        """Count the tokens of a text: exact with a tokenizer, else estimated.

        The estimate is 4 characters per token for Latin letters, 2 for Greek, Cyrillic,
        Hebrew and Arabic, 1 for other scripts, and 2 tokens for an emoji.
        """
        if token_ids := self._token_ids():
            return len(token_ids(text))
        return tokens.estimate(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Tools | None = None, **_: Any
    ) -> int:
        """Count the tokens of messages and tools.

        With a tokenizer, texts are counted exactly, plus 4 tokens per message and 85 per
        image. Without one, the result is that of langchain-core's
        `count_tokens_approximately`, and more for other scripts than Latin. The messages
        are counted as they are sent, in the form that the chat template carries.
        """
        token_ids = self._token_ids()
        if token_ids is None:
            messages = self._messages_as_sent(messages, tools)
            return tokens.estimate_messages(messages, cast("list[Any]", tools))
        formatted = format_tools(tools or ())
        settings = self._body_settings()
        body = {"model": self.model_name, "tools": formatted}
        plain = api_messages(settings, messages, self.model_name) if messages else []
        return tokens.count_messages(
            fitted(settings, plain, body) if plain else [],
            formatted,
            lambda text: len(token_ids(text)),
        )

    def _messages_as_sent(
        self, messages: Sequence[BaseMessage], tools: Tools | None
    ) -> Sequence[BaseMessage]:
        """Return the messages of a request, rewritten if they don't fit the template."""
        settings = self._body_settings()
        with suppress(ValueError):  # no messages, or something that can't be sent
            plain = api_messages(settings, messages, self.model_name)
            sent = fitted(settings, plain, {"model": self.model_name, "tools": tools})
            if sent is not plain:
                return convert_to_messages(sent)
        return messages


async def _ended(
    run: AsyncCallbackManagerForLLMRun, outcome: ChatResult | BaseException
) -> None:
    """Report the end of a run that was canceled, perhaps after its reply had arrived."""
    if isinstance(outcome, BaseException):
        await run.on_llm_error(outcome, response=LLMResult(generations=[]))
    else:
        reply = LLMResult(
            generations=[[*outcome.generations]], llm_output=outcome.llm_output
        )
        await run.on_llm_end(reply)


for _method in (ChatNscale._generate, ChatNscale._agenerate):  # noqa: SLF001  # our own
    # langchain-core inspects it in each call, which takes 20 µs without this attribute.
    _method.__signature__ = signature(_method)  # type: ignore[union-attr]  # optional


def _is_parsed(schema: object) -> bool:
    """Return whether a `response_format` is a Pydantic class, for `parsed`."""
    return isinstance(schema, type) and is_basemodel_subclass(schema)


# Default implementations: a handler that still has these ignores tokens or events.
_DEFAULT_TOKEN_HOOKS = (
    LLMManagerMixin.on_llm_new_token,
    AsyncCallbackHandler.on_llm_new_token,
)
_DEFAULT_EVENT_HOOKS = (
    LLMManagerMixin.on_stream_event,
    AsyncCallbackHandler.on_stream_event,
)


def _reported(
    items: Iterable[tuple[Sequence[ChatGenerationChunk], Iterable[Any]]],
    run_manager: CallbackManagerForLLMRun,
) -> Iterator[MessagesData]:
    """Report the chunks of each item to handlers of tokens; yield its events."""
    for chunks, events in items:
        for chunk in chunks:
            run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        yield from events


def _message_id(run_manager: BaseRunManager | None) -> str:
    """Return the ID that langchain-core gives to the message of a run."""
    return f"{LC_ID_PREFIX}-{run_manager.run_id}" if run_manager else ""


def _wants_chunks(run_manager: BaseRunManager) -> bool:
    """Return whether a handler listens to tokens but not to events."""
    return any(
        type(handler).on_llm_new_token not in _DEFAULT_TOKEN_HOOKS
        and type(handler).on_stream_event in _DEFAULT_EVENT_HOOKS
        for handler in run_manager.handlers
    )
