"""Settings of chat models and the calls made with them, without LangChain's classes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import AliasChoices, Field, model_validator
from typing_extensions import Self

from langchain_nscale._http.transport import Transport
from langchain_nscale._model_facts import facts, is_known_profile, known_profile
from langchain_nscale._replies.reader import StreamReader
from langchain_nscale._replies.reply import ReplyOptions
from langchain_nscale._replies.think_tags import ThinkTags
from langchain_nscale._replies.tool_calls import call_ids
from langchain_nscale._replies.writer import Writer
from langchain_nscale._requests.body import BodySettings, ReasoningHistory, request_body
from langchain_nscale._requests.exchange import Exchange, SchemaWithTools, expects_json
from langchain_nscale._requests.tool_formats import format_tools
from langchain_nscale._requests.tools import (
    ParsedChoice,
    api_name,
    demands_call,
    names_in,
    tool_names,
)
from langchain_nscale._response import Sent
from langchain_nscale._settings.connection import NscaleSettings
from langchain_nscale._settings.names import check_names
from langchain_nscale.templates import STRICT, TemplateRules

if TYPE_CHECKING:
    from langchain_core.language_models import ModelProfile
    from langchain_core.messages import AIMessage

T = TypeVar("T")

PATH = "/chat/completions"

# Settings sent under their own names.
PARAMETERS = (
    *("frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n"),
    *("presence_penalty", "reasoning_effort", "seed", "temperature"),
    *("top_logprobs", "top_p"),
)


class ChatFields(NscaleSettings):
    """Settings of chat models, and what they make of a call.

    The command line uses this class as it is: LangChain's chat models, of which
    `ChatSettings` is one, take half a second to import.
    """

    model_name: str = Field(default="", alias="model")
    """ID of the model, as listed by `GET /v1/models` (case-sensitive). Required."""

    temperature: float | None = None
    """Sampling temperature, from 0 to 2."""

    max_tokens: int | None = Field(
        default=None, validation_alias=AliasChoices("max_tokens", "max_completion_tokens")
    )
    """Maximum number of tokens to generate; `max_completion_tokens` is accepted too."""

    top_p: float | None = None
    """Nucleus sampling: sample only from the most likely tokens with this total
    probability."""

    stop: str | list[str] | None = Field(default=None, alias="stop_sequences")
    """Stop sequences: texts at which the answer ends."""

    seed: int | None = None
    """Seed for best-effort reproducible sampling."""

    n: int | None = None
    """Number of answers; with several, `stream` yields the first in one piece."""

    presence_penalty: float | None = None
    """Penalizes tokens that have already appeared, from -2 to 2."""

    frequency_penalty: float | None = None
    """Penalizes tokens in proportion to their frequency so far, from -2 to 2."""

    logit_bias: dict[int, int] | None = None
    """Values to add to the logits of token IDs, from -100 to 100."""

    logprobs: bool | None = None
    """Whether to return log probabilities."""

    top_logprobs: int | None = None
    """Number of alternatives with log probabilities for each token."""

    reasoning_effort: str | None = None
    """Reasoning effort: `'low'`, `'medium'`, `'high'`, and `'none'` for some models."""

    streaming: bool = False
    """Whether `invoke` requests a stream too."""

    stream_usage: bool = True
    """Whether to request usage at the end of streams."""

    stream_chunk_timeout: float | None = Field(default=120.0, exclude=True)
    """Seconds without a new event after which a stream has stalled; keep-alives do not
    count as events. `None` or 0 leaves `timeout` as the only limit."""

    reasoning_history: ReasoningHistory = "never"
    """Which earlier assistant turns are sent with their reasoning: none, those with tool
    calls, or all."""

    template_rules: TemplateRules | Literal["as_is"] | None = None
    """Capabilities of the model's chat template, as `TemplateRules`; messages are
    rewritten so that nothing is missing from the prompt. Defaults to what is known about
    the model; `"as_is"` sends messages unchanged."""

    think_tags: ThinkTags | None = None
    """Whether the model writes its reasoning into the text: `"both"` if between `<think>`
    and `</think>`, `"closing"` if the opening tag is missing, `"off"` if not at all.
    Defaults to what is known about the model."""

    tokenizer: Any = Field(default=None, exclude=True, repr=False)
    """For exact token counts: the path of the model's `tokenizer.json`, or a tokenizer
    of the packages tokenizers, tiktoken or transformers."""

    schema_with_tools: SchemaWithTools = "separate"
    """How to request an answer by a schema from a model that may also call tools, since
    most versions of vLLM call no tool if they get both. `"separate"` asks with the tools
    first and, if no tool is called, again with the schema instead: one more request for
    the last turn. `"together"` sends both at once, with strict tools: vLLM 0.32 or later
    can call them if the model's tool parser has a grammar (Hermes, Llama 3, Qwen3-Coder).
    Either way, the reply arrives in one piece."""

    include_response_headers: bool = False
    """Whether `response_metadata` includes the response headers."""

    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Extra request fields; arguments of a call take precedence."""

    extra_body: Mapping[str, Any] | None = None
    """Extra request fields, such as vLLM's `top_k`; they take precedence over
    everything else."""

    # --- checks --------------------------------------------------------------------

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        """Reject unknown settings, which pydantic would ignore."""
        if not isinstance(values, dict):
            return values
        return _without_derived_profile(check_names(cls, cls._converted(values)))

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        if not self.model_name:
            msg = (
                "`model` is missing: pass the ID of a model, for example "
                'ChatNscale(model="meta-llama/Llama-3.1-8B-Instruct").'
            )
            raise ValueError(msg)
        if self.n is not None and self.n < 1:
            msg = f"`n` is {self.n}: it must be at least 1."
            raise ValueError(msg)
        return self

    @property
    def _parameters(self) -> dict[str, Any]:
        """The request fields set on this model, `model` included."""
        parameters = {"model": self.model_name}
        for name in PARAMETERS:
            if (value := getattr(self, name)) is not None:
                parameters[name] = value
        return parameters

    # --- the model of a call --------------------------------------------------------

    def _accepts_images(self, model: str) -> bool:
        return self._profile_of(model).get("image_inputs") is not False

    @cached_property
    def _strict_models(self) -> set[str]:
        """The models whose chat templates have rejected a conversation as it was."""
        return set()

    def _rules_of(self, model: str) -> TemplateRules | None:
        """Return what the template of this model or of a single call's carries."""
        if self.template_rules is not None:
            return None if self.template_rules == "as_is" else self.template_rules
        if model in self._strict_models:
            return STRICT
        rules = TemplateRules.for_model(model)
        if not rules.tools and self._profile_of(model).get("tool_calling"):
            return replace(rules, tools=True)
        return rules

    def _profile_of(self, model: str) -> ModelProfile:
        """Return what is known about this model, or about the model of a single call."""
        return known_profile(model)

    # --- calls ---------------------------------------------------------------------

    def _receive(
        self,
        new_writer: Callable[[], Writer[T]],
        messages: Sequence[Any],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        *,
        stream: bool = True,
    ) -> Generator[T, None, None]:
        """Request a stream; yield what a writer makes of it."""
        exchange, transport = self._exchange(messages, stop, kwargs, stream=stream)
        new_reader = partial(self._reader, new_writer, exchange, kwargs)
        return transport.stream(PATH, exchange.body, new_reader)

    def _reader(
        self,
        new_writer: Callable[[], Writer[T]],
        exchange: Exchange,
        call: Mapping[str, Any],
        sent: Sent,
    ) -> StreamReader[T]:
        options = self._reply_options(sent, exchange, call)
        return StreamReader(sent.response, new_writer(), options)

    def _reply_options(
        self, sent: Sent, exchange: Exchange, call: Mapping[str, Any]
    ) -> ReplyOptions:
        """Collect what the reader needs to know about the request."""
        body = exchange.body()
        default: ThinkTags = "closing" if facts(body["model"]).thinks_in_text else "off"
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        n = body.get("n")
        names = _tool_names(call.get("tools") or self.model_kwargs.get("tools"), body)
        return ReplyOptions(
            retries=sent.retries,
            with_headers=self.include_response_headers,
            model=body["model"],
            think_tags=self.think_tags or default,
            expects_json=expects_json(body),
            max_tokens=limit if isinstance(limit, int) else None,
            n=n if isinstance(n, int) else 1,
            tools=body.get("tools"),
            tool_names={api_name(name): name for name in names},
            used_call_ids=exchange.call_ids,
            parse=self._parse(call.get("response_format")),
            hides_reasoning=body.get("include_reasoning") is False,
            earlier=exchange.earlier,
            go_on=exchange.go_on if exchange.may_go_on else None,
            on_lost=exchange.lost,
            demands_call=demands_call(body.get("tool_choice"))
            and not isinstance(call.get("tool_choice"), ParsedChoice),
        )

    def _exchange(
        self,
        messages: Sequence[Any],
        stop: list[str] | None,
        call: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> tuple[Exchange, Transport]:
        """Return the requests of a call, and what sends them."""
        body = self._body(messages, stop, call, stream=stream)
        stall = self.stream_chunk_timeout if stream else None
        transport = self._transport(call, stall=stall)
        is_own = any(
            "messages" in (source or {})
            for source in (self.extra_body, self.model_kwargs, call.get("extra_body"))
        )
        is_fixed = self.template_rules is not None or is_own
        transport.exchange = exchange = Exchange(
            body,
            transport.base_url,
            self.schema_with_tools,
            call_ids(messages),
            None if is_fixed else self._strict_models,
        )
        return exchange, transport

    def _body(
        self,
        messages: Sequence[Any],
        stop: list[str] | None,
        call: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> dict[str, Any]:
        """Build the request body; see `request_body` for the order of precedence."""
        settings = self._body_settings()
        return request_body(settings, messages, call, stop=stop, stream=stream)

    def _body_settings(self) -> BodySettings:
        return BodySettings(
            parameters=self._parameters,
            model_kwargs=self.model_kwargs,
            extra_body=self.extra_body,
            stop=self.stop,
            stream_usage=self.stream_usage,
            reasoning_history=self.reasoning_history,
            template_rules=self._rules_of,
            accepts_images=self._accepts_images,
        )

    def _parse(self, schema: Any) -> Callable[[AIMessage], dict[str, Any]] | None:  # noqa: ARG002
        """Return what adds `parsed` to replies, if a `response_format` asks for it."""
        return None


def _tool_names(tools: Sequence[Any] | None, body: Mapping[str, Any]) -> list[str]:
    """Return the names of a call's tools as the user knows them."""
    if not tools:  # `extra_body` may have some, in any form
        return names_in(body.get("tools"))
    # Formatting 50 tools again would cost as much as the rest of the call.
    return tool_names([t if _is_formatted(t) else format_tools([t])[0] for t in tools])


def _is_formatted(tool: object) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("function"), dict)


def _without_derived_profile(values: dict[str, Any]) -> dict[str, Any]:
    """Drop the profile of another model, so that the model gets its own."""
    # langchain-core passes all settings of the first model when `configurable_fields`
    # changes its ID, including a profile that was derived from the ID.
    profile: Any = values.get("profile")
    if not isinstance(profile, dict) or not is_known_profile(profile):
        return values
    if known_profile(str(values.get("model_name"))) == profile:
        return values
    return {key: value for key, value in values.items() if key != "profile"}
