"""Turns responses and network faults into the errors that report them. Pure: no I/O.

Errors contain neither the service token nor a connection: requests are copied without
headers, and the tracebacks of HTTP libraries, whose frames hold the token, are dropped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx2

from langchain_nscale._error_bodies import (
    as_text,
    decode_body,
    error_kind,
    error_kinds,
    error_message,
    error_object,
    error_status,
    excerpt,
    is_overflow,
    retry_after,
)
from langchain_nscale._lazy import errors

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

_CLIENT_ERRORS, _SERVER_ERRORS = 400, 500  # the first status of each kind

# Advice by the request field that the service rejected.
_ADVICE_BY_FIELD = {
    "tool_choice": (
        "This model can't be forced to call a tool. Omit `tool_choice` or use 'auto'. "
        "For structured output use method='json_schema' (in agents, ProviderStrategy)."
    ),
    "response_format": (
        "To get structured output without `response_format`, use method='prompt'."
    ),
}


# --- errors reported by the service ---------------------------------------------------


def status_error(response: Response, content: bytes, retries: int = 0) -> NscaleError:
    """Return the error for a response whose status is not a success.

    Args:
        response: The HTTP response, whose body need not have been read through it.
        content: The bytes of the body.
        retries: Number of retries before this response.
    """
    status = response.status_code
    body = decode_body(content)
    error = error_object(body) or {}
    message = error_message(error)
    message = message or (excerpt(body) if isinstance(body, str) else "")
    message = message or "(the response has no message)"
    if status < _CLIENT_ERRORS:  # only redirects are left below 400
        message = f"redirected to {response.headers.get('location', 'nowhere')}"
        advice = "Redirects are not followed: set `base_url` to the final address."
        cls: type[NscaleError] = errors.NscaleInvalidRequestError
    else:
        cls = _class_for(status, error, message)
        advice = _advice_for(cls, message)
    kind = error_kind(error)
    label = f"{status}, {kind}" if kind else f"{status}"
    return cls(
        f"Nscale answered {label}: {message.rstrip('.')}. {advice}",
        response=public_response(response, content),
        retries=retries,
        **_details(response.headers, body),
    )


def reported_error(
    body: Mapping[str, Any], response: Response, partial: AIMessage | None = None
) -> NscaleError:
    """Return the error for an error object in a stream, or in place of a reply.

    Args:
        body: The JSON object that contains it.
        response: The HTTP response, with a 2xx status.
        partial: The message received before it.
    """
    error = error_object(body) or {}
    message = error_message(error) or excerpt(str(body))
    status = error_status(error, message) or 0
    cls: type[NscaleError] = errors.NscaleStreamError
    if status >= _CLIENT_ERRORS:
        cls = _class_for(status, error, message)
    return cls(
        f"Nscale answered {response.status_code}, then reported an error: "
        f"{message.rstrip('.')}. {cls.advice}",
        response=public_response(response),
        status_code=status or None,
        partial=partial,
        **_details(response.headers, body),
    )


def malformed_response(
    problem: str, response: Response, content: bytes, partial: AIMessage | None = None
) -> NscaleError:
    """Return the error for a 2xx response whose body can't be used.

    Args:
        problem: What is wrong with it, as in "the body is not JSON".
        response: The HTTP response.
        content: The bytes in question.
        partial: The message received before them.
    """
    start = excerpt(content.decode("utf-8", "replace")) or "(empty)"
    cls = errors.NscaleMalformedResponseError
    return cls(
        f"Nscale answered {response.status_code}, but {problem}. "
        f"{cls.advice} The body begins: {start}",
        response=public_response(response, content),
        partial=partial,
        **_details(response.headers, decode_body(content)),
    )


def _class_for(status: int, error: Mapping[str, Any], message: str) -> type[NscaleError]:
    # Match the code only: other services use "insufficient quota" for temporary limits.
    if "INSUFFICIENT_CREDIT" in error_kinds(error) and status in {402, 429}:
        return errors.NscaleInsufficientCreditError
    if _CLIENT_ERRORS <= status < _SERVER_ERRORS and is_overflow(error, message):
        return errors.NscaleContextOverflowError
    for cls in _subclasses(errors.NscaleError):
        if status in cls.statuses:
            return cls
    if status >= _SERVER_ERRORS:
        return errors.NscaleServerError
    return errors.NscaleInvalidRequestError


def _subclasses(cls: type[NscaleError]) -> Iterator[type[NscaleError]]:
    for subclass in cls.__subclasses__():
        if "statuses" in vars(subclass):
            yield subclass
        yield from _subclasses(subclass)


def _advice_for(cls: type[NscaleError], message: str) -> str:
    if cls in (errors.NscaleInvalidRequestError, errors.NscaleUnprocessableError):
        for field, advice in _ADVICE_BY_FIELD.items():
            if field in message:
                return advice
    return cls.advice


def _details(headers: Mapping[str, str], body: object) -> dict[str, Any]:
    """Return the fields of an error that come from the response's headers and body."""
    error = error_object(body) or {}
    return {
        "body": body,
        "code": as_text(error.get("code")),
        "error_type": as_text(error.get("error_type") or error.get("type")),
        "param": as_text(error.get("param")),
        "request_id": headers.get("inference-id") or headers.get("x-request-id"),
        "retry_after": retry_after(headers),
    }


