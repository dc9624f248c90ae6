"""LangChain integration for Nscale's serverless inference API.

The names below are public. Each is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_nscale._lazy import install_lazy_imports
from langchain_nscale._version import __version__ as __version__

if TYPE_CHECKING or not install_lazy_imports(__name__):
    from langchain_nscale._http.clients import aclose_connections as aclose_connections
    from langchain_nscale._http.clients import close_connections as close_connections
    from langchain_nscale._usage.ledger import ModelUsage as ModelUsage
    from langchain_nscale.catalog import alist_models as alist_models
    from langchain_nscale.catalog import list_models as list_models
    from langchain_nscale.chat_models import ChatNscale as ChatNscale
    from langchain_nscale.embeddings import NscaleEmbeddings as NscaleEmbeddings
    from langchain_nscale.errors import (
        NscaleAuthenticationError as NscaleAuthenticationError,
    )
    from langchain_nscale.errors import NscaleConflictError as NscaleConflictError
    from langchain_nscale.errors import NscaleConnectionError as NscaleConnectionError
    from langchain_nscale.errors import (
        NscaleContextOverflowError as NscaleContextOverflowError,
    )
    from langchain_nscale.errors import NscaleError as NscaleError
    from langchain_nscale.errors import (
        NscaleInsufficientCreditError as NscaleInsufficientCreditError,
    )
    from langchain_nscale.errors import (
        NscaleInterruptedStreamError as NscaleInterruptedStreamError,
    )
    from langchain_nscale.errors import (
        NscaleInvalidRequestError as NscaleInvalidRequestError,
    )
    from langchain_nscale.errors import (
        NscaleMalformedResponseError as NscaleMalformedResponseError,
    )
    from langchain_nscale.errors import (
        NscaleMissingToolCallError as NscaleMissingToolCallError,
    )
    from langchain_nscale.errors import (
        NscaleModelNotFoundError as NscaleModelNotFoundError,
    )
    from langchain_nscale.errors import (
        NscalePermissionDeniedError as NscalePermissionDeniedError,
    )
    from langchain_nscale.errors import NscaleRateLimitError as NscaleRateLimitError
    from langchain_nscale.errors import NscaleServerError as NscaleServerError
    from langchain_nscale.errors import (
        NscaleStalledStreamError as NscaleStalledStreamError,
    )
    from langchain_nscale.errors import NscaleStreamError as NscaleStreamError
    from langchain_nscale.errors import NscaleTimeoutError as NscaleTimeoutError
    from langchain_nscale.errors import NscaleUnavailableError as NscaleUnavailableError
    from langchain_nscale.errors import (
        NscaleUnprocessableError as NscaleUnprocessableError,
    )
    from langchain_nscale.errors import should_retry as should_retry
    from langchain_nscale.factory import register as register
    from langchain_nscale.models import NscaleModel as NscaleModel
    from langchain_nscale.templates import TemplateRules as TemplateRules
    from langchain_nscale.usage import (
        NscaleUsageCallbackHandler as NscaleUsageCallbackHandler,
    )
    from langchain_nscale.usage import (
        get_nscale_usage_callback as get_nscale_usage_callback,
    )
    from langchain_nscale.usage import langsmith_costs as langsmith_costs
