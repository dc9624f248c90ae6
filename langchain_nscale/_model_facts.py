"""Everything known about a model from its ID. Pure; the profiles are in `data/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langchain_nscale.data._profiles import _PROFILES

if TYPE_CHECKING:
    from langchain_core.language_models import ModelProfile
else:
    ModelProfile = dict[str, Any]  # the command line starts without LangChain's models

WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a model beside its profile. The defaults assume nothing."""

    thinks_in_text: bool = False  # it writes its reasoning there, until `</think>`
    query_instruction: str = ""  # what it expects with each query to embed
    shortens_vectors: bool = False  # by truncation: their first dimensions say the most
    makes_vectors: bool = False
    makes_images: bool = False


class KnownFacts(NamedTuple):
    """Facts about all models whose IDs contain one of `parts`, with their source."""

    parts: tuple[str, ...]  # in lower case
    facts: ModelFacts
    reason: str
    source: str
    checked: str  # the date on which the source said so

    def includes(self, model: str) -> bool:
        """Return whether a model belongs to this family, in any letter case."""
        return any(part in model.lower() for part in self.parts)


# Facts of later families replace those of earlier ones.
KNOWN_FACTS = (
    KnownFacts(
        parts=("qwen/qwen3-4b-thinking-2507",),
        facts=ModelFacts(thinks_in_text=True),
        reason="The opening tag is part of the prompt, so that the reply only has the "
        "closing one; Nscale serves the model without a reasoning parser.",
        source="https://huggingface.co/Qwen/Qwen3-4B-Thinking-2507",
        checked="2026-11-25",
    ),
    KnownFacts(
        parts=("qwen3-embedding",),
        facts=ModelFacts(query_instruction=WEB_SEARCH, shortens_vectors=True),
        reason="Queries are embedded with an instruction (the authors measured 1 to 5 % "
        "better results), documents as they are; any shorter length is supported.",
        source="https://huggingface.co/Qwen/Qwen3-Embedding-8B",
        checked="2026-11-25",
    ),
    KnownFacts(
        parts=("embed",),
        facts=ModelFacts(makes_vectors=True),
        reason="The model list does not say what a model is for; its embedding models "
        "have this word in their IDs.",
        source="https://inference.api.nscale.com/v1/models",
        checked="2026-09-14",
    ),
    KnownFacts(
        parts=("flux", "stable-diffusion", "sdxl"),
        facts=ModelFacts(makes_images=True),
        reason="Their prices are per megapixel, not per token.",
        source="https://inference.api.nscale.com/v1/models",
        checked="2026-09-14",
    ),
)


@lru_cache(maxsize=256)
def facts(model: str) -> ModelFacts:
    """Return what is known about a model with this ID, in any letter case."""
    known = (family.facts for family in KNOWN_FACTS if family.includes(model))
    return ModelFacts(
        **{
            field.name: getattr(one, field.name)
            for one in known
            for field in fields(one)
            if getattr(one, field.name) != field.default
        }
    )


# --- profiles ---------------------------------------------------------------------------

_NOTHING: dict[str, object] = {}
_BY_ID = {model.lower(): profile for model, profile in _PROFILES.items()}

_NAMES = {profile.get("name") for profile in _PROFILES.values()}


def known_profile(model: str) -> ModelProfile:
    """Return the profile of a model, to read only; empty if unknown."""
    return cast("ModelProfile", _BY_ID.get(model.lower(), _NOTHING))


def find_profile(model: str) -> ModelProfile | None:
    """Return the profile of a model by ID in any letter case, or `None` if unknown."""
    profile = _BY_ID.get(model.lower())
    return None if profile is None else cast("ModelProfile", dict(profile))


def is_known_model(model: str) -> bool:
    """Return whether an ID is exactly that of a model with a profile."""
    return model in _PROFILES


def is_known_profile(profile: Mapping[str, Any]) -> bool:
    """Return whether a profile is exactly that of a known model."""
    return profile.get("name") in _NAMES and any(
        profile == known for known in _BY_ID.values()
    )
