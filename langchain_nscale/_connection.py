"""How a model reaches the API: the settings that chat models and embeddings share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import httpx2
import jiter
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from typing_extensions import Self

from langchain_nscale._transport import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    Token,
    Transport,
    check_token,
    library,
)
from langchain_nscale.errors import NscaleError, NscaleModelNotFoundError
from langchain_nscale.models import (
    NscaleModel,
    afetch_models,
    fetch_models,
    nearest_ids,
)

DEFAULT_BASE_URL = "https://inference.api.nscale.com/v1"

_TOKEN_VARIABLES = ("NSCALE_SERVICE_TOKEN", "NSCALE_API_KEY")
_BASE_URL_VARIABLES = ("NSCALE_BASE_URL", "NSCALE_API_BASE")
_PASSED_ON = ("extra_body", "model_kwargs")
_HASTE = 5.0  # seconds for the model list, where it is only for an error's text
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Connection(BaseModel):
    """Who asks, and where: token, address, time limits, retries, HTTP clients.

    Raises:
        ValueError: A setting is missing or wrong; the text names it and its variable.
    """

    service_token: Token | None = Field(
        default=None, validation_alias=AliasChoices("service_token", "api_key")
    )
    """Nscale service token; also accepted as `api_key`.

    A string, or a sync or async callable that returns one and is called for each
    request. By default the variable `NSCALE_SERVICE_TOKEN`, else `NSCALE_API_KEY`.
    """

    base_url: str = ""
    """Address of the API, by default `NSCALE_BASE_URL`, else `NSCALE_API_BASE`, else
    `https://inference.api.nscale.com/v1`."""

    allow_insecure_http: bool = False
    """Whether `base_url` may be `http://` on another machine, where anybody on the way
    can read the token."""

    request_timeout: Any = Field(default=None, alias="timeout")
    """Seconds to wait for the service: one number for the next bytes, a pair (connect,
    read), an `httpx` or `httpx2` Timeout, or `None` for 10 s to connect and 600 s to
    read."""

    max_retries: int = DEFAULT_MAX_RETRIES
    """How often a request that failed for a passing reason is repeated."""

    default_headers: Mapping[str, str] | None = None
    """Headers to send with every request."""

    default_query: Mapping[str, object] | None = None
    """Parameters to add to every address."""

    http_client: Any = Field(default=None, exclude=True)
    """Your own `httpx2.Client` or `httpx.Client`, in place of the shared one."""

    http_async_client: Any = Field(default=None, exclude=True)
    """Your own `httpx2.AsyncClient` or `httpx.AsyncClient`, likewise."""

    model_config = ConfigDict(populate_by_name=True, hide_input_in_errors=True)

    if not TYPE_CHECKING:  # type checkers see the fields

        def __init__(self, **kwargs: Any) -> None:
            # Before pydantic sees it: a ValidationError keeps what it was given.
            for name in ("service_token", "api_key"):
                if isinstance(kwargs.get(name), str):
                    kwargs[name] = SecretStr(kwargs[name])
            super().__init__(**kwargs)

    @model_validator(mode="after")
    def _check_connection(self) -> Self:
        """Complete the settings from the environment and check them."""
        self.service_token = _token_setting(self.service_token)
        if self.service_token is None:
            msg = (
                "The service token is missing: give `service_token`, or set "
                "NSCALE_SERVICE_TOKEN. Tokens are made in Nscale's console."
            )
            raise ValueError(msg)
        self.base_url = _base_url(self.base_url, insecure=self.allow_insecure_http)
        _timeouts(self.request_timeout)
        if self.max_retries < 0:
            msg = f"`max_retries` is {self.max_retries}: it can't be negative."
            raise ValueError(msg)
        for client in (self.http_client, self.http_async_client):
            if client is not None:
                library(client)
        return self

    def __getstate__(self) -> dict[Any, Any]:
        """State for pickling: without the token and without HTTP clients.

        The unpickled object takes its token from its own environment.
        """
        state = super().__getstate__()
        left_out = {"service_token": None, "http_client": None, "http_async_client": None}
        return {**state, "__dict__": {**state["__dict__"], **left_out}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restore from a pickle."""
        super().__setstate__(state)
        self.service_token = _token_setting(None)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy deeply, sharing HTTP clients: those can't be copied."""
        memo = {} if memo is None else memo
        for client in (self.http_client, self.http_async_client):
            memo[id(client)] = client
        return super().__deepcopy__(memo)

    def _transport(self) -> Transport:
        if self.service_token is None:
            msg = (
                f"This {type(self).__name__} was unpickled where NSCALE_SERVICE_TOKEN "
                "isn't set: pickles don't carry the token. Set the variable, or "
                "`service_token`."
            )
            raise ValueError(msg)
        return Transport(
            base_url=self.base_url,
            token=self.service_token,
            timeout=_timeouts(self.request_timeout),
            max_retries=self.max_retries,
            headers=self.default_headers,
            query=self.default_query,
            client=self.http_client,
            async_client=self.http_async_client,
        )

    def _send(self, path: str, body: bytes, *, stream: bool = False) -> tuple[Any, int]:
        """`Transport.send`; an unknown model's error suggests others."""
        transport = self._transport()
        try:
            return transport.send(path, body, stream=stream)
        except NscaleModelNotFoundError as error:
            with suppress(NscaleError):
                _hint(error, body, fetch_models(_hasty(transport), refresh=False))
            raise

    async def _asend(
        self, path: str, body: bytes, *, stream: bool = False
    ) -> tuple[Any, int]:
        """The async twin of `_send`."""
        transport = self._transport()
        try:
            return await transport.asend(path, body, stream=stream)
        except NscaleModelNotFoundError as error:
            with suppress(NscaleError):
                models = await afetch_models(_hasty(transport), refresh=False)
                _hint(error, body, models)
            raise

    def list_models(self, *, refresh: bool = False) -> list[NscaleModel]:
        """The models that the service lists, with prices.

        Args:
            refresh: Whether to ask the service even if the list is in the cache, where
                it stays for 5 minutes.

        Raises:
            NscaleError: The service didn't answer with a list.
        """
        return fetch_models(self._transport(), refresh=refresh)

    async def alist_models(self, *, refresh: bool = False) -> list[NscaleModel]:
        """The async twin of `list_models`."""
        return await afetch_models(self._transport(), refresh=refresh)


