"""Names of settings: unknown ones, and the two names that some settings have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from langchain_nscale._requests.conversions import are_equal

_PASS_THROUGH = ("extra_body", "model_kwargs")
_MIN_SIMILARITY = 0.85  # one letter more or less in a short word, two in a long one

# What to do instead of settings that other packages have: ChatOpenAI, ChatGroq,
# ChatLiteLLM, ChatOllama, the OpenAI SDK and LiteLLM, by the names used there. Names that
# end in `_api_key` and the like are in `_ENDINGS`.
_ANYWHERE = {
    "use `service_token`, or set NSCALE_SERVICE_TOKEN": "token access_token auth_token "
    "api_token bearer_token key",
    "use `base_url`, or set NSCALE_BASE_URL": "api_base endpoint azure_endpoint host url "
    "server",
    "set HTTPS_PROXY, or pass `http_client` and `http_async_client`": "proxy proxies",
    "pass `http_client` and `http_async_client`": "client async_client root_client "
    "root_async_client session shared_session http_socket_options verify ssl_verify "
    "ssl_context cert",
    "use `default_headers`": "headers extra_headers",
    "use `default_query`": "query params extra_query",
    "use `timeout`": "timeout_seconds connect_timeout read_timeout",
    "use `max_retries`": "retries num_retries max_retry max_attempts retry_min_seconds "
    "retry_max_seconds",
    "use `model`": "model_id engine deployment deployment_id deployment_name "
    "azure_deployment base_model",
    "use `callbacks`": "callback callback_manager handlers",
    "leave it out, since this class only serves Nscale": "provider model_provider "
    "custom_llm_provider",
    "Nscale has none": "organization project region data_residency webhook_secret "
    "websocket_base_url workload_identity api_version api_type",
}
_CHAT = {
    "use `temperature`": "temp",
    "use `max_tokens`": "max_new_tokens max_output_tokens max_tokens_to_sample "
    "max_length num_predict",
    "use `stop`": "stop_words stop_token stop_tokens stops",
    "use `streaming`, or call `stream`": "stream",
    "use `stream_usage`": "stream_options",
    "use `reasoning_effort`": "reasoning thinking think reasoning_budget thinking_budget",
    "use `tokenizer`": "tiktoken_model_name encoding_name",
    "use a LangGraph checkpointer": "memory",
    "call `bind_tools`": "tools tool_choice parallel_tool_calls functions function_call",
    "pass it in a call, or use `with_structured_output`": "response_format format "
    "json_mode json_schema response_schema schema",
    "pass messages to `invoke` or `stream`": "messages prompt input",
    "pass a SystemMessage to `invoke` or `stream`, before the other messages": "system "
    "system_prompt system_message instructions",
    "pass it in `extra_body`": "top_k min_p repetition_penalty length_penalty min_tokens "
    "user safety_identifier chat_template_kwargs guided_json",
    "leave it out, since reasoning is always separate from the text": "reasoning_format",
    "leave it out, since only settings that are set are sent": "disabled_params",
    "leave it out, since the service sets the length of the context": "num_ctx",
    "Nscale only has Chat Completions": "use_responses_api use_previous_response_id "
    "previous_response_id context_management include truncation",
    "Nscale documents no such field; `extra_body` would send it as is": "service_tier "
    "store verbosity prompt_cache_key prompt_cache_options prompt_cache_retention "
    "modalities audio prediction web_search_options search_parameters moderation",
}
_EMBEDDINGS = {
    "use `model`": "model_name",
    "use `dimensions`": "size output_dimensionality",
    "use `chunk_size`": "batch_size embed_batch_size",
    "use `max_concurrency`": "max_workers num_workers concurrency",
    "use `query_instruction`": "query_prefix query_prompt prompt instruction "
    "embed_instruction",
    "use `empty_text`": "skip_empty",
    "use `show_progress_bar`": "show_progress",
    "pass it in `extra_body`": "model_kwargs encode_kwargs user truncate",
    "leave it out, since texts are sent whole; split long ones with a text splitter": (
        "check_embedding_ctx_length embedding_ctx_length tiktoken_enabled "
        "tiktoken_model_name allowed_special disallowed_special"
    ),
}
# `groq_api_key`, `openai_api_base`, `openai_proxy` and the like, with what to look up.
_ENDINGS = {
    # pragma: allowlist nextline secret
    "_api_key": "token",
    "_api_token": "token",
    "_api_base": "api_base",
    "_base_url": "api_base",
    "_proxy": "proxy",
    "_organization": "organization",
    "_api_version": "organization",
    "_api_type": "organization",
}


def reject_unknown(cls: type[BaseModel], names: Iterable[str], known: set[str]) -> None:
    """Reject names of unknown settings, and say what to use instead."""
    for name in names:
        if name not in known:
            msg = f"{cls.__name__} has no setting `{name}`{_advice(str(name), known)}"
            raise ValueError(msg)


def _advice(name: str, known: set[str]) -> str:
    """Return the end of a sentence about an unknown setting."""
    tables = [_ANYWHERE]
    for field, table in (("model_name", _CHAT), ("dimensions", _EMBEDDINGS)):
        tables += [table] if field in known else []
    answers = {
        _plain(other): answer
        for table in tables
        for answer, others in table.items()
        for other in others.split()
    }
    for ending, other in _ENDINGS.items():
        if name.lower().endswith(ending):
            answers.setdefault(_plain(name), answers[_plain(other)])
    if answer := answers.get(_plain(name)):
        return f": {answer}."
    sentences = ["."]
    plain = {_plain(other): other for other in sorted(known, reverse=True)}
    if similar := get_close_matches(_plain(name), plain, 1, _MIN_SIMILARITY):
        sentences.append(f"Did you mean `{plain[similar[0]]}`?")
    if fields := [f"`{field}`" for field in _PASS_THROUGH if field in known]:
        sentences.append(
            f"To send it to the API as is, pass it in {' or '.join(fields)}."
        )
    return " ".join(sentences)


def _plain(name: str) -> str:
    """Return a name as it reads in any style: `maxTokens` is `max_tokens`."""
    return name.lower().replace("_", "").replace("-", "")


def to_fields(cls: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the names of their fields, whichever name was used.

    A ValueError says that a name is unknown, or that two names of a setting differ.
    """
    names = setting_names(cls)
    if not values.keys() <= names.keys():
        reject_unknown(cls, values, set(names))
    fields = {names[name]: value for name, value in values.items()}
    return fields if len(fields) == len(values) else _merged(names, values)


