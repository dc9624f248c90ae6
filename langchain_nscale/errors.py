"""Typed errors, and the functions that choose one for a failure.

Every error that this package raises for something the service or the network did is an
`NscaleError`. Each is also the OpenAI SDK's class for the same condition and
langchain-core's, so `except openai.RateLimitError`, `except ModelRateLimitError`,
`ModelRetryMiddleware` and `with_fallbacks` all do the right thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any

import httpx2
import jiter
import openai
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

_EXCERPT = 500  # characters of a body that an error's text shows
_CLIENT, _SERVER = 400, 500  # the first status of each kind of error


class NscaleError(ModelError):
    """Base of all errors raised for what the service or the network did.

    Attributes:
        message: What happened and what to do, in one or two sentences.
        status_code: HTTP status, or `None` where there was no response.
        code: Nscale's `error.code`, e.g. `"TOO_MANY_REQUESTS"`.
        error_type: Nscale's `error.error_type`, e.g. `"INSUFFICIENT_CREDIT"`.
        param: The request field that the service names, if it names one.
        request_id: The service's id of this request (header `inference-id`).
        retry_after: Seconds that the service asks to wait, or `None`.
        body: The decoded body of the response, its text where it isn't JSON, or `None`.
        partial: What had been received when a stream broke, or `None`.
        partial_embeddings: Where some of many texts couldn't be embedded, the vectors of
            all texts in their order, with `None` for those that weren't; else `None`.
        retries: How many times the request had been repeated before this.
        request: The request without its headers (they would hold the token).
        response: The response, or `None`.
        is_retryable: Whether the same request may succeed later (class attribute).
    """

    partial_embeddings: list[list[float] | None] | None = None

    def __init__(
        self,
        message: str,
        *,
        request: httpx2.Request | None = None,
        response: httpx2.Response | None = None,
        body: object = None,
        partial: AIMessage | None = None,
        retries: int = 0,
    ) -> None:
        Exception.__init__(self, message)
        self.message = message
        self.request = request or (
            response.request if response is not None else httpx2.Request("POST", "")
        )
        self.response: Any = response
        self.body = body
        self.partial = partial
        self.retries = retries
        self.status_code: Any = None if response is None else response.status_code
        headers: Mapping[str, str] = {} if response is None else response.headers
        self.request_id = headers.get("inference-id") or headers.get("x-request-id")
        self.retry_after = retry_after(headers)
        error = error_object(body) or {}
        self.code = _text(error.get("code"))
        self.error_type = _text(error.get("error_type") or error.get("type"))
        self.type = self.error_type
        self.param = _text(error.get("param"))

    def add_to_message(self, said: str) -> None:
        """Say more than was known where the error was made."""
        self.message = f"{self.message} {said}"
        self.args = (self.message,)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle as cls(*args), which the keyword arguments would break.
        return _restore, (type(self), self.__dict__)


def _restore(cls: type[NscaleError], state: dict[str, Any]) -> NscaleError:
    error = cls.__new__(cls, state["message"])
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class NscaleAuthenticationError(
    NscaleError, openai.AuthenticationError, ModelAuthenticationError
):
    """401: the service token is missing, wrong, expired or revoked."""


class NscalePermissionDeniedError(
    NscaleError, openai.PermissionDeniedError, ModelPermissionDeniedError
):
    """403: the service token isn't allowed to do this."""


class NscaleInvalidRequestError(
    NscaleError, openai.BadRequestError, ModelInvalidRequestError
):
    """400, and any other 4xx without a class of its own: the request is refused."""


class NscaleUnprocessableError(
    NscaleInvalidRequestError, openai.UnprocessableEntityError
):
    """422: a field of the request has a value that the service can't take."""


class NscaleContextOverflowError(NscaleInvalidRequestError, ContextOverflowError):
    """The prompt is longer than the model's context window."""


class NscaleModelNotFoundError(NscaleError, openai.NotFoundError, ModelNotFoundError):
    """404: the model doesn't exist or isn't available now.

    Attributes:
        suggestions: The ids most like it in the service's list, best first.
    """

    suggestions: tuple[str, ...] = ()


class NscaleConflictError(NscaleError, openai.ConflictError, ModelAPIError):
    """409: the request conflicts with the state of a resource; may pass later."""


class NscaleRateLimitError(NscaleError, openai.RateLimitError, ModelRateLimitError):
    """429 for anything but credit."""


class NscaleInsufficientCreditError(
    NscaleError, openai.RateLimitError, ModelRateLimitError
):
    """429 with `INSUFFICIENT_CREDIT`: repeating the request changes nothing."""

    is_retryable = False


class NscaleServerError(NscaleError, openai.InternalServerError, ModelAPIError):
    """500, and any 5xx without a class of its own."""


