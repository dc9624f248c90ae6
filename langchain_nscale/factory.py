"""Creates models by name, like LangChain's `init_chat_model`."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_nscale._provider import PROVIDER
from langchain_nscale.chat_models import ChatNscale


def init_chat_model(
    model: str | None = None, *, model_provider: str | None = None, **kwargs: Any
) -> BaseChatModel:
    """Create `"nscale:<id>"`; pass all other names to LangChain's `init_chat_model`.

    LangChain's `init_chat_model` has a fixed list of providers. Import this one instead,
    and where LangChain expects a name (`create_agent`, middleware), pass it the model
    that this returns.

    Args:
        model: `"nscale:<id>"`, or the ID with `model_provider="nscale"`, or anything
            that LangChain's function accepts.
        model_provider: The provider, if the name does not include it.
        kwargs: Settings of the model.

    Raises:
        ValueError: A setting is invalid, or only available for LangChain's models.
        ImportError: The model is not Nscale's, and langchain is not installed.
    """
    provider, colon, name = (model or "").partition(":")
    has_prefix = bool(colon) and provider.lower() == PROVIDER
    if has_prefix or (model_provider or "").lower() == PROVIDER:
        for setting in ("configurable_fields", "config_prefix"):
            if kwargs.pop(setting, None):
                msg = (
                    f"`{setting}` is not supported for Nscale's models: call the "
                    "model's `.configurable_fields(...)` instead."
                )
                raise ValueError(msg)
        return ChatNscale(model=name if has_prefix else model or "", **kwargs)
    try:
        from langchain.chat_models import (  # noqa: PLC0415  # an optional dependency
            init_chat_model as langchain_init_chat_model,
        )
    except ImportError as missing:
        msg = f"{model!r} is not a model of Nscale; others need `pip install langchain`."
        raise ImportError(msg) from missing
    created: Any = langchain_init_chat_model(
        model, model_provider=model_provider, **kwargs
    )
    return created  # type: ignore[no-any-return]  # a configurable model is created later
