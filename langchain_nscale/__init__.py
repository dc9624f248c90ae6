"""LangChain integration for Nscale's serverless inference API.

Names are imported on first use: `import langchain_nscale` alone costs nothing, so that
the pytest plugin and the command line start fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_nscale._version import __version__

if TYPE_CHECKING:
    from langchain_nscale._connection import alist_models, list_models
    from langchain_nscale._ledger import ModelUsage
    from langchain_nscale._transport import aclose_connections, close_connections
    from langchain_nscale.chat_models import ChatNscale
    from langchain_nscale.embeddings import NscaleEmbeddings
    from langchain_nscale.errors import (
        NscaleAuthenticationError,
        NscaleConflictError,
        NscaleConnectionError,
        NscaleContextOverflowError,
        NscaleError,
        NscaleInsufficientCreditError,
        NscaleInterruptedStreamError,
        NscaleInvalidRequestError,
        NscaleMalformedResponseError,
        NscaleModelNotFoundError,
        NscalePermissionDeniedError,
        NscaleRateLimitError,
        NscaleServerError,
        NscaleStalledStreamError,
        NscaleStreamError,
        NscaleTimeoutError,
        NscaleUnavailableError,
        NscaleUnprocessableError,
    )
    from langchain_nscale.factory import init_chat_model
    from langchain_nscale.models import NscaleModel
    from langchain_nscale.usage import (
        NscaleUsageCallbackHandler,
        get_nscale_usage_callback,
        langsmith_costs,
    )

__all__ = [
    "ChatNscale",
    "ModelUsage",
    "NscaleAuthenticationError",
    "NscaleConflictError",
    "NscaleConnectionError",
    "NscaleContextOverflowError",
    "NscaleEmbeddings",
    "NscaleError",
    "NscaleInsufficientCreditError",
    "NscaleInterruptedStreamError",
    "NscaleInvalidRequestError",
    "NscaleMalformedResponseError",
    "NscaleModel",
    "NscaleModelNotFoundError",
    "NscalePermissionDeniedError",
    "NscaleRateLimitError",
    "NscaleServerError",
    "NscaleStalledStreamError",
    "NscaleStreamError",
    "NscaleTimeoutError",
    "NscaleUnavailableError",
    "NscaleUnprocessableError",
    "NscaleUsageCallbackHandler",
    "__version__",
    "aclose_connections",
    "alist_models",
    "close_connections",
    "get_nscale_usage_callback",
    "init_chat_model",
    "langsmith_costs",
    "list_models",
]

_HOME = {
    "ModelUsage": "_ledger",
    "NscaleEmbeddings": "embeddings",
    "NscaleUsageCallbackHandler": "usage",
    "get_nscale_usage_callback": "usage",
    "init_chat_model": "factory",
    "langsmith_costs": "usage",
    "ChatNscale": "chat_models",
    "NscaleModel": "models",
    "aclose_connections": "_transport",
    "alist_models": "_connection",
    "close_connections": "_transport",
    "list_models": "_connection",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = import_module(f"{__name__}.{_HOME.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
