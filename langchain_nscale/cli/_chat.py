"""`chat`: a single answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import BaseMessage, SystemMessage

from langchain_nscale import ChatNscale
from langchain_nscale._lazy import errors
from langchain_nscale.cli._answer import ask, error_object
from langchain_nscale.cli._display import Silent, display_for
from langchain_nscale.cli._exits import API_ERROR, INTERRUPTED
from langchain_nscale.cli._inputs import (
    ChatOptions,
    parse_message,
    read_schema,
    user_message,
)
from langchain_nscale.cli._terminal import echo


def main(options: ChatOptions) -> int:
    """Run `chat`; return the exit code."""
    messages = [parse_message(text) for text in options.messages]
    if options.system:
        messages.insert(0, SystemMessage(options.system))
    prompt = _prompt(options)
    if prompt or options.images:
        messages.append(user_message(prompt or "", options.images))
    elif not messages and not options.interactive:
        msg = "There is no prompt: pass PROMPT, --message or -i, or pipe text in."
        raise click.UsageError(msg)
    schema = read_schema(options.schema) if options.schema else None
    with options.settings() as settings:
        model = ChatNscale(model=options.model, **settings, **options.sampling())
        if options.interactive:
            from langchain_nscale.cli._session import Session  # noqa: PLC0415  # slow

            return Session(model, messages, options, schema).run()
        return answer_once(model, messages, options, schema)


def _prompt(options: ChatOptions) -> str | None:
    """Return the prompt from the command line, or from standard input."""
    if options.prompt == "-":
        return sys.stdin.read().strip()
    has_input = options.prompt or options.messages or options.interactive
    if not has_input and not sys.stdin.isatty():
        return sys.stdin.read().strip()
    return options.prompt


def answer_once(
    model: ChatNscale,
    messages: Sequence[BaseMessage],
    options: ChatOptions,
    schema: dict[str, Any] | None,
) -> int:
    """Print one answer in the requested form; return the exit code."""
    display = Silent() if options.as_json else display_for(reasoning=options.reasoning)
    stream = not options.no_stream
    try:
        answer = ask(model, messages, display, stream=stream, schema=schema)
    except (errors.NscaleError, OutputParserException) as error:
        if not options.as_json:
            raise
        echo(json.dumps({"error": error_object(error)}, ensure_ascii=False))
        return API_ERROR
    if options.as_json:
        echo(json.dumps(answer.as_dict(model), ensure_ascii=False))
    elif options.stats:
        echo(json.dumps(answer.stats(model)), err=True)
    return INTERRUPTED if answer.interrupted else 0