def _merged(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by field where one of them has two names."""
    fields: dict[str, Any] = {}
    used: dict[str, str] = {}
    for name, value in values.items():
        field = names[name]
        other = fields.get(field)
        if value is None and other is not None:
            continue
        if other is not None and not are_equal(other, value):
            msg = f"Pass either `{used[field]}` or `{name}`: they are the same setting."
            raise ValueError(msg)
        fields[field], used[field] = value, name
    return fields


def check_names(cls: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by field, without those that are not set; see `to_fields`.

    pydantic would ignore unknown names, and prefer one of two values.
    """
    values = to_fields(cls, values)
    if type(None) not in map(type, values.values()):
        return values
    fields = cls.model_fields
    return {
        name: value
        for name, value in values.items()
        if value is not None or _accepts_none(fields[name])
    }


def _accepts_none(field: FieldInfo) -> bool:
    """Return whether `None` is a distinct value rather than the default."""
    kind = field.annotation
    return field.is_required() or kind is Any or type(None) in get_args(kind)


@lru_cache(maxsize=128)
def setting_names(cls: type[BaseModel]) -> dict[str, str]:
    """Return all names by which settings can be passed, with the name of the field.

    A subclass that declares a field again, to change its default, keeps the aliases of
    the original.
    """
    names = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, BaseModel):
            for name, field in base.model_fields.items():
                names.update(dict.fromkeys((name, *_aliases(field)), name))
    return names


def _aliases(field: FieldInfo) -> set[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return {choice for choice in (field.alias, *choices) if isinstance(choice, str)}