class NscaleUnavailableError(NscaleServerError):
    """502, 503 or 504: the service is temporarily unavailable."""


class NscaleConnectionError(NscaleError, openai.APIConnectionError, ModelConnectionError):
    """The service couldn't be reached, or the connection broke before an answer."""


class NscaleTimeoutError(NscaleError, openai.APITimeoutError, ModelTimeoutError):
    """No answer within `timeout`."""


class NscaleStalledStreamError(NscaleTimeoutError):
    """A stream that brought nothing new for `stream_chunk_timeout` seconds."""


class NscaleInterruptedStreamError(NscaleConnectionError):
    """A stream that ended before the model had finished. `partial` has what came."""


class NscaleStreamError(NscaleError, openai.APIError, ModelAPIError):
    """An error that the service reported inside a stream, of no more exact class."""


class NscaleMalformedResponseError(
    NscaleError, openai.APIResponseValidationError, ModelAPIError
):
    """A success status with a body that isn't what was asked for."""


_CLASS_OF_STATUS: dict[int, type[NscaleError]] = {
    400: NscaleInvalidRequestError,
    401: NscaleAuthenticationError,
    403: NscalePermissionDeniedError,
    404: NscaleModelNotFoundError,
    408: NscaleTimeoutError,
    409: NscaleConflictError,
    413: NscaleInvalidRequestError,
    422: NscaleUnprocessableError,
    429: NscaleRateLimitError,
    500: NscaleServerError,
    502: NscaleUnavailableError,
    503: NscaleUnavailableError,
    504: NscaleUnavailableError,
}

_ADVICE: dict[type[NscaleError], str] = {
    NscaleAuthenticationError: (
        "Check the service token: argument `service_token` or variable "
        "NSCALE_SERVICE_TOKEN. It may have expired."
    ),
    NscalePermissionDeniedError: (
        "Give the service token the permission that the message names."
    ),
    NscaleInvalidRequestError: "Change the request as the message says.",
    NscaleUnprocessableError: "Change the request as the message says.",
    NscaleContextOverflowError: (
        "Shorten the messages (`trim_messages`, SummarizationMiddleware) or lower "
        "`max_tokens`."
    ),
    NscaleModelNotFoundError: (
        "Check `model` (ids are case-sensitive) against GET /v1/models, and `base_url`."
    ),
    NscaleConflictError: "Try again.",
    NscaleRateLimitError: "Wait and try again, or lower the concurrency.",
    NscaleInsufficientCreditError: (
        "Add credit in Nscale's console; repeating the request changes nothing."
    ),
    NscaleServerError: "Try again; if it persists, report the request id to Nscale.",
    NscaleUnavailableError: "Try again later.",
    NscaleConnectionError: ("Check `base_url`, the network and any proxy, or try again."),
    NscaleTimeoutError: "Raise `timeout`, or try again.",
    NscaleStalledStreamError: (
        "Raise `stream_chunk_timeout`, or try again; `partial` has what had been "
        "received."
    ),
    NscaleInterruptedStreamError: "Try again; `partial` has what had been received.",
    NscaleStreamError: "Try again; `partial` has what had been received.",
    NscaleMalformedResponseError: "Check `base_url` and any proxy in between.",
}


def advice(kind: type[NscaleError]) -> str:
    """What to do about an error of this class, in a sentence."""
    return _ADVICE[kind]


# Wordings by which vLLM and the proxies before it report a prompt that is too long.
_OVERFLOW = re.compile(
    r"maximum context length|context_length_exceeded|exceeds? the (?:model's )?"
    r"(?:maximum )?context|max_model_len|maximum model length|prompt is too long",
    re.IGNORECASE,
)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def error_object(body: object) -> Mapping[str, Any] | None:
    """The error object in a body, wherever the service or a proxy puts it.

    Takes Nscale's `{"error": {...}}`, a bare string there, vLLM's flat
    `{"object": "error", "message": ...}` and FastAPI's `{"detail": ...}`.
    """
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    if isinstance(error, Mapping):
        return error
    if isinstance(error, str):
        return {**body, "message": error}
    said = body.get("message") if "choices" not in body else None
    if body.get("object") == "error" or isinstance(said, str):
        return body
    if "choices" not in body and "detail" in body:
        return {"message": _text(body["detail"])}
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or a date)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time()
            except (ValueError, TypeError, OverflowError):
                continue
        # NaN fails both comparisons and is dropped with the infinite ones.
        if 0 <= seconds < float("inf"):
            return seconds
        if seconds < 0:
            return 0.0
    return None


