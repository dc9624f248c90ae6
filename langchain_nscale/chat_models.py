"""`ChatNscale`: LangChain's chat model for Nscale's Chat Completions API."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManagerForLLMRun,
    BaseRunManager,
    CallbackManagerForLLMRun,
    LLMManagerMixin,
)
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from langchain_nscale._connection import Connection, refuse_unknown, setting_names
from langchain_nscale._profiles import find_profile, system_first, thinks_in_text
from langchain_nscale._requests import (
    ReasoningHistory,
    convert_messages,
    convert_tool_choice,
    encode,
    merge_stop,
    merge_system_messages,
    named,
    response_format,
    tool_names,
)
from langchain_nscale._responses import (
    ReplyOptions,
    StreamReader,
    chat_result,
    is_event_stream,
    write_whole,
)
from langchain_nscale._structured import (
    METHODS,
    Method,
    instruct,
    parser_for,
    pipeline,
)
from langchain_nscale._thinking import ThinkTags
from langchain_nscale._tokens import CHARACTERS_PER_TOKEN, count_messages, encoder
from langchain_nscale._transport import (
    aread_stream,
    read_stream,
)
from langchain_nscale._version import __version__
from langchain_nscale._writers import ChunkWriter, EventWriter, Writer

if TYPE_CHECKING:
    from langchain_protocol.protocol import MessagesData

T = TypeVar("T")
_PATH = "/chat/completions"

# Fields that go into the body under their own names when they are set.
_PARAMETERS = (
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "n",
    "presence_penalty",
    "reasoning_effort",
    "seed",
    "temperature",
    "top_logprobs",
    "top_p",
)
# What `BaseChatOpenAI` has for OpenAI's own service, with the value that is harmless.
_OPENAI_ONLY: dict[str, Any] = {
    "context_management": None,
    "http_socket_options": None,
    "include": None,
    "openai_api_base": None,
    "openai_api_key": None,
    "openai_organization": None,
    "organization": None,
    "openai_proxy": None,
    "prompt_cache_options": None,
    "reasoning": None,
    "service_tier": None,
    "store": None,
    "tiktoken_model_name": None,
    "truncation": None,
    "use_previous_response_id": False,
    "use_responses_api": False,
    "verbosity": None,
}
_INSTEAD = {
    "openai_api_base": "use `base_url`",
    "openai_api_key": "use `service_token`",
    "openai_proxy": "set HTTPS_PROXY, or give `http_client` and `http_async_client`",
    "reasoning": "use `reasoning_effort`",
    "tiktoken_model_name": "use `tokenizer`",
}


class ChatNscale(Connection, BaseChatOpenAI):
    """Chat models on Nscale's serverless inference API.

    Examples:
        >>> from langchain_nscale import ChatNscale
        >>> model = ChatNscale(model="meta-llama/Llama-3.1-8B-Instruct")
        >>> model.invoke("Hello")  # doctest: +SKIP

    Raises:
        ValueError: A setting is missing or wrong; the text names it and its variable.
        NscaleError: A call failed; `langchain_nscale.errors` has a class per cause.
    """

    model_name: str = Field(default="", alias="model")
    """Id of the model, as `GET /v1/models` gives it (case-sensitive). Required."""

    stream_usage: bool = True
    """Whether to ask for usage at the end of streams."""

    stream_chunk_timeout: float | None = Field(default=120.0, exclude=True)
    """Seconds without a new event after which a stream counts as stalled; keep-alives
    don't count as events. `None` or 0: no limit but `timeout`."""

    reasoning_history: ReasoningHistory = "never"
    """Which earlier assistant turns are sent with their reasoning: none, those with tool
    calls, or all."""

    merge_system_messages: bool | None = None
    """Whether several system messages, or later ones, are sent as one, before all others.
    By default for models whose templates refuse anything else (Qwen3, Mistral)."""

    think_tags: ThinkTags | None = None
    """Whether the model writes its reasoning into the text: `"both"` if between `<think>`
    and `</think>`, `"closing"` if the opening tag is missing, `"off"` if not at all. By
    default as is known of the model."""

    tokenizer: Any = Field(default=None, exclude=True, repr=False)
    """For exact token counts: the path of the model's `tokenizer.json`, or a tokenizer
    of the packages tokenizers or transformers."""

    # Declared anew for their defaults and aliases, which are OpenAI's in the base.
    openai_api_key: None = Field(default=None, exclude=True, repr=False)
    openai_api_base: str | None = Field(default=None, exclude=True, repr=False)
    openai_proxy: None = Field(default=None, exclude=True, repr=False)
    use_responses_api: bool | None = Field(default=False, exclude=True, repr=False)

    model_config = ConfigDict(populate_by_name=True, hide_input_in_errors=True)

    # --- settings -------------------------------------------------------------------

    @model_validator(mode="before")
    @classmethod
    def build_extra(cls, values: Any) -> Any:
        """Refuse what isn't a setting; the base would send it to the API."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if "max_completion_tokens" in values:
            values.setdefault("max_tokens", values.pop("max_completion_tokens"))
        if not (values.get("model") or values.get("model_name")):
            msg = (
                "`model` is missing: give the id of a model, for example "
                'ChatNscale(model="meta-llama/Llama-3.1-8B-Instruct").'
            )
            raise ValueError(msg)
        for name, value in values.items():
            if name in _OPENAI_ONLY and value != _OPENAI_ONLY[name]:
                instead = _INSTEAD.get(name, "send it in `extra_body` if you mean it")
                msg = f"`{name}` is for OpenAI's own service; {instead}."
                raise ValueError(msg)
        known = setting_names(cls) - _OPENAI_ONLY.keys()
        refuse_unknown(cls, values.keys() - _OPENAI_ONLY.keys(), known)
        return values

    @model_validator(mode="before")
    @classmethod
    def validate_temperature(cls, values: Any) -> Any:
        """Do nothing: the base changes the temperature of models named like OpenAI's."""
        return values

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Check the settings; the base would read OpenAI's environment here."""
        if self.n is not None and self.n < 1:
            msg = f"`n` is {self.n}: it has to be at least 1."
            raise ValueError(msg)
        if self.n is not None and self.n > 1 and self.streaming:
            raise ValueError(_ONE_STREAM)
        if self.tokenizer is not None:
            encoder(self.tokenizer)
        return self

    @model_validator(mode="after")
    def _set_nscale_version(self) -> Self:
        self._add_version("langchain-nscale", __version__)
        return self

    def _resolve_model_profile(self) -> ModelProfile | None:
        return find_profile(self.model_name)

    # --- identity -------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "nscale-chat"

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Settings that are never serialised, with the variables to read them from."""
        return {"service_token": "NSCALE_SERVICE_TOKEN"}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """`dumpd` works; `load` needs `valid_namespaces=["langchain_nscale"]`."""
        return True

    def __getstate__(self) -> dict[Any, Any]:
        """State for pickling, without the token: see `Connection`."""
        state = super().__getstate__()
        state["__dict__"].pop("_serialized", None)
        return state

    def __copy__(self) -> Self:
        """Copy without the cached description, which `model_copy(update=)` outdates."""
        copied = super().__copy__()
        copied.__dict__.pop("_serialized", None)
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; caches and traces then see the new value."""
        self.__dict__.pop("_serialized", None)
        super().__setattr__(name, value)

    @property
    def _default_params(self) -> dict[str, Any]:
        """What the settings put into every request's body."""
        params: dict[str, Any] = {"model": self.model_name}
        for name in _PARAMETERS:
            value = getattr(self, name)
            if value is not None:
                params[name] = value
        if self.stop:
            params["stop"] = merge_stop(self.stop)
        if self.extra_body:
            params["extra_body"] = self.extra_body
        return {**params, **self.model_kwargs}

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        params = {**self._default_params, **kwargs, "_type": self._llm_type}
        params["stop"] = merge_stop(self.stop, stop)
        return {"model_name": params["model"], **params}

    def _get_ls_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="nscale",
            ls_model_name=kwargs.get("model", self.model_name),
            ls_model_type="chat",
        )
        temperature = kwargs.get("temperature", self.temperature)
        if temperature is not None:
            params["ls_temperature"] = temperature
        limit = (
            kwargs.get("max_tokens")
            or kwargs.get("max_completion_tokens")
            or self.max_tokens
        )
        if limit:
            params["ls_max_tokens"] = limit
        if stops := merge_stop(self.stop, stop):
            params["ls_stop"] = stops
        return params

    # --- calls ----------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  # interface
        **kwargs: Any,
    ) -> ChatResult:
        body = self._body(messages, stop, kwargs)
        response, retries = self._send(_PATH, body, stream=False)
        return chat_result(response, self._reply_options(retries, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002  # interface
        **kwargs: Any,
    ) -> ChatResult:
        body = self._body(messages, stop, kwargs)
        response, retries = await self._asend(_PATH, body, stream=False)
        return chat_result(response, self._reply_options(retries, kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        writer = ChunkWriter(v1=self.output_version == "v1")
        with closing(self._receive(writer, messages, stop, kwargs)) as chunks:
            if run_manager is None:  # langchain-core reports tokens itself
                yield from chunks
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
        writer = ChunkWriter(v1=self.output_version == "v1")
        async with aclosing(self._areceive(writer, messages, stop, kwargs)) as chunks:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _stream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[MessagesData]:
        """Events for `stream_events(version="v3")` and its kin, which asks for this."""
        tell = run_manager if _wants_chunks(run_manager) else None
        writer = EventWriter()
        with closing(self._receive(writer, messages, stop, kwargs)) as events:
            for event in events:
                if tell and (chunk := writer.chunk_of(event)):
                    tell.on_llm_new_token(chunk.text, chunk=chunk)
                yield cast("MessagesData", event)

    async def _astream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[MessagesData]:
        """The async twin of `_stream_chat_model_events`."""
        tell = run_manager if _wants_chunks(run_manager) else None
        writer = EventWriter()
        async with aclosing(self._areceive(writer, messages, stop, kwargs)) as events:
            async for event in events:
                if tell and (chunk := writer.chunk_of(event)):
                    await tell.on_llm_new_token(chunk.text, chunk=chunk)
                yield cast("MessagesData", event)

    def _receive(
        self,
        writer: Writer[T],
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: dict[str, Any],
    ) -> Generator[T, None, None]:
        """Ask for a stream; yield what the writer makes of it."""
        fields = self._stream_fields(kwargs)
        body = self._body(messages, stop, kwargs, fields)
        response, retries = self._send(_PATH, body, stream=True)
        options = self._reply_options(retries, kwargs)
        if is_event_stream(response):
            limit = self.stream_chunk_timeout
            reader = StreamReader(response, writer, limit, options)
            yield from read_stream(response, reader)
        else:
            yield from write_whole(response, writer, options)

    async def _areceive(
        self,
        writer: Writer[T],
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: dict[str, Any],
    ) -> AsyncGenerator[T, None]:
        """The async twin of `_receive`."""
        fields = self._stream_fields(kwargs)
        body = self._body(messages, stop, kwargs, fields)
        response, retries = await self._asend(_PATH, body, stream=True)
        options = self._reply_options(retries, kwargs)
        if is_event_stream(response):
            limit = self.stream_chunk_timeout
            reader = StreamReader(response, writer, limit, options)
            async with aclosing(aread_stream(response, reader)) as written:
                async for item in written:
                    yield item
        else:
            for item in write_whole(response, writer, options):
                yield item

    def _reply_options(self, retries: int, kwargs: Mapping[str, Any]) -> ReplyOptions:
        model = kwargs.get("model") or self.model_name
        by_model: ThinkTags = "closing" if thinks_in_text(model) else "off"
        return ReplyOptions(
            retries=retries,
            with_headers=self.include_response_headers,
            think_tags=self.think_tags or by_model,
        )

    def _stream_fields(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The fields that make a request a streamed one."""
        options = {
            **self.model_kwargs.get("stream_options", {}),
            **(kwargs.pop("stream_options", None) or {}),
        }
        wanted = kwargs.pop("stream_usage", None)
        wanted = self.stream_usage if wanted is None else wanted
        if wanted:
            options.setdefault("include_usage", True)
        return {"stream": True, **({"stream_options": options} if options else {})}

    def _body(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        stream_fields: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The request's body, as JSON."""
        fields = {**self._default_params, **kwargs}
        # `None` in a call means that the field isn't sent, whatever the model's setting.
        fields = {name: value for name, value in fields.items() if value is not None}
        fields.pop("stream", None)
        extra = {**(self.extra_body or {}), **(kwargs.get("extra_body") or {})}
        fields.pop("extra_body", None)
        if stops := merge_stop(self.stop, kwargs.get("stop"), stop):
            fields["stop"] = stops
        if fields.get("max_completion_tokens") is not None:
            fields.pop("max_tokens", None)
        if schema := fields.get("response_format"):
            fields["response_format"] = response_format(schema)
        converted = convert_messages(messages, reasoning_history=self.reasoning_history)
        merge = self.merge_system_messages
        if system_first(fields["model"]) if merge is None else merge:
            converted = merge_system_messages(converted)
        body = {
            "messages": converted,
            **fields,
            **extra,
            **(stream_fields or {}),
        }
        if stream_fields and (body.get("n") or 1) > 1:
            raise ValueError(_ONE_STREAM)
        return encode(body)

    # --- tools and structured output --------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: dict[str, Any] | type | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: Functions, Pydantic classes, TypedDicts, tools, or their schemas.
            tool_choice: A tool's name, `"auto"`, `"none"`, `"any"` or `"required"`,
                `True` for any, or a dict that names a tool. `None` and `False` leave the
                choice to the model. Nscale documents only auto and none; which models
                can be forced is up to the service.
            strict: Whether the arguments must match the schema exactly.
            parallel_tool_calls: Sent only if given.
            response_format: A schema for the answer when no tool is called.
            kwargs: Further fields of the request.

        Raises:
            ValueError: The API would refuse a tool's name, or the choice names no tool.
        """
        formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        choice = convert_tool_choice(tool_choice, tool_names(formatted))
        if choice is not None:
            kwargs["tool_choice"] = choice
        if parallel_tool_calls is not None:
            kwargs["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            kwargs["response_format"] = _response_format(response_format, strict=strict)
        if formatted:
            kwargs["tools"] = formatted
        return cast("Runnable[LanguageModelInput, AIMessage]", self.bind(**kwargs))

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
        """Have the model answer in a schema.

        Args:
            schema: A Pydantic class or a dataclass (the output is an instance of it), or
                a TypedDict or JSON Schema (the output is a dict).
            method: `"json_schema"` constrains the answer to the schema, `"json_mode"`
                to any JSON (say in the prompt which), `"function_calling"` has the
                model call a tool, `"prompt"` only asks for the schema in words. By
                default `"json_schema"`, as Nscale documents no way to force a tool
                call; `"prompt"` where the profile says that the model has no
                structured output.
            include_raw: Whether the output is `{"raw", "parsed", "parsing_error"}`
                instead; a reply that can't be read is then no exception.
            strict: Sent with the schema if given.
            tools: Tools that the model may call instead of answering.
            kwargs: Further fields of the request.

        Raises:
            ValueError: The arguments don't fit together.
        """
        schema = named(schema)
        chosen: Method = method or self._default_method(schema)
        if chosen not in METHODS:
            msg = f"method={method!r} is unknown: use one of {', '.join(METHODS)}."
            raise ValueError(msg)
        if schema is None and chosen != "json_mode":
            msg = f"`schema` is missing: method={chosen!r} needs one."
            raise ValueError(msg)
        if strict is not None and chosen in ("json_mode", "prompt"):
            msg = f"`strict` can't be used with method={chosen!r}: nothing enforces it."
            raise ValueError(msg)
        trace = {"kwargs": {"method": chosen, "strict": strict}, "schema": schema}
        kwargs = {"ls_structured_output_format": trace, **kwargs}
        if chosen == "function_calling":
            wanted = cast("type", schema)
            name = convert_to_openai_tool(wanted)["function"]["name"]
            kwargs.setdefault("tool_choice", name)
            model = self.bind_tools([wanted, *(tools or [])], strict=strict, **kwargs)
        elif chosen == "prompt":
            ask = RunnableLambda(partial(instruct, schema), name="instruct")
            model = ask | self.bind_tools(tools or [], **kwargs)
        else:
            form: Any = (
                {"type": "json_object"}
                if chosen == "json_mode"
                else _response_format(cast("type", schema), strict=strict)
            )
            model = self.bind_tools(tools or [], strict=strict, **kwargs).bind(
                response_format=form
            )
        return pipeline(model, parser_for(schema, chosen), include_raw=include_raw)

    def _default_method(self, schema: object) -> Method:
        unable = (self.profile or {}).get("structured_output") is False
        return "prompt" if unable and schema is not None else "json_schema"

    # --- token counts -----------------------------------------------------------------

    def _token_ids(self) -> Callable[[str], list[int]] | None:
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids
        return None if self.tokenizer is None else encoder(self.tokenizer)

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids by `custom_get_token_ids` or `tokenizer`.

        Raises:
            NotImplementedError: There is neither: no tokenizer is shipped.
        """
        if ids := self._token_ids():
            return ids(text)
        msg = (
            "ChatNscale has no tokenizer of its own: give `tokenizer` or "
            "`custom_get_token_ids`, or use `get_num_tokens`, which estimates."
        )
        raise NotImplementedError(msg)

    def get_num_tokens(self, text: str) -> int:
        """Tokens in a text: exact with a tokenizer, else 4 characters each."""
        if ids := self._token_ids():
            return len(ids(text))
        return -(-len(text) // CHARACTERS_PER_TOKEN)

    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool]
        | None = None,
        **_: Any,
    ) -> int:
        """Tokens in messages and tools.

        With a tokenizer the texts are counted exactly, to which come 4 tokens for each
        message's marks and 85 for an image; else all is estimated by langchain-core's
        `count_tokens_approximately`.
        """
        ids = self._token_ids()
        if ids is None:
            return count_tokens_approximately(messages, tools=cast("list[Any]", tools))
        formatted = [convert_to_openai_tool(tool) for tool in tools or []]
        return count_messages(messages, formatted, lambda text: len(ids(text)))


_ONE_STREAM = (
    "`n` has to be 1 when streaming: LangChain merges a stream into one message. Use "
    "`invoke`, or `disable_streaming=True`."
)
_response_format = response_format  # the method's argument has the same name


# What a callback handler has that doesn't listen to tokens.
_DEAF = (LLMManagerMixin.on_llm_new_token, AsyncCallbackHandler.on_llm_new_token)
_NO_EVENTS = (LLMManagerMixin.on_stream_event, AsyncCallbackHandler.on_stream_event)


def _wants_chunks(run_manager: BaseRunManager | None) -> bool:
    """Whether a handler listens to tokens and not to events."""
    return run_manager is not None and any(
        type(handler).on_llm_new_token not in _DEAF
        and type(handler).on_stream_event in _NO_EVENTS
        for handler in run_manager.handlers
    )
