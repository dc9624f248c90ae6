"""`models`, `embed` and `serve`: small commands around the API."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any, TextIO

import click
from rich.console import Console
from rich.table import Table

from langchain_nscale import NscaleEmbeddings, NscaleModel, list_models
from langchain_nscale.cli._model import connection


def show_models(
    part: str | None, *, kind: str | None, as_json: bool, **options: Any
) -> int:
    """Show the model list as a table or as JSON."""
    with connection(options) as settings:
        found = [
            model
            for model in list_models(**settings)
            if (part or "").lower() in model.id.lower() and kind in (None, model.kind)
        ]
    if as_json:
        click.echo(json.dumps([_as_dict(model) for model in found], indent=1))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = _WIDE
        console.print(models_table(found))
    return 0


def models_table(models: Sequence[NscaleModel]) -> Table:
    """A table of models."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True, overflow="fold", min_width=_LONGEST_ID)
    table.add_column("kind")
    for title in ("context", "input $", "output $"):
        table.add_column(title, justify="right")
    for title in ("tools", "reasoning", "images"):
        table.add_column(title)
    for model in models:
        found = _as_dict(model)
        context = found.get("context_length")
        table.add_row(
            model.id,
            model.kind or "?",
            f"{context:,}" if context else "?",
            *(f"{found[key]:g}" if key in found else "?" for key in _PRICES),
            *(_YES_OR_NO.get(str(found.get(key)), "?") for key in _ABILITIES),
        )
    return table


_WIDE = 200  # characters; a file has no edge
_LONGEST_ID = 32  # characters for which there is room on any terminal
_YES_OR_NO = {"True": "yes", "False": "no"}
_PRICES = ("input_price", "output_price")
_ABILITIES = {
    "tools": "tool_calling",
    "reasoning": "reasoning_output",
    "images": "image_inputs",
}


def _as_dict(model: NscaleModel) -> dict[str, Any]:
    profile = model.profile or {}
    found = {
        "id": model.id,
        "kind": model.kind,
        "owned_by": model.owned_by,
        "created": model.created.isoformat() if model.created else None,
        "context_length": model.context_length,
        **{
            key: None if (price := getattr(model, key)) is None else float(price)
            for key in _PRICES
        },
        **{key: profile.get(name) for key, name in _ABILITIES.items()},
    }
    return {key: value for key, value in found.items() if value is not None}


def embed_texts(
    texts: Sequence[str],
    *,
    model: str,
    file: TextIO | None,
    dimensions: int | None,
    query: bool,
    **options: Any,
) -> int:
    """Print an object with index, text and embedding for each text."""
    every = [*texts, *(line.rstrip("\n") for line in file or () if line.strip())]
    if not every:
        msg = "There is nothing to embed: give TEXTS or --file."
        raise click.UsageError(msg)
    with connection(options) as settings:
        embeddings = NscaleEmbeddings(model=model, dimensions=dimensions, **settings)
        if query:
            vectors = [embeddings.embed_query(text) for text in every]
        else:
            vectors = embeddings.embed_documents(every)
    for index, (text, vector) in enumerate(zip(every, vectors, strict=True)):
        line = {"index": index, "text": text, "embedding": vector}
        click.echo(json.dumps(line, ensure_ascii=False))
    return 0


def serve_stand_in(port: int) -> int:
    """Run the stand-in server until Ctrl-C."""
    from langchain_nscale.testing import NscaleServer  # noqa: PLC0415  # only here

    with NscaleServer(port=port) as server:
        click.echo(f"export NSCALE_BASE_URL={server.base_url}")
        click.echo(f"export NSCALE_SERVICE_TOKEN={server.token}")
        click.echo("The stand-in server answers by rule. Ctrl-C stops it.", err=True)
        threading.Event().wait()
    return 0