def list_models(*, refresh: bool = False, **settings: Any) -> list[NscaleModel]:
    """The models that Nscale lists, with prices.

    Args:
        refresh: Whether to ask the service even if the list is in the cache, where it
            stays for 5 minutes.
        settings: `service_token`, `base_url`, `timeout` and the other settings of
            `Connection`; by default from the environment, as for `ChatNscale`.

    Raises:
        ValueError: A setting is missing or wrong.
        NscaleError: The service didn't answer with a list.
    """
    return _connect(settings).list_models(refresh=refresh)


async def alist_models(*, refresh: bool = False, **settings: Any) -> list[NscaleModel]:
    """The async twin of `list_models`."""
    return await _connect(settings).alist_models(refresh=refresh)


def _connect(settings: Mapping[str, Any]) -> Connection:
    refuse_unknown(Connection, settings, setting_names(Connection))
    return Connection(**settings)


def _hasty(transport: Transport) -> Transport:
    """For a question whose answer only helps: it mustn't hold up the error."""
    return replace(transport, max_retries=0, timeout=(_HASTE,) * 4)


def _hint(
    error: NscaleModelNotFoundError, body: bytes, models: Sequence[NscaleModel]
) -> None:
    """Add to a 404's message which ids the service lists that are like the one asked."""
    model = jiter.from_json(body)["model"]
    ids = [listed.id for listed in models]
    near = nearest_ids(model, ids)
    if model in ids:
        said = "The service lists it, so it may only be unavailable for now."
    elif near:
        said = f"Listed are: {', '.join(near)}."
        error.suggestions = tuple(near)
    else:
        return
    error.add_to_message(said)


def refuse_unknown(cls: type[BaseModel], given: Iterable[str], known: set[str]) -> None:
    """Refuse what isn't a setting of a class.

    Raises:
        ValueError: One of the names given isn't known; the text suggests another.
    """
    for name in given:
        if name not in known:
            said = [f"`{name}` is no setting of {cls.__name__}."]
            if near := get_close_matches(name, known, n=1):
                said.append(f"Did you mean `{near[0]}`?")
            if places := [f"`{place}`" for place in _PASSED_ON if place in known]:
                where = " or ".join(places)
                said.append(f"To send it to the API on purpose, put it in {where}.")
            raise ValueError(" ".join(said))


def setting_names(cls: type[BaseModel]) -> set[str]:
    """The names by which a class's settings may be given."""
    names = {"api_key"}
    for name, field in cls.model_fields.items():
        names.add(name)
        if field.alias:
            names.add(field.alias)
    return names


def _token_setting(given: Token | None) -> Token | None:
    """The token given, else the environment's; an empty one is an error."""
    if given is not None:
        return check_token(given) if isinstance(given, SecretStr) else given
    for variable in _TOKEN_VARIABLES:
        if value := os.environ.get(variable):
            return check_token(value)
    return None


def _base_url(given: str, *, insecure: bool) -> str:
    """The checked address: the one given, else the environment's, else Nscale's."""
    source = "`base_url`"
    if not given:
        given, source = DEFAULT_BASE_URL, "the default"
        for variable in reversed(_BASE_URL_VARIABLES):
            if value := os.environ.get(variable):
                given, source = value, f"{variable}"
    try:
        url = httpx2.URL(given.strip())
    except httpx2.InvalidURL as error:
        msg = f"{source} is {given!r}, which is no address: {error}."
        raise ValueError(msg) from None
    if url.scheme not in ("http", "https") or not url.host:
        msg = (
            f"{source} is {given!r}: it has to begin with https:// (or http://) and a "
            f"host, for example {DEFAULT_BASE_URL}."
        )
        raise ValueError(msg)
    if url.scheme == "http" and url.host not in _LOOPBACK and not insecure:
        msg = (
            f"{source} is {given!r}: over http:// anybody on the way can read the "
            "service token. Use https://, or allow_insecure_http=True."
        )
        raise ValueError(msg)
    return given.strip().rstrip("/")


def _timeouts(given: Any) -> tuple[float | None, ...]:
    """`timeout` in any of its forms as seconds for connect, read, write and pool."""
    if given is None:
        return DEFAULT_TIMEOUT
    if hasattr(given, "connect"):
        return (given.connect, given.read, given.write, given.pool)
    try:
        if isinstance(given, (list, tuple)):
            connect, read = (float(value) for value in given)
        else:
            connect = read = float(given)
        if not (connect > 0 and read > 0):
            raise ValueError  # noqa: TRY301  # one message for all that is wrong
    except (TypeError, ValueError):
        msg = (
            f"`timeout` is {given!r}: give seconds above 0, a pair (connect, read), an "
            "httpx Timeout, or None."
        )
        raise ValueError(msg) from None
    return (connect, read, read, read)
