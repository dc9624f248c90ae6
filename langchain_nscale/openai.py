"""Converts between `ChatNscale` and langchain-openai's `ChatOpenAI`.

Nothing else in the package imports langchain-openai, which takes over a second of CPU.
"""

from __future__ import annotations

from typing import Any

from langchain_openai import ChatOpenAI

from langchain_nscale._settings.fields import PARAMETERS
from langchain_nscale.chat_models import ChatNscale

# Settings with the same name and meaning in both classes.
_SHARED = (
    {"cache", "callbacks", "custom_get_token_ids", "disable_streaming", "name"}
    | {"output_version", "profile", "rate_limiter", "tags", "verbose"}
    | {"default_headers", "default_query", "http_client", "http_async_client"}
    | {"max_retries", "request_timeout"}
    | {"include_response_headers", "stream_chunk_timeout", "stream_usage", "streaming"}
    | {"extra_body", "model_kwargs", "model_name", "stop", *PARAMETERS}
)
# Settings of `ChatNscale` alone, with the values that change nothing.
_OURS = {
    "reasoning_history": ("never",),
    "think_tags": (None, "off"),
    "template_rules": (None, "as_is"),
    "tokenizer": (None,),
}
# Settings of `ChatOpenAI` derived from its other settings.
_DERIVED = {"client", "async_client", "root_client", "root_async_client", "metadata"}
_RENAMED = {"openai_api_key", "openai_api_base"}


def as_openai(model: ChatNscale) -> ChatOpenAI:
    """Return a `ChatOpenAI` with the same address, token, clients and settings.

    For code that insists on one: it has none of the fixes of `ChatNscale`. No `OPENAI_*`
    or `LANGCHAIN_OPENAI_*` variable changes it.

    Raises:
        ValueError: A setting has no counterpart in `ChatOpenAI`; the error names it.
    """
    for name, inert in _OURS.items():
        if getattr(model, name) not in inert:
            msg = f"`{name}` has no counterpart in ChatOpenAI: reset it to {inert[0]!r}."
            raise ValueError(msg)
    values = {name: getattr(model, name) for name in _SHARED}
    metadata = {k: v for k, v in (model.metadata or {}).items() if k != "lc_versions"}
    token: Any = model.service_token
    converted = ChatOpenAI(
        **values,
        metadata=metadata or None,
        api_key=token,
        base_url=model.base_url,
        # Set explicitly, because their defaults come from the environment.
        openai_proxy=None,
        http_socket_options=(),
        use_responses_api=False,
    )
    converted.openai_organization = None
    for client in (converted.root_client, converted.root_async_client):
        if client is not None:
            client.organization = client.project = None
    return converted


def from_openai(model: ChatOpenAI) -> ChatNscale:
    """Convert a `ChatOpenAI`, such as `ChatOpenAI(base_url=…)` for Nscale.

    Raises:
        ValueError: A setting has no counterpart in `ChatNscale`; the error names it.
    """
    if model.openai_api_base is None:
        msg = (
            "The ChatOpenAI has no `base_url`, so its `api_key` is OpenAI's: create a "
            "ChatNscale with a service token instead."
        )
        raise ValueError(msg)
    for name, field in type(model).model_fields.items():
        if name in _SHARED or name in _DERIVED or name in _RENAMED:
            continue
        if getattr(model, name) not in (None, False, (), field.default):
            msg = f"`{name}` has no counterpart in ChatNscale: unset it first."
            raise ValueError(msg)
    values = {name: getattr(model, name) for name in _SHARED}
    arguments: dict[str, Any] = {k: v for k, v in values.items() if v is not None}
    # `None` is a value of its own here: no limit.
    arguments["stream_chunk_timeout"] = model.stream_chunk_timeout
    metadata = {k: v for k, v in (model.metadata or {}).items() if k != "lc_versions"}
    return ChatNscale(
        **arguments,
        metadata=metadata or None,
        service_token=model.openai_api_key,
        base_url=model.openai_api_base,
    )
