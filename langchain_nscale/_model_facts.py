"""Everything known about a model from its ID. Pure; the profiles are in `data/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.language_models import ModelProfile

from langchain_nscale.data._profiles import _PROFILES

# Models that write their reasoning into the text; the prompt has the opening tag.
_THINKING_IN_TEXT = {"qwen/qwen3-4b-thinking-2507"}

# Models whose chat template rejects a system message that is not the first message.
_SYSTEM_FIRST = ("qwen3", "mistral", "mixtral", "devstral")

# Models that expect an instruction with each query, in their authors' format. Their
# vectors can be truncated, because the first dimensions carry the most information.
_INSTRUCTED = "qwen3-embedding"
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"

_IMAGE_MODELS = ("flux", "stable-diffusion", "sdxl")

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


def thinks_in_text(model: str) -> bool:
    """Return whether a model writes its reasoning into the text, before `</think>`."""
    return model.lower() in _THINKING_IN_TEXT


def system_first(model: str) -> bool:
    """Return whether a model's template only accepts a system message that is first."""
    return any(family in model.lower() for family in _SYSTEM_FIRST)


def default_query_instruction(model: str) -> str:
    """Return the instruction that an embedding model expects with queries, or `""`."""
    return WEB_SEARCH if _INSTRUCTED in model.lower() else ""


def can_shorten_vectors(model: str) -> bool:
    """Return whether an embedding model's vectors can be truncated."""
    return _INSTRUCTED in model.lower()


def is_embedding_model(model: str) -> bool:
    """Return whether an ID looks like that of an embedding model."""
    return "embed" in model.lower()


def is_image_model(model: str) -> bool:
    """Return whether an ID looks like that of a model that generates images."""
    return any(family in model.lower() for family in _IMAGE_MODELS)
