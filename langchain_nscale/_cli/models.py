"""`models`: the model list as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langchain_nscale import NscaleModel, list_models
from langchain_nscale._cli.answer import retries_shown
from langchain_nscale._cli.exits import API_ERROR
from langchain_nscale._cli.inputs import ModelsOptions
from langchain_nscale._cli.terminal import echo, text_for

_FILE_WIDTH = 200  # characters; wide enough that nothing wraps outside a terminal
_ID_WIDTH = 32  # characters; fits on any terminal
LEGEND = "Prices in US dollars. T: tools, R: reasoning, I: images, -: no, ?: unknown."
_PRICES = ("input_price", "output_price")
_CAPABILITIES = {
    "tools": "tool_calling",
    "reasoning": "reasoning_output",
    "images": "image_inputs",
}


def main(options: ModelsOptions) -> int:
    """Run `models`; return the exit code."""
    with options.settings() as settings, retries_shown(partial(echo, err=True)):
        matches = [
            model
            for model in list_models(**settings)
            if (options.part or "").lower() in model.id.lower()
            and options.kind in (None, model.kind)
        ]
    if not matches:
        wanted = " and ".join(
            ([f"{options.part!r} in its ID"] if options.part else [])
            + ([f"kind {options.kind}"] if options.kind else [])
        )
        click.echo(f"No model has {wanted}." if wanted else "No models.", err=True)
    if options.as_json:
        click.echo(json.dumps([_as_dict(model) for model in matches], indent=1))
    elif matches:
        console = Console()
        if not console.is_terminal:
            console.width = _FILE_WIDTH
        console.print(models_table(matches))
        click.echo(LEGEND)
    return 0 if matches else API_ERROR


def models_table(models: Sequence[NscaleModel]) -> Table:
    """Return a table of models."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True, overflow="fold", min_width=_ID_WIDTH)
    table.add_column("kind")
    for title in ("context", "in $", "out $"):
        table.add_column(title, justify="right")
    table.add_column("can", no_wrap=True)
    for model in models:
        values = _as_dict(model)
        context = values.get("context_length")
        table.add_row(
            _plain(model.id),
            _plain(model.kind or "?"),
            f"{context / 1000:,.0f}K" if context else "?",
            *(f"{values[key]:g}" if key in values else "?" for key in _PRICES),
            "".join(_mark(key, values.get(key)) for key in _CAPABILITIES),
        )
    return table


def _mark(capability: str, value: object) -> str:
    """Return the first letter of a capability, - without it, ? if that is unknown."""
    if value is None:
        return "?"
    return capability[0].upper() if value else "-"


def _plain(text: str) -> Text:
    """Return a text from the service without markup and control characters."""
    return Text(text_for(sys.stdout, text))


def _as_dict(model: NscaleModel) -> dict[str, Any]:
    profile = model.profile or {}
    values = {
        "id": model.id,
        "kind": model.kind,
        "owned_by": model.owned_by,
        "created": model.created.isoformat() if model.created else None,
        "context_length": model.context_length,
        **{
            key: None if (price := getattr(model, key)) is None else float(price)
            for key in _PRICES
        },
        **{key: profile.get(name) for key, name in _CAPABILITIES.items()},
    }
    return {key: value for key, value in values.items() if value is not None}
