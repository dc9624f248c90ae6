"""`chat`: a single answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from langchain_core.exceptions import OutputParserException

from langchain_nscale import errors
from langchain_nscale._cli.answer import ask, print_answer, print_error
from langchain_nscale._cli.commands import DEFAULT_MODEL
from langchain_nscale._cli.display import display_for
from langchain_nscale._cli.exits import API_ERROR, INTERRUPTED
from langchain_nscale._cli.files import (
    default_model,
    last_conversation,
    store_conversation,
)
from langchain_nscale._cli.inputs import (
    ChatOptions,
    Message,
    parse_message,
    read_schema,
    user_message,
)
from langchain_nscale._cli.model import Model
from langchain_nscale._cli.stdin import piped_text, read_text


def main(options: ChatOptions) -> int:
    """Run `chat`; return the exit code."""
    messages = [parse_message(text) for text in options.messages]
    name = options.model
    if options.resume:
        last, earlier = last_conversation()
        name = last if name == default_model(DEFAULT_MODEL) else name
        messages = [*earlier, *messages]
    if options.system:
        messages.insert(0, {"role": "system", "content": options.system})
    prompt = _prompt(options)
    if prompt or options.images:
        messages.append(user_message(prompt or "", options.images))
    elif not messages and not options.interactive:
        msg = "There is no prompt: pass PROMPT, --message or -i, or pipe text in."
        raise click.UsageError(msg)
    sampling = options.sampling()
    if sampling.get("extra_body", {}).get("n", 1) != 1:
        msg = "chat shows one answer. `batch` keeps all that n asks for."
        raise click.BadParameter(msg, param_hint="-o")
    schema = read_schema(options.schema) if options.schema else None
    with options.settings() as settings:
        model = Model(model=name, **settings, **sampling)
        if options.interactive:
            from langchain_nscale._cli.session import Session  # noqa: PLC0415  # slow

            return Session(model, messages, options, schema).run()
        return answer_once(model, messages, options, schema)


def _prompt(options: ChatOptions) -> str | None:
    """Return the prompt, followed by what is piped in."""
    if options.interactive or "-" in options.images:  # they read it themselves
        return options.prompt
    if options.prompt == "-":
        return read_text().strip()
    if options.no_stdin:
        return options.prompt
    is_needed = not options.prompt and not options.messages
    parts = [options.prompt or "", piped_text(is_needed=is_needed).strip()]
    return "\n\n".join(part for part in parts if part) or options.prompt


def answer_once(
    model: Model,
    messages: Sequence[Message],
    options: ChatOptions,
    schema: dict[str, Any] | None,
) -> int:
    """Print one answer in the requested form; return the exit code."""
    stream = not options.no_stream
    try:
        answer = ask(model, messages, display_for(options), stream=stream, schema=schema)
    except (errors.NscaleError, OutputParserException) as error:
        print_error(error, as_json=options.as_json)
        return API_ERROR
    if options.log and not answer.interrupted:
        store_conversation(model.model_name, [*messages, answer.message()])
    print_answer(answer, model, options)
    return INTERRUPTED if answer.interrupted else 0