def _class_for(status: int, error: Mapping[str, Any], message: str) -> type[NscaleError]:
    kinds = {str(error.get(key)).upper() for key in ("error_type", "type", "code")}
    # By the code alone: other services word passing limits as "insufficient quota".
    if "INSUFFICIENT_CREDIT" in kinds and status in {402, 429}:
        return NscaleInsufficientCreditError
    overflow = _OVERFLOW.search(message) or "CONTEXT_LENGTH_EXCEEDED" in kinds
    if overflow and _CLIENT <= status < _SERVER:
        return NscaleContextOverflowError
    other = NscaleServerError if status >= _SERVER else NscaleInvalidRequestError
    return _CLASS_OF_STATUS.get(status, other)


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"


def decode_body(content: bytes) -> object:
    """JSON as Python objects, anything else as text, nothing as `None`."""
    if not content.strip():
        return None
    try:
        return jiter.from_json(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def public_request(request: httpx2.Request) -> httpx2.Request:
    """The same request without headers and body: an exception may be logged."""
    return httpx2.Request(request.method, str(request.url))


def public_response(response: Any, content: bytes) -> httpx2.Response:
    """A copy of a response that holds neither the token nor a connection."""
    kept = {
        name: value
        for name, value in response.headers.items()
        if name.lower() not in {"content-encoding", "content-length", "set-cookie"}
    }
    return httpx2.Response(
        response.status_code,
        headers=kept,
        content=content,
        request=public_request(response.request),
    )


def status_error(response: Any, content: bytes, retries: int = 0) -> NscaleError:
    """The error for a response whose status isn't a success.

    Args:
        response: The httpx response; its body needn't have been read through it.
        content: The body's bytes.
        retries: How many times the request had been repeated before this.
    """
    status = response.status_code
    body = decode_body(content)
    error = error_object(body) or {}
    said = _text(error.get("message")) or (
        _excerpt(body) if isinstance(body, str) else ""
    )
    said = said or "(the response has no message)"
    if status < _CLIENT:  # success has been dealt with, so it redirects
        said = f"redirected to {response.headers.get('location', 'nowhere')}"
        advice = "Redirects aren't followed: set `base_url` to the final address."
        cls: type[NscaleError] = NscaleInvalidRequestError
    else:
        cls = _class_for(status, error, said)
        advice = _advice_for(cls, said)
    kind = _text(error.get("error_type") or error.get("code"))
    label = f"{status}, {kind}" if kind else f"{status}"
    return cls(
        f"Nscale answered {label}: {said.rstrip('.')}. {advice}",
        response=public_response(response, content),
        body=body,
        retries=retries,
    )


# What a refused request may be about -> the way out.
_WAYS_OUT = {
    "tool_choice": (
        "The model can't be made to call a tool: leave `tool_choice` out or 'auto'; for "
        "an answer in a schema use method='json_schema', in an agent ProviderStrategy."
    ),
    "response_format": (
        "For an answer in a schema without `response_format` use method='prompt'."
    ),
}


def _advice_for(cls: type[NscaleError], said: str) -> str:
    if cls in (NscaleInvalidRequestError, NscaleUnprocessableError):
        for field, way_out in _WAYS_OUT.items():
            if field in said:
                return way_out
    return _ADVICE[cls]


def reported_error(
    body: Mapping[str, Any], partial: AIMessage | None, response: Any
) -> NscaleError:
    """The error for an error object inside a stream, or in place of a reply."""
    error = error_object(body) or {}
    said = _text(error.get("message")) or _excerpt(str(body))
    code = str(error.get("status") or error.get("status_code") or error.get("code"))
    status = int(code) if re.fullmatch(r"[1-5]\d\d", code, re.ASCII) else 0
    kinds = {str(error.get(key)).upper() for key in ("error_type", "type", "code")}
    if not status and kinds & {"INSUFFICIENT_CREDIT", "TOO_MANY_REQUESTS"}:
        status = 429
    if not status and _OVERFLOW.search(said):
        status = 400
    cls = _class_for(status, error, said) if status >= _CLIENT else NscaleStreamError
    failure = cls(
        f"Nscale answered {response.status_code}, then reported an error: "
        f"{said.rstrip('.')}. {_ADVICE[cls]}",
        response=response,
        body=body,
        partial=partial,
    )
    if status:
        failure.status_code = status
    return failure


def malformed_response(what: str, response: Any, content: bytes) -> NscaleError:
    """The error for a success status with a body that can't be used."""
    body = decode_body(content)
    seen = _excerpt(content.decode("utf-8", "replace")) or "(empty)"
    return NscaleMalformedResponseError(
        f"Nscale answered {response.status_code}, but {what}. "
        f"{advice(NscaleMalformedResponseError)} The body begins: {seen}",
        response=public_response(response, content),
        body=body,
    )
