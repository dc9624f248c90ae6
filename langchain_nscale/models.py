"""The models that Nscale serves, and their prices. Types and parsing; no HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from langchain_nscale._model_facts import facts, find_profile

if TYPE_CHECKING:
    from langchain_core.language_models import ModelProfile
else:
    ModelProfile = dict[str, Any]  # the command line starts without LangChain's models

logger = logging.getLogger(__name__)

Kind = Literal["chat", "embedding", "image"]

_MILLION = 1_000_000
_MIN_SIMILARITY = 0.6  # how similar an ID must be to be suggested
_MAX_SUGGESTIONS = 3
_PARSED = {"id", "object", "owned_by", "created", "context_length", "pricing"}


class Price(NamedTuple):
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal

    def of(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Return the cost of tokens, in US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / _MILLION


@dataclass(frozen=True)
class NscaleModel:
    """A model as listed by Nscale. Everything except the ID can be unknown (`None`).

    Attributes:
        id: The value for `model`.
        owned_by: The author, for example `"Qwen"`.
        created: When the model was created.
        context_length: Maximum number of input and output tokens together.
        input_price: US dollars per million input tokens.
        output_price: US dollars per million output tokens; for image models, per
            megapixel.
        kind: `"chat"`, `"embedding"` or `"image"`. The list does not say; it is derived
            from the profile, the ID and the prices.
        profile: The model's capabilities, if it is a known chat model.
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
        """The price of tokens, if the model has one."""
        if self.kind == "image" or self.input_price is None or self.output_price is None:
            return None
        return Price(self.input_price, self.output_price)


Prices = Mapping[str, NscaleModel | tuple[Any, Any]] | Iterable[NscaleModel]


def parse_models(body: object) -> list[NscaleModel]:
    """Parse the decoded body of `GET /v1/models`.

    Entries without an ID are skipped with a warning in the log.

    Raises:
        ValueError: The body is not a list of models.
    """
    entries = body.get("data") if isinstance(body, dict) else body
    if not isinstance(entries, list):
        msg = "the body is not a list of models"
        raise ValueError(msg)  # noqa: TRY004  # data of the wrong form
    models = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            models.append(parse_model(entry))
        else:
            logger.warning("The model list has an entry without an ID: %r", entry)
    return models


def parse_model(entry: Mapping[str, Any]) -> NscaleModel:
    """Parse an entry of the model list; invalid values count as unknown."""
    pricing = entry.get("pricing")
    pricing = pricing if isinstance(pricing, Mapping) else {}
    output_price = as_price(pricing.get("output"))
    context = entry.get("context_length", entry.get("max_model_len"))  # Nscale, vLLM
    context = context if type(context) is int and context > 0 else None
    owner = entry.get("owned_by")
    profile = find_profile(entry["id"])
    return NscaleModel(
        id=entry["id"],
        owned_by=owner if isinstance(owner, str) else None,
        created=_as_time(entry.get("created")),
        context_length=context,
        input_price=as_price(pricing.get("input")),
        output_price=output_price,
        kind=_kind(entry["id"], profile, context, output_price),
        profile=profile,
        extra={key: value for key, value in entry.items() if key not in _PARSED},
    )


def as_price(value: object) -> Decimal | None:
    """Convert a number or a string to a price; return `None` for anything else."""
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
    model: str,
    profile: ModelProfile | None,
    context: int | None,
    output_price: Decimal | None,
) -> Kind | None:
    if profile is not None:
        return "chat"
    if facts(model).makes_vectors:
        return "embedding"
    if facts(model).makes_images:
        return "image"
    return "chat" if context and output_price else None  # it is billed for output tokens


def price_table(prices: Prices) -> dict[str, Price]:
    """Return prices by ID in lower case.

    Raises:
        ValueError: A price is not a pair of numbers.
    """
    entries: Mapping[str, Any]
    if isinstance(prices, Mapping):
        entries = cast("Mapping[str, Any]", prices)  # a mapping is also iterable
    else:
        given: Any = prices
        listed = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(model, NscaleModel) for model in listed):
            msg = (
                "`prices` is neither a list of models, as from `list_models()`, nor a "
                'dict such as {"model": (0.06, 0.06)}.'
            )
            raise ValueError(msg)
        entries = {model.id: model for model in listed}
    table: dict[str, Price] = {}
    for model, entry in entries.items():
        if isinstance(entry, NscaleModel):
            price = entry.price
        else:
            is_pair = isinstance(entry, (tuple, list)) and len(entry) == 2  # noqa: PLR2004  # input, output
            pair = entry if is_pair else (None, None)
            input_price, output_price = map(as_price, pair)
            if input_price is None or output_price is None:
                msg = (
                    f"`prices` has {entry!r} for {model!r}: use US dollars per million "
                    "tokens, (input, output)."
                )
                raise ValueError(msg)
            price = Price(input_price, output_price)
        if price is not None:
            table[model.lower()] = price
    return table


def similar_ids(model: str, ids: Iterable[str]) -> list[str]:
    """Return the IDs most similar to a model's, best match first."""

    def similarity(listed: str) -> float:
        pairs = [(model, listed), (model.rpartition("/")[2], listed.rpartition("/")[2])]
        return max(
            SequenceMatcher(None, one.lower(), other.lower()).ratio()
            for one, other in pairs
        )

    ranked = sorted(((similarity(listed), listed) for listed in ids), reverse=True)
    return [
        listed for ratio, listed in ranked[:_MAX_SUGGESTIONS] if ratio >= _MIN_SIMILARITY
    ]
