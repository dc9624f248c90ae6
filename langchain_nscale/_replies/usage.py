"""Reads the `usage` of a reply: the only parser of it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

_MAX = 2**63  # a larger number is not a count, and breaks checkpoints
# The names of each figure, Nscale's and vLLM's first.
_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
)
# The names of each detail, first within the objects above, then beside the totals:
# DeepSeek's, Moonshot's, Anthropic's and SGLang's (litellm#16129).
_INPUT_NAMES = {
    "cache_read": (
        ("cached_tokens", "cache_read"),
        ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"),
    ),
    "cache_creation": (
        ("cache_creation_tokens", "cache_creation"),
        ("cache_creation_input_tokens",),
    ),
    "audio": (("audio_tokens", "audio"), ()),
}
_OUTPUT_NAMES = {
    "reasoning": (("reasoning_tokens", "reasoning"), ("reasoning_tokens",)),
    "audio": (("audio_tokens", "audio"), ()),
}


def usage_metadata(usage: object, *, has_output: bool = True) -> UsageMetadata | None:
    """Convert a reply's `usage` to LangChain's form, `None` if a figure is unknown.

    Figures can be integers, floats without a fraction, or such numbers as strings. Any
    other value counts as absent, and an absent figure is derived from the other two.
    """
    if not isinstance(usage, Mapping):
        return None
    input_tokens = _first(usage, _INPUT)
    output_tokens = _first(usage, _OUTPUT) if has_output else 0
    total = _count(usage.get("total_tokens"))
    if input_tokens is None:
        input_tokens = _difference(total, output_tokens)
    if output_tokens is None:
        output_tokens = _difference(total, input_tokens)
    if input_tokens is None or output_tokens is None:
        return None
    counted = input_tokens + output_tokens
    input_details: Any = _details(usage, _INPUT_DETAILS, _INPUT_NAMES)
    output_details: Any = _details(usage, _OUTPUT_DETAILS, _OUTPUT_NAMES)
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": counted if total is None else max(total, counted),
        "input_token_details": input_details,
        "output_token_details": output_details,
    }


def add_counts(total: Any, value: Any) -> Any:
    """Add the figures of two `usage` objects, nested ones included."""
    if isinstance(total, dict) and isinstance(value, dict):
        return {k: add_counts(total.get(k), value.get(k)) for k in {**total, **value}}
    if isinstance(total, (int, float)) and isinstance(value, (int, float)):
        return total + value
    return total if value is None else value


def _details(
    usage: Mapping[str, object],
    places: tuple[str, ...],
    names: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
) -> dict[str, int]:
    details: Mapping[str, object] = {}
    for place in places:
        if place in usage and isinstance(found := usage[place], Mapping):
            details = found
            break
    counts = {}
    for key, (inside, beside) in names.items():
        count = _first(details, inside) if details else None
        if count is None:
            count = _first(usage, beside)
        if count is not None:
            counts[key] = count
    return counts


def _first(source: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in source and (count := _count(source[name])) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    """Return a number of tokens, or `None` if the value is not one."""
    if type(value) is int and 0 <= value < _MAX:
        return value
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not isfinite(value) or not 0 <= value < _MAX or value != int(value):
        return None
    return int(value)


def _difference(total: int | None, part: int | None) -> int | None:
    if total is None or part is None or total < part:
        return None
    return total - part
