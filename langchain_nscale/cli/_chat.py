"""`chat`: one answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import BaseMessage, SystemMessage

from langchain_nscale import ChatNscale, NscaleError
from langchain_nscale.cli import API_ERROR, INTERRUPTED
from langchain_nscale.cli._answer import ask, error_object
from langchain_nscale.cli._display import Silent, display_for
from langchain_nscale.cli._model import (
    connection,
    parse_message,
    read_schema,
    sampling,
    user_message,
)


def _prompt(given: str | None, options: dict[str, Any]) -> str | None:
    """The prompt: as given, or from standard input."""
    if given == "-":
        return sys.stdin.read().strip()
    alone = not (given or options["messages"] or options["interactive"])
    if alone and not sys.stdin.isatty():
        return sys.stdin.read().strip()
    return given


def main(prompt: str | None, **options: Any) -> int:
    """Run `chat`; return the exit code."""
    messages = [parse_message(text) for text in options["messages"]]
    if options["system"]:
        messages.insert(0, SystemMessage(options["system"]))
    prompt = _prompt(prompt, options)
    if prompt or options["images"]:
        messages.append(user_message(prompt or "", options["images"]))
    elif not messages and not options["interactive"]:
        msg = "There is no prompt: give PROMPT, --message, -i, or text by a pipe."
        raise click.UsageError(msg)
    schema = read_schema(options["schema"]) if options["schema"] else None
    with connection(options) as settings:
        model = ChatNscale(model=options["model"], **settings, **sampling(options))
        if options["interactive"]:
            from langchain_nscale.cli._session import Session  # noqa: PLC0415  # not for one answer

            return Session(model, messages, options, schema).run()
        return answer_once(model, messages, options, schema)


def answer_once(
    model: ChatNscale,
    messages: Sequence[BaseMessage],
    options: dict[str, Any],
    schema: dict[str, Any] | None,
) -> int:
    """One answer, in the form that options ask for; return the exit code."""
    as_json = options["as_json"]
    display = Silent() if as_json else display_for(reasoning=options["reasoning"])
    stream = not options["no_stream"]
    try:
        answer = ask(model, messages, display, stream=stream, schema=schema)
    except (NscaleError, OutputParserException) as error:
        if not as_json:
            raise
        click.echo(json.dumps({"error": error_object(error)}, ensure_ascii=False))
        return API_ERROR
    if as_json:
        click.echo(json.dumps(answer.as_dict(model), ensure_ascii=False))
    if options["stats"] and not as_json:
        click.echo(json.dumps(answer.stats(model)), err=True)
    return INTERRUPTED if answer.interrupted else 0
