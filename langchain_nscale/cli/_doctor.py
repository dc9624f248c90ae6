"""`doctor`: what is in order, and what isn't."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import click

from langchain_nscale import ChatNscale, NscaleError
from langchain_nscale.cli import API_ERROR, what_is_wrong
from langchain_nscale.cli._model import connection

_PACKAGES = ("langchain-nscale", "langchain-core", "langchain-openai", "openai", "httpx2")
_VARIABLES = ("NSCALE_SERVICE_TOKEN", "NSCALE_API_KEY")
_SHOWN = 4  # characters of the token at either end
_LONG = 16  # a token shorter than this is hidden whole

Check = tuple[str, Callable[[], str]]


def examine(model: str, **options: Any) -> int:
    """Print a line for each thing; return 1 if one is out of order."""
    failed = False
    with connection(options) as settings:
        for name, check in _checks(model, options, settings):
            try:
                said, good = check(), True
            except (NscaleError, ValueError, AssertionError) as error:
                said, good = what_is_wrong(error), False
            failed |= not good
            mark = (
                click.style("ok  ", fg="green") if good else click.style("FAIL", fg="red")
            )
            click.echo(f"{mark} {name}: {said}")
    return API_ERROR if failed else 0


def _checks(
    model: str, options: dict[str, Any], settings: dict[str, Any]
) -> Iterator[Check]:
    yield "versions", _versions
    yield "token", lambda: _token(options)
    try:
        asked = ChatNscale(model=model, max_tokens=32, max_retries=0, **settings)
    except ValueError:
        return  # the token's line has said it
    yield "API", lambda: _reach(asked)
    yield "answer", lambda: _answer(asked)
    yield "stream", lambda: _stream(asked)
    yield "tools", lambda: _tool(asked)


def _versions() -> str:
    found = [f"{name} {version(name)}" for name in _PACKAGES]
    return f"{', '.join(found)}, Python {platform.python_version()}"


def _token(options: dict[str, Any]) -> str:
    if options.get("local"):
        return "the stand-in server's"
    if token := options.get("token"):
        return f"{masked(token)} by --token, which others see in the list of processes"
    for name in _VARIABLES:
        if token := os.environ.get(name):
            return f"{masked(token)} from {name}"
    msg = "there is none: set NSCALE_SERVICE_TOKEN. Tokens are made in Nscale's console."
    raise ValueError(msg)


def masked(token: str) -> str:
    """A token as it may be shown: its ends, if it is long enough to hide the rest."""
    if len(token) < _LONG:
        return "****"
    return f"{token[:_SHOWN]}…{token[-_SHOWN:]}"


def _reach(model: ChatNscale) -> str:
    models = model.list_models(refresh=True)
    listed = any(listed.id == model.model_name for listed in models)
    known = "is one" if listed else "isn't one"
    return f"{model.base_url} lists {len(models)} models; {model.model_name} {known}"


def _answer(model: ChatNscale) -> str:
    reply = model.invoke("Say hello in one word.")
    used = reply.usage_metadata
    tokens = f", {used['total_tokens']} tokens" if used else ", usage not reported"
    return f"{reply.text.strip()[:40]!r}{tokens}"


def _stream(model: ChatNscale) -> str:
    chunks = sum(1 for chunk in model.stream("Count to three.") if chunk.text)
    return f"{chunks} pieces"


def _tool(model: ChatNscale) -> str:
    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        return city

    reply = model.bind_tools([get_weather]).invoke(
        "Call get_weather to tell the weather in Paris."
    )
    if not reply.tool_calls:
        msg = "the model didn't call the tool; it may not be able to"
        raise ValueError(msg)
    return f"called {reply.tool_calls[0]['name']}"