# --- streams that break ---------------------------------------------------------------


def abandoned_reply(
    response: Response, reason: str, partial: AIMessage | None
) -> NscaleError:
    """Return the error for a reply that the service gave up before it was complete.

    Args:
        response: The HTTP response.
        reason: The finish reason, for example `"abort"`.
        partial: The message received so far.
    """
    cls = errors.NscaleInterruptedStreamError
    return cls(
        f"The service gave up the reply before it was complete (finish_reason "
        f"{reason!r}). {cls.advice}",
        response=public_response(response),
        partial=partial,
        **_details(response.headers, None),
    )


def interrupted_stream(
    response: Response, partial: AIMessage | None, cause: NscaleError | None
) -> NscaleError:
    """Return the error for a stream that ended before the model had finished."""
    origin = cause and (cause.__cause__ or cause)
    reason = f"{type(origin).__name__}: {origin}" if origin else "no finish reason came"
    cls = errors.NscaleInterruptedStreamError
    error = cls(
        f"The stream was cut before the model had finished ({reason}). {cls.advice}",
        response=public_response(response),
        partial=partial,
        **_details(response.headers, None),
    )
    error.__cause__ = cause
    return error


def stalled_stream(
    response: Response,
    seconds: float | None,
    partial: AIMessage | None,
    cause: NscaleError | None = None,
) -> NscaleError:
    """Return the error for a stream that was silent for `seconds`."""
    cls = errors.NscaleStalledStreamError
    error = cls(
        f"The stream has stalled: no event for {seconds} s. {cls.advice}",
        response=public_response(response),
        partial=partial,
        **_details(response.headers, None),
    )
    error.timeout_s = seconds or 0.0
    error.__cause__ = cause
    return error


# --- network faults -------------------------------------------------------------------


def network_error(error: Exception, request: Any, retries: int = 0) -> NscaleError:
    """Return the typed error for a request that failed before it had a response."""
    _forget_token(error)
    detail = f"{type(error).__name__}: {error}".rstrip(": .")
    host = request.url.host
    cls: type[NscaleError]
    if "Timeout" in type(error).__name__:
        cls = errors.NscaleTimeoutError
        message = f"No answer from {host} in time ({detail})."
    else:
        cls = errors.NscaleConnectionError
        message = f"The connection to {host} failed ({detail})."
    failure = cls(
        f"{message} {cls.advice}", request=public_request(request), retries=retries
    )
    failure.__cause__ = error
    return failure


def _forget_token(error: BaseException | None) -> None:
    """Drop whatever holds the token in an HTTP library's error and its causes.

    Frame locals and request headers both hold the token, and tools that pickle causes
    (Dask, for one) would copy them.
    """
    while error is not None:
        error.__traceback__ = None
        if getattr(error, "_request", None) is not None:
            error.request = public_request(error.request)  # type: ignore[attr-defined]  # `_request` implies it
        error = error.__cause__ or error.__context__


def public_request(request: Any) -> httpx2.Request:
    """Return a copy of a request without headers and body, so that it can be logged."""
    return httpx2.Request(request.method, str(request.url))


def public_response(response: Response, content: bytes = b"") -> httpx2.Response:
    """Return a copy of a response that holds neither the token nor a connection."""
    headers = {
        name: value
        for name, value in response.headers.items()
        if name.lower() not in {"content-encoding", "content-length", "set-cookie"}
    }
    return httpx2.Response(
        response.status_code,
        headers=headers,
        content=content,
        request=public_request(response.request),
    )


# --- HTTP libraries -------------------------------------------------------------------


def library(client: object) -> Any:
    """Return the HTTP library of a client: httpx2, or httpx for older code.

    Raises:
        TypeError: The client belongs to neither.
    """
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in ("httpx2", "httpx"):
            return sys.modules[name]
    msg = (
        "`http_client` and `http_async_client` take a client of httpx2 or httpx, not "
        f"{type(client).__name__}."
    )
    raise TypeError(msg)


def http_errors(client_or_response: object) -> tuple[type[Exception], ...]:
    """Return the exceptions that an HTTP library raises for network faults."""
    origin = library(client_or_response)
    return (origin.HTTPError, origin.StreamError)
