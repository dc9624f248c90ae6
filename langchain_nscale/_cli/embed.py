"""`embed`: vectors of texts, one JSON object per line."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from functools import partial

import click

from langchain_nscale import NscaleEmbeddings
from langchain_nscale._cli.answer import retries_shown
from langchain_nscale._cli.inputs import EmbedOptions
from langchain_nscale._cli.stdin import decoded, waiting_noted
from langchain_nscale._cli.terminal import echo


def main(options: EmbedOptions) -> int:
    """Run `embed`; return the exit code."""
    text = ""
    if options.file:
        with waiting_noted() if options.file is sys.stdin.buffer else nullcontext():
            text = decoded(options.file.read())
    texts = [*options.texts, *(line for line in text.split("\n") if line.strip())]
    if not texts:
        msg = "There is nothing to embed: pass TEXTS or --file."
        raise click.UsageError(msg)
    with options.settings() as settings, retries_shown(partial(echo, err=True)):
        embeddings = NscaleEmbeddings(
            model=options.model, dimensions=options.dimensions, **settings
        )
        if options.query:
            vectors = [embeddings.embed_query(text) for text in texts]
        else:
            vectors = embeddings.embed_documents(texts)
    for index, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        line = {"index": index, "text": text, "embedding": vector}
        click.echo(json.dumps(line, ensure_ascii=False))
    return 0
