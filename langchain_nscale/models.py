"""The models that Nscale serves, with their prices: `GET /v1/models`."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from difflib import SequenceMatcher
from time import monotonic
from typing import Any, Literal, NamedTuple

import jiter
from langchain_core.language_models import ModelProfile

from langchain_nscale._profiles import find_profile
from langchain_nscale._transport import Transport
from langchain_nscale.errors import malformed_response

logger = logging.getLogger(__name__)

Kind = Literal["chat", "embedding", "image"]

CACHED_FOR = 300.0  # seconds
_PATH = "/models"
_MILLION = 1_000_000
_CACHES = 16  # lists kept, of as many addresses and tokens
_NEAR = 0.6  # how alike an id has to be to be suggested
_SUGGESTIONS = 3
_READ = {"id", "object", "owned_by", "created", "context_length", "pricing"}
_IMAGE_MODELS = re.compile(r"flux|stable-diffusion|sdxl", re.IGNORECASE)


class Price(NamedTuple):
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal

    def of(self, input_tokens: int, output_tokens: int) -> Decimal:
        """What so many tokens cost, in US dollars."""
        paid = input_tokens * self.input + output_tokens * self.output
        return paid / _MILLION


@dataclass(frozen=True)
class NscaleModel:
    """A model as Nscale lists it. Everything but the id may be unknown (`None`).

    Attributes:
        id: What to give as `model`.
        owned_by: The author, e.g. `"Qwen"`.
        created: When it was made.
        context_length: Tokens of input and output together.
        input_price: US dollars per million tokens.
        output_price: Likewise; of image models, US dollars per megapixel.
        kind: `"chat"`, `"embedding"` or `"image"`. The list doesn't say: it follows from
            the profile, the id and the prices.
        profile: What is known of its abilities, if it is a chat model.
        extra: All other fields of the list's entry.
    """

    id: str
    owned_by: str | None = None
    created: datetime | None = None
    context_length: int | None = None
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    kind: Kind | None = None
    profile: ModelProfile | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def price(self) -> Price | None:
        """Its price for tokens, if it has one."""
        if self.kind == "image" or self.input_price is None or self.output_price is None:
            return None
        return Price(self.input_price, self.output_price)


Prices = Mapping[str, "NscaleModel | tuple[Any, Any]"] | Iterable[NscaleModel]


def parse_model(entry: Mapping[str, Any]) -> NscaleModel:
    """A model from an entry of the list; what can't be read counts as unknown."""
    pricing = entry.get("pricing")
    pricing = pricing if isinstance(pricing, Mapping) else {}
    given, made = as_price(pricing.get("input")), as_price(pricing.get("output"))
    context = entry.get("context_length")
    context = context if type(context) is int and context > 0 else None
    owner = entry.get("owned_by")
    profile = find_profile(entry["id"])
    return NscaleModel(
        id=entry["id"],
        owned_by=owner if isinstance(owner, str) else None,
        created=_as_time(entry.get("created")),
        context_length=context,
        input_price=given,
        output_price=made,
        kind=_kind(entry["id"], profile, context, made),
        profile=profile,
        extra={key: value for key, value in entry.items() if key not in _READ},
    )


def as_price(value: object) -> Decimal | None:
    """A price from a number or a string; `None` for anything else."""
    if not isinstance(value, (int, float, str, Decimal)) or isinstance(value, bool):
        return None
    try:
        price = Decimal(str(value).strip().removeprefix("$"))
    except InvalidOperation:
        return None
    return price if price.is_finite() and price >= 0 else None


def _as_time(value: object) -> datetime | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value:
        return None
    try:
        return datetime.fromtimestamp(value, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def _kind(
    model: str, profile: ModelProfile | None, context: int | None, made: Decimal | None
) -> Kind | None:
    if profile is not None:
        return "chat"
    if "embed" in model.lower():
        return "embedding"
    if _IMAGE_MODELS.search(model):
        return "image"
    return "chat" if context and made else None  # it writes tokens, at a price


def parse_models(response: Any) -> list[NscaleModel]:
    """The models in a response of `GET /v1/models`.

    Raises:
        NscaleMalformedResponseError: It isn't such a list.
    """
    try:
        body = jiter.from_json(response.content)
    except ValueError:
        body = None
    entries = body.get("data") if isinstance(body, dict) else body
    if not isinstance(entries, list):
        what = "the body isn't a list of models"
        raise malformed_response(what, response, response.content)
    models = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            models.append(parse_model(entry))
        else:
            logger.warning("The model list has an entry without an id: %r", entry)
    return models


# (address, token, headers, query) -> (when it was fetched, the list); newest last.
_cache: dict[Any, tuple[float, list[NscaleModel]]] = {}


def _key(transport: Transport) -> Any:
    headers, query = transport.headers or {}, transport.query or {}
    more = (*sorted(headers.items()), *((key, str(query[key])) for key in sorted(query)))
    return (transport.base_url, transport.token, more)


def _cached(key: Any) -> list[NscaleModel] | None:
    fetched, models = _cache.get(key, (float("-inf"), []))
    return list(models) if monotonic() - fetched < CACHED_FOR else None


def _remember(key: Any, response: Any) -> list[NscaleModel]:
    models = parse_models(response)
    _cache.pop(key, None)
    _cache[key] = (monotonic(), models)
    for old in list(_cache)[:-_CACHES]:
        _cache.pop(old, None)
    return list(models)


def fetch_models(transport: Transport, *, refresh: bool) -> list[NscaleModel]:
    """The model list, at most `CACHED_FOR` seconds old unless `refresh` is set."""
    key = _key(transport)
    models = None if refresh else _cached(key)
    if models is None:
        models = _remember(key, transport.send(_PATH, None)[0])
    return models


async def afetch_models(transport: Transport, *, refresh: bool) -> list[NscaleModel]:
    """The async twin of `fetch_models`."""
    key = _key(transport)
    models = None if refresh else _cached(key)
    if models is None:
        models = _remember(key, (await transport.asend(_PATH, None))[0])
    return models


def known_price(model: str) -> Price | None:
    """The price in the newest list that this process has fetched, however old it is."""
    for _, models in reversed(list(_cache.values())):
        for listed in models:
            if listed.id.lower() == model.lower():
                return listed.price
    return None


def price_table(prices: Prices) -> dict[str, Price]:
    """Prices by id in lower case.

    Raises:
        ValueError: One isn't a pair of numbers.
    """
    if not isinstance(prices, Mapping):
        prices = {model.id: model for model in prices}
    table = {}
    for model, given in prices.items():
        if isinstance(given, NscaleModel):
            price = given.price
        else:
            read, written = (as_price(value) for value in given)
            if read is None or written is None:
                msg = (
                    f"`prices` has {given!r} for {model!r}: give US dollars per million "
                    "tokens, (input, output)."
                )
                raise ValueError(msg)
            price = Price(read, written)
        if price is not None:
            table[model.lower()] = price
    return table


def nearest_ids(model: str, ids: Iterable[str]) -> list[str]:
    """The ids most like a model's, best first; few or none."""

    def likeness(listed: str) -> float:
        pairs = [(model, listed), (model.rpartition("/")[2], listed.rpartition("/")[2])]
        return max(
            SequenceMatcher(None, one.lower(), other.lower()).ratio()
            for one, other in pairs
        )

    ranked = sorted(((likeness(listed), listed) for listed in ids), reverse=True)
    return [listed for ratio, listed in ranked[:_SUGGESTIONS] if ratio >= _NEAR]
