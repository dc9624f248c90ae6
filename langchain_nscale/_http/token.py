"""The service token: where it comes from and which characters it can have."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from pydantic import SecretStr

Token = str | SecretStr | Callable[[], str] | Callable[[], Awaitable[str]]

TOKEN_VARIABLES = ("NSCALE_SERVICE_TOKEN", "NSCALE_API_KEY")
_QUOTES = "\"'`"
NO_CREDENTIALS = (
    "The service token is missing: set `service_token` or NSCALE_SERVICE_TOKEN. Create a "
    "token at https://console.nscale.com/."
)


def missing_token() -> str:
    """Return the message for a missing token, with a similar variable if one is set."""
    for name in sorted(os.environ.keys() - set(TOKEN_VARIABLES)):
        if name.startswith("NSCALE_") and name.endswith(("TOKEN", "KEY")):
            return f"{NO_CREDENTIALS} {name} is set, but not read."
    return NO_CREDENTIALS


def check_token(token: object) -> SecretStr:
    """Return a token as a secret, without surrounding white space, if it is valid."""
    # Crash reporters show the variables of every frame in which an error is raised, so
    # only a frame that raises nothing has the text of the token.
    token = hidden(token)
    if problem := _problem(token):
        raise ValueError(problem)
    return cast("SecretStr", token)


def hidden(value: object) -> object:
    """Return a text as a secret, without white space around; else the value's class."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return type(text)
    is_hidden = text is not value and text == text.strip()
    return value if is_hidden else SecretStr(text.strip())


def hide_tokens(settings: dict[str, Any]) -> None:
    """Replace the tokens among settings by secrets, before any frame shows them."""
    for name in ("service_token", "api_key"):
        value = settings.get(name)
        if value is not None and not callable(value):
            value = settings[name] = hidden(value)
            if isinstance(value, type):
                msg = f"`{name}` takes a string or a callable, not {value.__name__}."
                raise ValueError(msg)


def _problem(secret: object) -> str | None:
    """Say what is wrong with a token, without quoting it."""
    token = secret.get_secret_value() if isinstance(secret, SecretStr) else ""
    if not token:
        return missing_token()
    if token[0] in _QUOTES and token[0] == token[-1]:
        return (
            "The service token begins and ends with a quotation mark: remove them from "
            "`service_token` or NSCALE_SERVICE_TOKEN. `docker run --env-file` does not "
            "remove the quotes of a file."
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        return (
            "The service token contains invalid characters (spaces, line ends or "
            "non-ASCII): check `service_token` or NSCALE_SERVICE_TOKEN."
        )
    return None


def token_from_environment() -> SecretStr | None:
    """Return the token set in the environment, if any."""
    for variable in TOKEN_VARIABLES:
        if os.environ.get(variable):
            return check_token(SecretStr(os.environ[variable]))
    return None


def resolve_token(token: Token) -> SecretStr:
    """Return the token, calling it first if it is a callable; that can't be async."""
    if isinstance(token, (str, SecretStr)):
        return check_token(token) if isinstance(token, str) else token
    with _naming_the_setting():
        value = _called(token)
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        msg = (
            "`service_token` is an async callable, which only works with ainvoke, "
            "astream and abatch. For invoke, stream and batch use a sync callable."
        )
        raise TypeError(msg)
    return _check_returned(value)


def _called(token: Callable[[], Any]) -> Any:
    """Call a user's callable; hide the token that it returns."""
    value = token()
    return value if inspect.isawaitable(value) else hidden(value)


def _check_returned(value: object) -> SecretStr:
    """Return what a user's callable returned, if it is a token; see `hidden`."""
    if isinstance(value, SecretStr) and value.get_secret_value():
        return check_token(value)
    kind = value.__name__ if isinstance(value, type) else "an empty text"
    msg = (
        f"The callable passed as `service_token` returned {kind}, not a token: return a "
        "string, or set NSCALE_SERVICE_TOKEN instead."
    )
    raise ValueError(msg)


@contextmanager
def _naming_the_setting() -> Iterator[None]:
    """Say in the traceback of a user's callable what it was called for."""
    try:
        yield
    except Exception as error:
        if sys.version_info >= (3, 11):
            error.add_note("It was raised by the callable passed as `service_token`.")
        raise


async def aresolve_token(token: Token) -> SecretStr:
    """Async version of `resolve_token`, which awaits async callables."""
    if isinstance(token, (str, SecretStr)):
        return resolve_token(token)
    call: Any = getattr(token, "__call__", token)  # noqa: B004  # of an object with one
    with _naming_the_setting():
        if inspect.iscoroutinefunction(token) or inspect.iscoroutinefunction(call):
            value: Any = token()
        else:  # it may block, and must not hold up the event loop
            value = await asyncio.to_thread(_called, token)
        if inspect.isawaitable(value):
            value = hidden(await value)
    return _check_returned(value)
