"""Formats usage as a table of plain text."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from langchain_nscale._usage.ledger import ModelUsage

_ALWAYS_SHOWN = {"model", "calls", "input", "output", "US dollars"}
_SMALL = Decimal("0.001")  # US dollars; smaller amounts are shown with more digits
_COLUMNS = (
    "model",
    "calls",
    "errors",
    "retries",
    "input",
    "cached",
    "output",
    "reasoning",
    "first token",
    "mean time",
    "US dollars",
)


def total_usage(by_model: Mapping[str, ModelUsage]) -> ModelUsage:
    """Return the sum over all models."""
    return sum(by_model.values(), ModelUsage())


def usage_table(by_model: Mapping[str, ModelUsage]) -> str:
    """Format usage with a row for each model, and a total for several."""
    rows = [_row(model, usage) for model, usage in by_model.items()]
    if len(by_model) > 1:
        rows.append(_row("total", total_usage(by_model)))
    # Omit columns with only zeros.
    columns = [
        column
        for column in zip(_COLUMNS, *rows, strict=True)
        if column[0] in _ALWAYS_SHOWN or set(column[1:]) - {"0", "-"}
    ]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    )


def _row(model: str, usage: ModelUsage) -> tuple[str, ...]:
    counts = (
        usage.calls,
        usage.failed,
        usage.retries,
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )
    means = (usage.mean_seconds_to_first_token, usage.mean_seconds)
    times = ("-" if mean is None else f"{mean:.2f} s" for mean in means)
    cost = f"{usage.known_cost:.{6 if usage.known_cost > _SMALL else 9}f}"
    if usage.cost is None:
        cost = f"at least {cost}" if usage.known_cost else "unknown"
    return (model, *(f"{count:,}" for count in counts), *times, cost)
