"""Models by name, as LangChain's `init_chat_model` has them."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_nscale.chat_models import ChatNscale

PROVIDER = "nscale"


def init_chat_model(
    model: str | None = None, *, model_provider: str | None = None, **kwargs: Any
) -> BaseChatModel:
    """A chat model by name: `"nscale:<id>"` here, any other by LangChain's function.

    LangChain's own list of providers is closed to third parties. Where its
    `init_chat_model` is imported, import this one; where LangChain takes a name
    (`create_agent`, middleware), give it the model that this returns.

    Args:
        model: `"nscale:<id>"`, or the id with `model_provider="nscale"`, or whatever
            LangChain's function takes.
        model_provider: Who serves the model, if its name doesn't say.
        kwargs: Settings of the model.

    Raises:
        ValueError: A setting is wrong, or one that only LangChain's models have.
        ImportError: The model isn't Nscale's, and langchain isn't installed.
    """
    provider, colon, name = (model or "").partition(":")
    by_name = bool(colon) and provider.lower() == PROVIDER
    if by_name or (model_provider or "").lower() == PROVIDER:
        for setting in ("configurable_fields", "config_prefix"):
            if kwargs.pop(setting, None):
                msg = (
                    f"`{setting}` isn't for Nscale's models: call "
                    "`.configurable_fields(...)` of the model instead."
                )
                raise ValueError(msg)
        return ChatNscale(model=name if by_name else model or "", **kwargs)
    try:
        from langchain.chat_models import init_chat_model as of_langchain  # noqa: PLC0415
    except ImportError as missing:
        msg = f"{model!r} isn't a model of Nscale's; others need `pip install langchain`."
        raise ImportError(msg) from missing
    found: Any = of_langchain(model, model_provider=model_provider, **kwargs)
    return found  # type: ignore[no-any-return]  # it may become one only when called
