"""Settings of chat models, what they derive from them, and how they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableSerializable
from langchain_core.runnables.utils import AnyConfigurableField
from pydantic import model_validator
from typing_extensions import Self

import langchain_nscale._requests.messages  # noqa: F401  # not as late as `body` does
from langchain_nscale._http.headers import digest, hide_in_dumps, hide_in_traces
from langchain_nscale._model_facts import find_profile, known_profile
from langchain_nscale._replies.usage import add_counts
from langchain_nscale._requests import tokens
from langchain_nscale._requests.body import merge_stop
from langchain_nscale._settings.fields import ChatFields
from langchain_nscale._settings.names import to_fields
from langchain_nscale._version import PROVIDER, __version__
from langchain_nscale.templates import TemplateRules


class ChatSettings(ChatFields, BaseChatModel):
    """Settings of chat models; `ChatNscale` adds the calls."""

    @model_validator(mode="after")
    def _check_tokenizer(self) -> Self:
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

    def _profile_of(self, model: str) -> ModelProfile:
        """Return the profile of this model, or of the model of a single call."""
        if model == self.model_name:
            return self.profile or {}
        return super()._profile_of(model)
