"""Creates models by name, as LangChain's `init_chat_model` and `init_embeddings` do.

LangChain's own functions have fixed lists of providers. `register` adds Nscale to them;
the functions here work without it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from langchain_nscale._provider import PROVIDER
from langchain_nscale.chat_models import ChatNscale
from langchain_nscale.embeddings import NscaleEmbeddings

# The modules of LangChain with a list of providers, and the class to add to each.
_LISTS = {
    "langchain.chat_models.base": "ChatNscale",
    "langchain.embeddings.base": "NscaleEmbeddings",
}


def init_chat_model(
    model: str | None = None, *, model_provider: str | None = None, **kwargs: Any
) -> BaseChatModel:
    """Create `"nscale:<id>"`; pass all other names to LangChain's `init_chat_model`.

    Args:
        model: `"nscale:<id>"`, or the ID with `model_provider="nscale"`, or anything
            that LangChain's function accepts. Without a model, it is chosen by the
            configuration of each call, and Nscale is registered with LangChain.
        model_provider: The provider, if the name does not include it.
        kwargs: Settings of the model; also `configurable_fields` and `config_prefix`.

    Raises:
        ValueError: A setting is invalid.
        ImportError: langchain is needed and not installed.
        RuntimeError: See `register`.
    """
    name, is_ours = _name(model, model_provider)
    is_configurable = "configurable_fields" in kwargs or "config_prefix" in kwargs
    if is_ours and not is_configurable:
        return ChatNscale(model=name, **kwargs)
    theirs = _langchain("langchain.chat_models", "init_chat_model", model)
    if is_ours or model is None:
        register()
    if is_ours:
        model, model_provider = name, PROVIDER
    created: Any = theirs(model, model_provider=model_provider, **kwargs)
    return created  # type: ignore[no-any-return]  # a configurable model is created later


def init_embeddings(
    model: str, *, provider: str | None = None, **kwargs: Any
) -> Embeddings:
    """Create `"nscale:<id>"`; pass all other names to LangChain's `init_embeddings`.

    Args:
        model: `"nscale:<id>"`, or the ID with `provider="nscale"`, or anything that
            LangChain's function accepts.
        provider: The provider, if the name does not include it.
        kwargs: Settings of the embeddings.

    Raises:
        ValueError: A setting is invalid.
        ImportError: The model is not Nscale's, and langchain is not installed.
    """
    name, is_ours = _name(model, provider)
    if is_ours:
        return NscaleEmbeddings(model=name, **kwargs)
    created: Any = _langchain("langchain.embeddings", "init_embeddings", model)(
        model, provider=provider, **kwargs
    )
    return created  # type: ignore[no-any-return]  # of LangChain's function


def register() -> None:
    """Add Nscale to LangChain's providers, for this process.

    Then LangChain accepts `"nscale:<id>"` wherever it takes the name of a model: in
    `create_agent`, middleware, `create_deep_agent`, `init_chat_model` and
    `init_embeddings`. Calling it again does nothing.

    Raises:
        ImportError: langchain is not installed.
        RuntimeError: LangChain's lists of providers, which are not part of its public
            API, have changed. Pass an instance of `ChatNscale` instead of a name.
    """
    lists = {}
    for module, class_name in _LISTS.items():
        lists[class_name] = _langchain(module, "_BUILTIN_PROVIDERS", f"{PROVIDER}:…")
        if not _is_list(lists[class_name]):
            msg = (
                f"langchain {version('langchain')} has another list of providers in "
                f"{module}: pass an instance of {class_name} instead of a name."
            )
            raise RuntimeError(msg)
    for class_name, providers in lists.items():
        providers[PROVIDER] = ("langchain_nscale", class_name, _create)


def _is_list(providers: Any) -> bool:
    """Return whether providers are listed in the form that `register` knows."""
    entry = providers.get("openai") if isinstance(providers, dict) else None
    if not isinstance(entry, tuple) or [*map(type, entry[:2])] != [str, str]:
        return False
    return len(entry) == 3 and callable(entry[2])  # noqa: PLR2004  # module, class, function


def _create(cls: Any, *, model: str | None = None, **kwargs: Any) -> Any:
    # A configuration can name the provider again.
    return cls(model=_name(model, PROVIDER)[0], **kwargs)


def _name(model: str | None, provider: str | None) -> tuple[str, bool]:
    """Return the name without the provider, and whether the provider is Nscale.

    Raises:
        TypeError: One of them is neither a text nor `None`.
    """
    for value, what in ((model, "model"), (provider, "provider")):
        if not isinstance(value, (str, type(None))):
            kind = type(value).__name__
            msg = f"The {what} is of type {kind}: use a name such as 'nscale:<id>'."
            raise TypeError(msg)
    prefix, colon, name = (model or "").partition(":")
    if colon and prefix.lower() == PROVIDER:
        return name, True
    return model or "", (provider or "").lower() == PROVIDER


def _langchain(module: str, name: str, model: str | None) -> Any:
    """Return an attribute of an optional dependency; `None` if it has none.

    Raises:
        ImportError: langchain is not installed.
    """
    try:
        return getattr(import_module(module), name, None)
    except ImportError as missing:
        msg = f"{model!r} needs LangChain: pip install langchain."
        raise ImportError(msg) from missing
