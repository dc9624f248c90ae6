"""`chat`: a single answer."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Sequence
from typing import Any

import click
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import BaseMessage, SystemMessage

from langchain_nscale import ChatNscale, errors
from langchain_nscale._cli.answer import ask, error_object
from langchain_nscale._cli.commands import DEFAULT_MODEL
from langchain_nscale._cli.display import Silent, display_for
from langchain_nscale._cli.exits import API_ERROR, INTERRUPTED
from langchain_nscale._cli.files import (
    default_model,
    last_conversation,
    store_conversation,
)
from langchain_nscale._cli.inputs import (
    ChatOptions,
    parse_message,
    read_schema,
    user_message,
)
from langchain_nscale._cli.terminal import echo


def main(options: ChatOptions) -> int:
    """Run `chat`; return the exit code."""
    messages = [parse_message(text) for text in options.messages]
    name = options.model
    if options.resume:
        last, earlier = last_conversation()
        name = last if name == default_model(DEFAULT_MODEL) else name
        messages = [*earlier, *messages]
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
        model = ChatNscale(model=name, **settings, **options.sampling())
        if options.interactive:
            from langchain_nscale._cli.session import Session  # noqa: PLC0415  # slow

            return Session(model, messages, options, schema).run()
        return answer_once(model, messages, options, schema)


def _prompt(options: ChatOptions) -> str | None:
    """Return the prompt, followed by what is piped in."""
    if options.interactive or "-" in options.images:  # they read it themselves
        return options.prompt
    if options.prompt == "-":
        return sys.stdin.read().strip()
    parts = [options.prompt or "", _piped().strip()]
    return "\n\n".join(part for part in parts if part) or options.prompt


def _piped() -> str:
    """Return what is piped in; a terminal or another device is not read."""
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
        is_input = stat.S_ISFIFO(kind) or stat.S_ISREG(kind) or stat.S_ISSOCK(kind)
    except (OSError, ValueError):  # not a file
        is_input = not sys.stdin.isatty()
    try:
        return sys.stdin.read() if is_input else ""
    except (OSError, ValueError):  # closed
        return ""


def answer_once(
    model: ChatNscale,
    messages: Sequence[BaseMessage],
    options: ChatOptions,
    schema: dict[str, Any] | None,
) -> int:
    """Print one answer in the requested form; return the exit code."""
    is_silent = options.as_json or options.extract
    display = Silent() if is_silent else display_for(reasoning=options.reasoning)
    stream = not options.no_stream
    try:
        answer = ask(model, messages, display, stream=stream, schema=schema)
    except (errors.NscaleError, OutputParserException) as error:
        if not options.as_json:
            raise
        echo(json.dumps({"error": error_object(error)}, ensure_ascii=False))
        return API_ERROR
    if options.log and not answer.interrupted:
        store_conversation(model.model_name, [*messages, answer.message()])
    if options.extract:
        echo(first_code_block(answer.text))
    elif options.as_json:
        echo(json.dumps(answer.as_dict(model), ensure_ascii=False))
    elif options.stats:
        echo(json.dumps(answer.stats(model)), err=True)
    return INTERRUPTED if answer.interrupted else 0


_CODE = re.compile(r"(?ms)^[ \t]*(```|~~~)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$")


def first_code_block(text: str) -> str:
    """Return the content of the first code block, or the text if it has none."""
    found = _CODE.search(text)
    return (found[2] if found else text).removesuffix("\n")
