"""Fetches and caches the model list: `GET /v1/models`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

from langchain_nscale import errors
from langchain_nscale._error_bodies import decode_body, is_missing_path
from langchain_nscale._failures import malformed_response
from langchain_nscale._http.limits import Limits
from langchain_nscale.models import NscaleModel, Price, parse_models, similar_ids

if TYPE_CHECKING:
    from langchain_nscale._http.transport import Transport
    from langchain_nscale._response import Sent
    from langchain_nscale.errors import NscaleError, NscaleModelNotFoundError

CACHE_SECONDS = 300.0
_PATH = "/models"
_MAX_CACHED = 16  # number of cached lists, one per address and token
_HINT_LIMITS = Limits.of(5.0)  # the list only enriches an error message


class _Cache:
    """Lists with the time of their retrieval, newest last."""

    def __init__(self) -> None:
        self._lists: dict[Any, tuple[float, list[NscaleModel]]] = {}

    def get(self, key: Any) -> list[NscaleModel] | None:
        """Return a list that is not too old."""
        fetched, models = self._lists.get(key, (float("-inf"), []))
        return list(models) if time.monotonic() - fetched < CACHE_SECONDS else None

    def put(self, key: Any, models: list[NscaleModel]) -> list[NscaleModel]:
        """Store a list; return a copy."""
        self._lists.pop(key, None)
        self._lists[key] = (time.monotonic(), models)
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
    """Return the model list, at most `CACHE_SECONDS` old unless `refresh` is set."""
    key = _key(transport)
    models = None if refresh else cache.get(key)
    if models is None:
        models = cache.put(key, transport.call(_PATH, None, _read))
    return models


async def afetch_models(transport: Transport, *, refresh: bool) -> list[NscaleModel]:
    """Async version of `fetch_models`."""
    key = _key(transport)
    models = None if refresh else cache.get(key)
    if models is None:
        models = cache.put(key, await transport.acall(_PATH, None, _read))
    return models


def _key(transport: Transport) -> Any:
    headers, query = transport.headers or {}, transport.query or {}
    more = (*sorted(headers.items()), *((key, str(query[key])) for key in sorted(query)))
    return (transport.base_url, transport.token, more)


def _read(sent: Sent) -> list[NscaleModel]:
    response = sent.response
    try:
        return parse_models(decode_body(response.content))
    except ValueError as problem:
        raise malformed_response(str(problem), response, response.content) from None


def known_price(model: str) -> Price | None:
    """Return the price in the newest list fetched by this process, however old it is."""
    for models in cache.newest_first():
        for listed in models:
            if listed.id.lower() == model.lower():
                return listed.price
    return None


class SimilarModels:
    """Suggests similar models in the error for an unknown one, if the list comes soon."""

    def advise(
        self, transport: Transport, body: Mapping[str, Any] | None, error: NscaleError
    ) -> None:
        """Complete the error of a sync call."""
        if body and _is_unknown_model(error):
            with suppress(errors.NscaleError):
                models = fetch_models(_for_hint(transport), refresh=False)
                add_suggestions(error, body["model"], models)

    async def aadvise(
        self, transport: Transport, body: Mapping[str, Any] | None, error: NscaleError
    ) -> None:
        """Complete the error of an async call."""
        if body and _is_unknown_model(error):
            with suppress(errors.NscaleError):
                models = await afetch_models(_for_hint(transport), refresh=False)
                # Comparing thousands of IDs takes too long for the event loop.
                await asyncio.to_thread(add_suggestions, error, body["model"], models)


def _is_unknown_model(error: NscaleError) -> TypeGuard[NscaleModelNotFoundError]:
    is_not_found = isinstance(error, errors.NscaleModelNotFoundError)
    return is_not_found and not is_missing_path(error.body)


def _for_hint(transport: Transport) -> Transport:
    return replace(transport, max_retries=0, limits=_HINT_LIMITS, advisor=None)


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
