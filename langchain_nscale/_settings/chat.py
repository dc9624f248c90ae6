"""Settings of chat models, what they derive from them, and how they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableSerializable
from langchain_core.runnables.utils import AnyConfigurableField
from pydantic import AliasChoices, Field, model_validator
from typing_extensions import Self

from langchain_nscale._http.headers import digest, hide_in_dumps, hide_in_traces
from langchain_nscale._model_facts import find_profile, is_known_profile, known_profile
from langchain_nscale._replies.think_tags import ThinkTags
from langchain_nscale._replies.usage import add_counts
from langchain_nscale._requests import tokens
from langchain_nscale._requests.body import merge_stop
from langchain_nscale._requests.exchange import SchemaWithTools
from langchain_nscale._requests.messages import ReasoningHistory
from langchain_nscale._settings.connection import NscaleSettings
from langchain_nscale._settings.names import check_names, to_fields
from langchain_nscale._version import PROVIDER, __version__
from langchain_nscale.templates import STRICT, TemplateRules

# Settings sent under their own names.
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


class ChatSettings(NscaleSettings, BaseChatModel):
    """Settings of chat models; `ChatNscale` adds the calls."""

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
        if self.tokenizer is not None:
            tokens.check_tokenizer(self.tokenizer)
        self._add_version("langchain-nscale", __version__)
        return self

    def _resolve_model_profile(self) -> ModelProfile | None:
        return find_profile(self.model_name)

    # --- identity -------------------------------------------------------------------

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the settings that differ from what the model's ID implies."""
        for name, value in super().__repr_args__():
            is_known = name == "profile" and value == find_profile(self.model_name)
            is_version = name == "metadata" and set(value or ()) <= {"lc_versions"}
            if not is_known and not is_version:
                yield name, value

    @property
    def model(self) -> str:
        """ID of the model: the same as `model_name`."""
        return self.model_name

    @property
    def _llm_type(self) -> str:
        # Sentry and ddtrace take it for the name of the provider, so it is that name.
        return PROVIDER

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Settings left out when serialized, with the variables that replace them."""
        return {"service_token": "NSCALE_SERVICE_TOKEN"}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Settings that are serialized in a form of their own."""
        rules = self.template_rules
        if isinstance(rules, TemplateRules):
            return {"template_rules": asdict(rules)}
        return {}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """`dumpd` works; `load` needs `valid_namespaces=["langchain_nscale"]`."""
        return True

    def __getstate__(self) -> dict[Any, Any]:
        """Return the state to pickle, without the token; see `NscaleSettings`."""
        state: dict[Any, Any] = super().__getstate__()
        fields: dict[str, Any] = state["__dict__"]
        for cached in ("_serialized", "_strict_models"):
            fields.pop(cached, None)
        return state

    @classmethod
    def _converted(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Convert `merge_system_messages`, which became one of the template's rules."""
        if "merge_system_messages" not in values:
            return values
        merge = values["merge_system_messages"]
        values = {k: v for k, v in values.items() if k != "merge_system_messages"}
        if merge is not None:
            model = values.get("model_name") or values.get("model") or ""
            merged = replace(TemplateRules.for_model(str(model)), system="first")
            values["template_rules"] = merged if merge else "as_is"
        return values

    def __copy__(self) -> Self:
        """Copy without the cached description, which `model_copy(update=)` outdates."""
        copied = super().__copy__()
        vars(copied).pop("_serialized", None)
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field, and discard the cached description used in caches and traces."""
        vars(self).pop("_serialized", None)
        follows = name == "model_name" and self._has_derived_profile()
        super().__setattr__(name, value)
        if follows:
            self.profile = find_profile(value)

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Self:
        """Copy the model; a profile that was not set follows the model's ID."""
        update = to_fields(type(self), update or {})
        if "model_name" in update and self._has_derived_profile():
            update.setdefault("profile", find_profile(update["model_name"]))
        return super().model_copy(update=update, deep=deep)

    if not TYPE_CHECKING:  # the type is that of langchain-core, which has changed

        def bind(self, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
            """Bind arguments of calls; dumps leave out values of headers and queries."""
            return super().bind(**hide_in_dumps(kwargs))

    def configurable_fields(
        self, **kwargs: AnyConfigurableField
    ) -> RunnableSerializable[LanguageModelInput, AIMessage]:
        """Make settings configurable in each call, by either of their names.

        Raises:
            ValueError: A name is unknown; the error suggests a similar one.
        """
        # langchain-core knows the names of fields only, and passes all of them.
        return super().configurable_fields(**to_fields(type(self), kwargs))

    def _has_derived_profile(self) -> bool:
        """Return whether the profile is what is known about the model, not a setting."""
        name = self.__dict__.get("model_name", "")
        return (self.__dict__.get("profile") or {}) == known_profile(name)

    @property
    def _parameters(self) -> dict[str, Any]:
        """The request fields set on this model, `model` included."""
        values = {name: getattr(self, name) for name in _PARAMETERS}
        parameters = {name: value for name, value in values.items() if value is not None}
        return {"model": self.model_name, **parameters}

    @property
    def _default_params(self) -> dict[str, Any]:
        """Everything that the settings contribute to a request, for caches and traces."""
        parameters = self._parameters
        if self.stop:
            parameters["stop"] = merge_stop(self.stop)
        if self.extra_body:
            parameters["extra_body"] = self.extra_body
        return {**parameters, **self.model_kwargs}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, **self._default_params}

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        call = hide_in_traces(kwargs)
        params = {**self._default_params, **call, "_type": self._llm_type}
        params["stop"] = merge_stop(self.stop, stop)
        return {"model_name": params["model"], **params}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return the key of caches, where answers for other headers have another key."""
        key = super()._get_llm_string(stop, **hide_in_traces(kwargs))
        call = (kwargs.get("extra_headers"), kwargs.get("extra_query"))
        secrets = digest(self.default_headers, self.default_query, *call)
        return f"{key}---{secrets}" if secrets else key

    def _get_ls_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider=PROVIDER,
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

    def _combine_llm_outputs(
        self, llm_outputs: list[dict[str, Any] | None]
    ) -> dict[str, Any]:
        """Combine the `llm_output` of several prompts: token counts are added up."""
        usage: dict[str, Any] = {}
        combined: dict[str, Any] = {"token_usage": usage, "model_name": self.model_name}
        for output in llm_outputs:
            for key, value in ((output or {}).get("token_usage") or {}).items():
                usage[key] = add_counts(usage.get(key), value)
            fingerprint = (output or {}).get("system_fingerprint")
            if fingerprint:
                combined.setdefault("system_fingerprint", fingerprint)
        return combined

    # --- the model of a call ---------------------------------------------------------

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
        """Return the profile of this model, or of the model of a single call."""
        if model == self.model_name:
            return self.profile or {}
        return known_profile(model)


def _without_derived_profile(values: dict[str, Any]) -> dict[str, Any]:
    """Drop the profile of another model, so that the model gets its own.

    langchain-core passes all settings of the first model when `configurable_fields`
    changes its ID, including a profile that was derived from the ID.
    """
    profile: Any = values.get("profile")
    if not isinstance(profile, dict) or not is_known_profile(profile):
        return values
    if known_profile(str(values.get("model_name"))) == profile:
        return values
    return {key: value for key, value in values.items() if key != "profile"}
