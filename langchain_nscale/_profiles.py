"""Which model can do what. Pure: the data is in `data/_profiles.py`."""

from __future__ import annotations

import re
from typing import cast

from langchain_core.language_models import ModelProfile

from langchain_nscale.data._profiles import _PROFILES

# Models that write their reasoning into the text, with the opening tag in the prompt.
_THINKING_IN_TEXT = {"qwen/qwen3-4b-thinking-2507"}

# Models whose chat template refuses a system message that isn't the first.
_SYSTEM_FIRST = re.compile(r"qwen3|mistral|mixtral|devstral", re.IGNORECASE)

_BY_ID = {model.lower(): profile for model, profile in _PROFILES.items()}


def find_profile(model: str) -> ModelProfile | None:
    """What is known of a model, whatever the letter case of its id; `None`: nothing."""
    profile = _BY_ID.get(model.lower())
    return None if profile is None else cast("ModelProfile", dict(profile))


def thinks_in_text(model: str) -> bool:
    """Whether a model writes its reasoning into the text, before a `</think>`."""
    return model.lower() in _THINKING_IN_TEXT


def system_first(model: str) -> bool:
    """Whether a model's template takes one system message only, and that first."""
    return _SYSTEM_FIRST.search(model) is not None
