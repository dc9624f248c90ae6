"""Lists the models that Nscale serves, with prices."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from langchain_nscale._http.token import hide_tokens
from langchain_nscale._settings.connection import NscaleSettings
from langchain_nscale._settings.names import check_names
from langchain_nscale.models import NscaleModel


def list_models(*, refresh: bool = False, **settings: Any) -> list[NscaleModel]:
    """Return the models that Nscale lists, with prices.

    Args:
        refresh: Whether to ask the service even if the list is cached. Lists are cached
            for 5 minutes.
        settings: `service_token`, `base_url`, `timeout` and the other settings that
            chat models and embeddings share; by default from the environment.

    Raises:
        ValueError: A setting is missing or invalid.
        NscaleError: The service did not answer with a list of models.
    """
    return _settings(settings).list_models(refresh=refresh)


async def alist_models(*, refresh: bool = False, **settings: Any) -> list[NscaleModel]:
    """Async version of `list_models`; `service_token` can be an async callable."""
    return await _settings(settings).alist_models(refresh=refresh)


class _ListSettings(NscaleSettings):
    """The connection settings alone."""

    model_config = ConfigDict(defer_build=False, title="list_models")


def _settings(values: dict[str, Any]) -> NscaleSettings:
    """Create the settings; hide the token in `values`, which the caller's frame shows."""
    hide_tokens(values)
    return _ListSettings(**check_names(NscaleSettings, values))
