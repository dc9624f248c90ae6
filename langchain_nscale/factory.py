"""Makes LangChain's own functions accept the names of Nscale's models."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

from langchain_nscale._version import PROVIDER

# The modules of LangChain with a list of providers, and the class to add to each.
_LISTS = {
    "langchain.chat_models.base": "ChatNscale",
    "langchain.embeddings.base": "NscaleEmbeddings",
}


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
    lists: dict[str, Any] = {}
    for module, class_name in _LISTS.items():
        try:
            providers = getattr(import_module(module), "_BUILTIN_PROVIDERS", None)
        except ImportError as missing:
            msg = (
                "`register` adds Nscale to LangChain's providers: pip install langchain."
            )
            raise ImportError(msg) from missing
        if not _is_list(providers):
            msg = (
                f"langchain {version('langchain')} has another list of providers in "
                f"{module}: pass an instance of {class_name} instead of a name."
            )
            raise RuntimeError(msg)
        lists[class_name] = providers
    for class_name, providers in lists.items():
        providers[PROVIDER] = ("langchain_nscale", class_name, _create)


def _is_list(providers: Any) -> bool:
    """Return whether providers are listed in the form that `register` knows."""
    entry = providers.get("openai") if isinstance(providers, dict) else None
    if not isinstance(entry, tuple) or [*map(type, entry[:2])] != [str, str]:
        return False
    return len(entry) == 3 and callable(entry[2])  # noqa: PLR2004  # module, class, function


def _create(cls: Any, *, model: Any = None, **kwargs: Any) -> Any:
    """Create a model; a configuration can name the provider once more."""
    if isinstance(model, str) and model.lower().startswith(f"{PROVIDER}:"):
        model = model.partition(":")[2]
    return cls(model=model, **kwargs)
