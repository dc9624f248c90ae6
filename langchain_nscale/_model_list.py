"""Fetches and caches the model list: `GET /v1/models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import jiter

from langchain_nscale._failures import malformed_response
from langchain_nscale.models import NscaleModel, Price, parse_models, similar_ids

if TYPE_CHECKING:
    from langchain_nscale._http.transport import Transport
    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleModelNotFoundError

CACHE_SECONDS = 300.0
_PATH = "/models"
_MAX_CACHED = 16  # number of cached lists, one per address and token
_HINT_TIMEOUT = 5.0  # seconds; the list only enriches an error message


class _Cache:
    """Lists with the time of their retrieval, newest last."""

    def __init__(self) -> None:
        self._lists: dict[Any, tuple[float, list[NscaleModel]]] = {}

    def get(self, key: Any) -> list[NscaleModel] | None:
        """Return a list that is not too old."""
        fetched, models = self._lists.get(key, (float("-inf"), []))
        return list(models) if monotonic() - fetched < CACHE_SECONDS else None

    def put(self, key: Any, models: list[NscaleModel]) -> list[NscaleModel]:
        """Store a list; return a copy."""
        self._lists.pop(key, None)
        self._lists[key] = (monotonic(), models)
        for old in list(self._lists)[:-_MAX_CACHED]:
            self._lists.pop(old, None)
        return list(models)

    def newest_first(self) -> list[list[NscaleModel]]:
        """Return all lists, whatever their age."""
        return [models for _, models in reversed(list(self._lists.values()))]

    def clear(self) -> None:
        """Forget all lists."""
        self._lists.clear()


cache = _Cache()


def fetch_models(transport: Transport, *, refresh: bool) -> list[NscaleModel]:
    """Return the model list, at most `CACHE_SECONDS` old unless `refresh` is set.

    Raises:
        NscaleError: The service did not answer with a list of models.
    """
    key = _key(transport)
    models = None if refresh else cache.get(key)
    if models is None:
        models = cache.put(key, _read(transport.send(_PATH, None).response))
    return models


async def afetch_models(transport: Transport, *, refresh: bool) -> list[NscaleModel]:
    """Async version of `fetch_models`."""
    key = _key(transport)
    models = None if refresh else cache.get(key)
    if models is None:
        models = cache.put(key, _read((await transport.asend(_PATH, None)).response))
    return models


def _key(transport: Transport) -> Any:
    headers, query = transport.headers or {}, transport.query or {}
    more = (*sorted(headers.items()), *((key, str(query[key])) for key in sorted(query)))
    return (transport.base_url, transport.token, more)


def _read(response: Response) -> list[NscaleModel]:
    try:
        body = jiter.from_json(response.content)
    except ValueError:
        body = None
    try:
        return parse_models(body)
    except ValueError as problem:
        raise malformed_response(str(problem), response, response.content) from None


def known_price(model: str) -> Price | None:
    """Return the price in the newest list fetched by this process, however old it is."""
    for models in cache.newest_first():
        for listed in models:
            if listed.id.lower() == model.lower():
                return listed.price
    return None


def for_hint(transport: Transport) -> Transport:
    """Return a copy with a short timeout and no retries."""
    return replace(transport, max_retries=0, timeout=(_HINT_TIMEOUT,) * 4)


def add_suggestions(
    error: NscaleModelNotFoundError, model: str, models: Sequence[NscaleModel]
) -> None:
    """Add the listed IDs most similar to `model` to a 404's message and attributes."""
    ids = [listed.id for listed in models]
    similar = similar_ids(model, ids)
    if model in ids:
        error.add_to_message(
            "The service lists it, so it may only be unavailable for now."
        )
    elif similar:
        error.suggestions = tuple(similar)
        error.add_to_message(f"Similar models: {', '.join(similar)}.")
