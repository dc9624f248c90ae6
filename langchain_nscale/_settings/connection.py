"""Connection settings shared by chat models and embeddings."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic.json_schema import (
    DEFAULT_REF_TEMPLATE,
    GenerateJsonSchema,
    JsonSchemaMode,
    JsonSchemaValue,
)
from pydantic_core import PydanticOmit
from typing_extensions import Self

from langchain_nscale import _model_list
from langchain_nscale._http.address import RequestGuard, resolve_base_url
from langchain_nscale._http.client import library
from langchain_nscale._http.headers import check_headers, merge_headers
from langchain_nscale._http.limits import Limits
from langchain_nscale._http.token import (
    Token,
    check_token,
    hide_tokens,
    missing_token,
    token_from_environment,
)
from langchain_nscale._http.transport import (
    DEFAULT_MAX_RESPONSE_BYTES,
    DEFAULT_MAX_RETRIES,
    Transport,
)
from langchain_nscale._requests.body import dict_argument
from langchain_nscale.models import NscaleModel

if TYPE_CHECKING:
    import httpx
    import httpx2

    # For the constructors of the subclasses.
    Timeout = float | tuple[float, float] | httpx2.Timeout | httpx.Timeout | None
    Client = httpx2.Client | httpx.Client | None
    AsyncClient = httpx2.AsyncClient | httpx.AsyncClient | None

_ADVISOR = _model_list.SimilarModels()


class _JsonFieldsOnly(GenerateJsonSchema):
    """Omits fields whose types have no JSON Schema, such as callables."""

    def handle_invalid_for_json_schema(
        self,
        schema: Any,  # noqa: ARG002  # interface
        error_info: str,  # noqa: ARG002  # interface
    ) -> JsonSchemaValue:
        raise PydanticOmit


class NscaleSettings(BaseModel):
    """Connection settings shared by chat models and embeddings.

    Raises:
        ValueError: A setting is missing or invalid; the error names it and its variable.
    """

    service_token: Token | None = Field(
        default=None, validation_alias=AliasChoices("service_token", "api_key")
    )
    """Nscale service token; `api_key` is accepted too. A string, or a sync or async
    callable that returns one and is called for each request. Defaults to
    `NSCALE_SERVICE_TOKEN`, then `NSCALE_API_KEY`."""

    base_url: str = ""
    """Address of the API. Defaults to `NSCALE_BASE_URL`, then `NSCALE_API_BASE`, then
    `https://inference.api.nscale.com/v1`."""

    allow_insecure_http: bool = False
    """Whether `base_url` may be an `http://` address on another machine, which would
    send the token in clear text."""

    request_timeout: Any = Field(default=None, alias="timeout")
    """Timeout in seconds: a number (applies to every phase), a `(connect, read)` pair, an
    `httpx` or `httpx2` Timeout, or `None` for 10 s to connect and 600 s to read."""

    max_retries: int = DEFAULT_MAX_RETRIES
    """Maximum number of retries after a transient failure."""

    total_timeout: float | None = None
    """Limit in seconds for a whole call: retries, waits and the stream included. The
    default is no limit; `timeout` limits each phase of each attempt."""

    max_response_bytes: int | None = DEFAULT_MAX_RESPONSE_BYTES
    """Largest size of a response in bytes, decompressed; a larger one is an error.
    `None` for no limit."""

    # Values can be secret, so they are in no `repr`, trace or dump; see docs/saving.md.
    default_headers: Mapping[str, str] | None = Field(
        default=None, repr=False, exclude=True
    )
    """Headers to send with every request. Dumps and traces leave them out."""

    default_query: Mapping[str, object] | None = Field(
        default=None, repr=False, exclude=True
    )
    """Query parameters to add to every request. Dumps and traces leave them out."""

    http_client: Any = Field(default=None, exclude=True)
    """Your own `httpx2.Client` or `httpx.Client`, instead of the shared one."""

    http_async_client: Any = Field(default=None, exclude=True)
    """Your own `httpx2.AsyncClient` or `httpx.AsyncClient`, instead of the shared one."""

    # This class itself is never instantiated; subclasses set `defer_build=False`.
    model_config = ConfigDict(
        populate_by_name=True, hide_input_in_errors=True, defer_build=True
    )

    # Hidden from type checkers: they use the typed arguments of the subclasses instead.
    if not TYPE_CHECKING:

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if args:
                name = type(self).__name__
                msg = f"{name} takes keyword arguments: {name}(model={args[0]!r})."
                raise TypeError(msg)
            # Before pydantic sees the token: a ValidationError keeps its input.
            hide_tokens(kwargs)
            super().__init__(**kwargs)

    @model_validator(mode="after")
    def _check_connection(self) -> Self:
        """Complete the settings from the environment and check them."""
        token = self.service_token
        if token is None:
            token = token_from_environment()
        elif isinstance(token, (str, SecretStr)):
            token = check_token(token)
        if token is None:
            raise ValueError(missing_token())
        if token is not self.service_token:  # to set a field takes a tenth of all this
            self.service_token = token
        url, query = resolve_base_url(self.base_url, insecure=self.allow_insecure_http)
        if url != self.base_url:
            self.base_url = url
        if query:
            self.default_query = {**query, **(self.default_query or {})}
        Limits.of(self.request_timeout)
        for name in ("total_timeout", "max_response_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = (
                    f"`{name}` is {value!r}: use a number above 0, or None for no limit."
                )
                raise ValueError(msg)
        _check_retries(self.max_retries)
        if self.default_headers is not None:
            check_headers(self.default_headers, "default_headers")
        check_client(self.http_client, "Client", "http_client")
        check_client(self.http_async_client, "AsyncClient", "http_async_client")
        return self

    @property
    def timeout(self) -> Any:
        """The setting `timeout`."""
        return self.request_timeout

    @property
    def api_key(self) -> Token | None:
        """The service token, as a secret or a callable; see `service_token`."""
        return self.service_token

    def __getstate__(self) -> dict[Any, Any]:
        """Return the state to pickle, without the token and without HTTP clients.

        The unpickled object reads the token from its own environment.
        """
        state = super().__getstate__()
        omitted = {"service_token": None, "http_client": None, "http_async_client": None}
        return {**state, "__dict__": {**state["__dict__"], **omitted}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restore from a pickle, perhaps of an earlier version with other fields."""
        fields, private = type(self).model_fields, type(self).__private_attributes__
        values = self._converted(state["__dict__"])
        known = {name: value for name, value in values.items() if name in fields}
        kept = state.get("__pydantic_private__") or {}
        state = {
            **state,
            "__dict__": {
                name: known.get(name, field.get_default(call_default_factory=True))
                for name, field in fields.items()
            },
            "__pydantic_private__": {
                name: kept[name] if name in kept else _initial(attribute)
                for name, attribute in private.items()
            },
        }
        super().__setstate__(state)
        self.service_token = token_from_environment()

    @classmethod
    def _converted(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Convert settings of earlier versions, which pickles and dumps can have."""
        return values

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy deeply, but share HTTP clients, which can't be copied."""
        memo = {} if memo is None else memo
        for client in (self.http_client, self.http_async_client):
            memo[id(client)] = client
        return super().__deepcopy__(memo)

    @classmethod
    def model_json_schema(
        cls,
        by_alias: bool | None = None,
        ref_template: str = DEFAULT_REF_TEMPLATE,
        schema_generator: type[GenerateJsonSchema] = _JsonFieldsOnly,
        mode: JsonSchemaMode = "validation",
        *,
        union_format: Literal["any_of", "primitive_type_array"] = "any_of",
    ) -> dict[str, Any]:
        """Return the JSON Schema of the settings that have one.

        Callables, callbacks and HTTP clients have no JSON form and are left out.
        """
        by_alias = True if by_alias is None else by_alias  # pydantic 2.12 wants a bool
        return super().model_json_schema(
            by_alias, ref_template, schema_generator, mode, union_format=union_format
        )

    def _transport(
        self, call: Mapping[str, Any] | None = None, *, stall: float | None = None
    ) -> Transport:
        """Return the transport of a call, whose own settings take precedence."""
        if self.service_token is None:
            msg = (
                f"This {type(self).__name__} was unpickled where NSCALE_SERVICE_TOKEN "
                "isn't set: pickles don't contain the token. Set the variable or "
                "`service_token`."
            )
            raise ValueError(msg)
        RequestGuard.check(self.base_url)
        call = call or {}
        extra_headers = dict_argument(call, "extra_headers")
        check_headers(extra_headers, "extra_headers")
        headers = merge_headers(self.default_headers, extra_headers)
        query = {**(self.default_query or {}), **dict_argument(call, "extra_query")}
        timeout = call.get("timeout", self.request_timeout)
        limit = call.get("max_retries")
        return Transport(
            base_url=self.base_url,
            token=self.service_token,
            limits=Limits.of(timeout, self.total_timeout, stall),
            max_retries=self.max_retries if limit is None else _check_retries(limit),
            max_response_bytes=self.max_response_bytes,
            headers=headers or None,
            query=query or None,
            client=self.http_client,
            async_client=self.http_async_client,
            advisor=_ADVISOR,
        )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the model, then every setting that differs from its default."""
        values = dict(super().__repr_args__())
        fields = type(self).model_fields
        for model in ("model", "model_name"):
            if model in values:
                yield "model", values.pop(model)
        for name, value in values.items():
            field = fields.get(name or "")
            if field is None or value != field.get_default(call_default_factory=True):
                yield name, value

    def list_models(self, *, refresh: bool = False) -> list[NscaleModel]:
        """Return the models that the service lists, with prices.

        Args:
            refresh: Whether to ask the service even if the list is cached. Lists are
                cached for 5 minutes.

        Raises:
            NscaleError: The service did not answer with a list of models.
        """
        return _model_list.fetch_models(self._transport(), refresh=refresh)

    async def alist_models(self, *, refresh: bool = False) -> list[NscaleModel]:
        """Async version of `list_models`; `service_token` can be an async callable."""
        return await _model_list.afetch_models(self._transport(), refresh=refresh)


def _initial(attribute: Any) -> Any:
    """Return a private attribute's first value; pydantic's own method has changed."""
    factory = attribute.default_factory
    return copy.deepcopy(attribute.default) if factory is None else factory()


def _check_retries(limit: object) -> int:
    if type(limit) is not int or limit < 0:
        msg = f"`max_retries` is {limit!r}: use a whole number, at least 0."
        raise ValueError(msg)
    return limit


def check_client(client: object, kind: str, setting: str) -> None:
    """Reject clients of the wrong kind, or with their own authentication."""
    if client is None:
        return
    if not isinstance(client, getattr(library(client), kind)):
        article = "an" if kind.startswith("A") else "a"
        msg = f"`{setting}` takes {article} {kind}, not {type(client).__name__}."
        raise TypeError(msg)
    if getattr(client, "auth", None) is not None:
        msg = (
            f"`{setting}` has its own `auth`, which would replace the service token: "
            "create the client without it."
        )
        raise ValueError(msg)
