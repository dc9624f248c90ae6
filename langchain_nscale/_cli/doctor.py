"""`doctor`: checks the installation, token and API."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import click

from langchain_nscale import errors
from langchain_nscale._cli.commands import DEFAULT_MODEL
from langchain_nscale._cli.exits import API_ERROR, error_text
from langchain_nscale._cli.inputs import DoctorOptions
from langchain_nscale._cli.model import Model
from langchain_nscale._cli.terminal import harmless
from langchain_nscale._http.token import TOKEN_VARIABLES, missing_token
from langchain_nscale._replies.reply import Reply
from langchain_nscale._replies.tool_calls import parse_tool_calls
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.whole import join_tool_calls

_PACKAGES = ("langchain-nscale", "langchain-core", "langchain-openai", "openai", "httpx2")
_VISIBLE = 4  # characters of the token shown at either end
_MIN_MASKED = 16  # a shorter token is hidden completely

_CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": _CITY}}

Check = tuple[str, Callable[[], str]]


def main(options: DoctorOptions) -> int:
    """Print the result of each check; return 1 if one failed."""
    failed = False
    with options.settings() as settings:
        for name, check in _checks(options, settings):
            try:
                text, passed = check(), True
            except (errors.NscaleError, ValueError, AssertionError) as error:
                text, passed = error_text(error), False
            failed |= not passed
            mark = (
                click.style("ok  ", fg="green")
                if passed
                else click.style("FAIL", fg="red")
            )
            click.echo(f"{mark} {name}: {harmless(text)}")
    return API_ERROR if failed else 0


def _checks(options: DoctorOptions, settings: dict[str, Any]) -> Iterator[Check]:
    yield "versions", _versions
    yield "token", lambda: _token(options)
    try:
        model = Model(model=options.model, max_tokens=32, max_retries=0, **settings)
    except ValueError as error:
        if options.local or options.token or _token_variable():
            yield "settings", partial(_fail, error)  # else the token has been reported
        return
    yield "API", lambda: _reach(model)
    if options.model == DEFAULT_MODEL and (listed := _first_chat_model(model)):
        yield "model", lambda: f"{listed}, as the default is not listed"
        model = model.model_copy(update={"model_name": listed})
    yield "answer", lambda: _answer(model)
    yield "stream", lambda: _stream(model)
    yield "tools", lambda: _tool(model)


def _versions() -> str:
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    return f"{', '.join(versions)}, Python {platform.python_version()}"


def _token(options: DoctorOptions) -> str:
    if options.local:
        return "the stand-in server's"
    if options.token:
        return (
            f"{masked(options.token)} from --token, which other users can see in the "
            "process list"
        )
    if name := _token_variable():
        return f"{masked(os.environ[name])} from {name}"
    raise ValueError(missing_token())


def _token_variable() -> str | None:
    return next((name for name in TOKEN_VARIABLES if os.environ.get(name)), None)


def _fail(error: ValueError) -> str:
    raise error


def masked(token: str) -> str:
    """Return the ends of a token, if it is long enough to hide the rest."""
    if len(token) < _MIN_MASKED:
        return "****"
    return f"{token[:_VISIBLE]}…{token[-_VISIBLE:]}"


def _first_chat_model(model: Model) -> str | None:
    """Return another model if the service does not list the default one."""
    with suppress(errors.NscaleError):
        models = model.list_models()
        if not any(listed.id == model.model_name for listed in models):
            kinds = ("chat", None)  # `None` if the service does not tell
            return next((each.id for each in models if each.kind in kinds), None)
    return None


def _reach(model: Model) -> str:
    models = model.list_models(refresh=True)
    listed = any(listed.id == model.model_name for listed in models)
    note = "is one of them" if listed else "is not one of them"
    return f"{model.base_url} lists {len(models)} models; {model.model_name} {note}"


def _ask(model: Model, prompt: str, **call: Any) -> tuple[list[str], Reply]:
    """Return the texts of a reply, and the reply."""
    items = model.ask([{"role": "user", "content": prompt}], **call)
    (reply,) = (item for item in items if isinstance(item, Reply))
    return [delta.text for delta in reply.deltas if delta.kind == "text"], reply


def _answer(model: Model) -> str:
    texts, reply = _ask(model, "Say hello in one word.", stream=False)
    usage = usage_metadata(reply.reported_usage)
    tokens = f", {usage['total_tokens']} tokens" if usage else ", usage not reported"
    return f"{''.join(texts).strip()[:40]!r}{tokens}"


def _stream(model: Model) -> str:
    return f"{len(_ask(model, 'Count to three.')[0])} chunks"


def _tool(model: Model) -> str:
    prompt = "Call get_weather to find out the weather in Paris."
    _, reply = _ask(model, prompt, stream=False, tools=[_TOOL])
    calls, _ = parse_tool_calls(join_tool_calls(reply.deltas).values(), reply.problems())
    if not calls:
        msg = "the model didn't call the tool; it may not support tool calls"
        raise ValueError(msg)
    return f"called {calls[0]['name']}"
