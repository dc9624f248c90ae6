"""Turns responses and network faults into the errors that report them. Pure: no I/O.

Errors contain neither the service token nor a connection: requests are copied without
headers, and the tracebacks of HTTP libraries, whose frames hold the token, are dropped.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import httpx2

from langchain_nscale import errors
from langchain_nscale._error_bodies import (
    MAX_TOKENS_TOO_HIGH,
    decode_body,
    error_kind,
    error_kinds,
    error_message,
    error_object,
    error_status,
    excerpt,
    is_missing_path,
    is_overflow,
    is_unknown_model,
    retry_after,
    text_or_none,
)
from langchain_nscale.templates import violated_rule

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

E = TypeVar("E", bound=errors.NscaleError)
T = TypeVar("T")
_START = 10_000  # bytes of a body that can become an excerpt
_SHORTEST_TOKEN = 8  # characters; anything shorter could be part of a word
_DEEPEST = 100  # levels of JSON in an error; CPython's stack has room for 1,000
_HIDDEN = "[service token]"
_CLIENT_ERRORS, _SERVER_ERRORS = 400, 500  # the first status of each kind
_BAD_REQUEST = 400
_PAYMENT_REQUIRED = 402
_NOT_FOUND = 404
_PROXY_AUTHENTICATION = 407
_DENIALS = {401, 403}
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}

_PROXY_ADVICE = (
    "The proxy requires authentication: add a user and password to HTTPS_PROXY "
    # pragma: allowlist nextline secret
    "(http://user:password@host:port), or pass your own `http_client` and "
    "`http_async_client`."
)
_TEMPLATE_ADVICE = (
    "The model's chat template can't carry this conversation: pass `template_rules`, "
    "which says what it carries"
)
_PAGE_ADVICE = (
    "The answer is a web page, and the service sends none: look for a proxy, firewall or "
    "gateway between this machine and the service. The service token is not the reason."
)
# Answers of a proxy to CONNECT that no repetition can change.
_FINAL_REFUSALS = {*range(400, 500)} - {408, 425, 429}
# Advice by a pattern for the message of a rejected request; the first match counts.
_ADVICE_BY_MESSAGE = {
    r"tool-call-parser": (
        "This model can't call tools on this service. Choose another model, or use "
        "method='json_schema' for structured output (in agents, ProviderStrategy)."
    ),
    r"(?i)Grammar error": (
        "The service can't enforce this schema: use method='prompt', or simplify it."
    ),
    r"(?i)tool_choice.*(invalid value|must be set|does not match)"
    r"|(invalid value|must be set|does not match).*tool_choice": (
        "Fix `tool_choice`, or pass the tool that it names."
    ),
    r"tool_choice": (
        "This model can't be forced to call a tool. Omit `tool_choice` or use 'auto'. "
        "For structured output use method='json_schema' (in agents, ProviderStrategy)."
    ),
    r"response_format.*must be provided": "Fix `response_format`.",
    r"response_format": (
        "To get structured output without `response_format`, use method='prompt'."
    ),
    MAX_TOKENS_TOO_HIGH: "Lower `max_tokens`.",
}


# --- errors reported by the service ---------------------------------------------------


def status_error(response: Response, content: bytes) -> NscaleError:
    """Return the error for a response with this body, whose status is not a success."""
    status = response.status_code
    content = without_token(content, response)
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
        url = str(response.request.url)
        is_path = status == _NOT_FOUND and is_missing_path(body)
        advice = _path_advice(url) if is_path else _advice_for(cls, status, message, url)
    is_page = status in _DENIALS and isinstance(body, str) and body.lstrip()[:1] == "<"
    sender = "Nscale"
    if is_page or status == _PROXY_AUTHENTICATION:
        sender = "A proxy or gateway"
        advice = _PAGE_ADVICE if is_page else advice
    kind = error_kind(error)
    label = f"{status}, {kind}" if kind else f"{status}"
    text = f"{sender} answered {label}: {message.rstrip('.')}. {advice}"
    return _error(cls, text, response, body=body, content=content)


def reported_error(
    body: Mapping[str, Any], response: Response, partial: AIMessage | None = None
) -> NscaleError:
    """Return the error for an error object in a stream, or in place of a reply."""
    body = without_token(body, response)
    error = error_object(body) or {}
    message = error_message(error) or excerpt(str(body))
    status = error_status(error, message) or 0
    cls: type[NscaleError] = errors.NscaleStreamError
    if status >= _CLIENT_ERRORS:
        cls = _class_for(status, error, message)
    text = (
        f"Nscale answered {response.status_code}, then reported an error: "
        f"{message.rstrip('.')}. {cls.advice}"
    )
    reported = _error(cls, text, response, partial, body=body)
    reported.status_code = status or None  # a failed call has no success as its status
    return reported


def malformed_response(
    problem: str, response: Response, content: bytes, partial: AIMessage | None = None
) -> NscaleError:
    """Return the error for a 2xx response with a problem, such as "the body is empty"."""
    content = without_token(content, response)
    start = excerpt(content[:_START].decode("utf-8", "replace")) or "(empty)"
    cls = errors.NscaleMalformedResponseError
    text = (
        f"Nscale answered {response.status_code}, but {problem}. "
        f"{cls.advice} The body begins: {start}"
    )
    body = decode_body(content)
    return _error(cls, text, response, partial, body=body, content=content)


def oversized_response(
    response: Response, limit: int | None, partial: AIMessage | None = None
) -> NscaleError:
    """Return the error for a 2xx response that is larger than `max_response_bytes`."""
    text = (
        f"Nscale answered {response.status_code} with more than {limit} bytes. Raise "
        "`max_response_bytes` if that is what you expect."
    )
    error = _error(errors.NscaleMalformedResponseError, text, response, partial)
    error.is_retryable = False
    return error


def compressed_response(response: Response) -> NscaleError:
    """Return the error for a 2xx response that can't be decompressed up to a limit."""
    text = (
        f"Nscale answered {response.status_code} with a compressed body, which a client "
        "of httpx decompresses without limit. Pass a client of httpx2, or remove "
        "Accept-Encoding from the headers."
    )
    error = _error(errors.NscaleMalformedResponseError, text, response)
    error.is_retryable = False
    return error


def _class_for(status: int, error: Mapping[str, Any], message: str) -> type[NscaleError]:
    # Match the code only: other services use "insufficient quota" for temporary limits.
    is_short_of_credit = "INSUFFICIENT_CREDIT" in error_kinds(error) and status == 429  # noqa: PLR2004
    if status == _PAYMENT_REQUIRED or is_short_of_credit:
        return errors.NscaleInsufficientCreditError
    if status == _BAD_REQUEST and is_unknown_model(message):
        return errors.NscaleModelNotFoundError
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


def _path_advice(url: str) -> str:
    if "/v1/embeddings" in url:
        return "This service offers no embeddings: check `base_url`."
    return "This path does not exist: `base_url` usually ends in /v1."


def _advice_for(cls: type[NscaleError], status: int, message: str, url: str) -> str:
    if status == _PROXY_AUTHENTICATION:
        return _PROXY_ADVICE
    if cls is errors.NscaleContextOverflowError and "/embeddings" in url:
        return "Split the text with a text splitter."
    if cls in (errors.NscaleInvalidRequestError, errors.NscaleUnprocessableError):
        for pattern, advice in _ADVICE_BY_MESSAGE.items():
            if re.search(pattern, message):
                return advice
        rule = violated_rule(message)
        if rule is not None:
            example = f", for example TemplateRules({rule})" if rule else ""
            return f"{_TEMPLATE_ADVICE}{example}."
    return cls.advice


def _error(
    cls: type[E],
    message: str,
    response: Response,
    partial: AIMessage | None = None,
    *,
    body: object = None,
    content: bytes = b"",
) -> E:
    """Return an error with what a response says about it."""
    error = error_object(body) or {}
    headers = response.headers
    return cls(
        message,
        response=public_response(response, content),
        partial=partial,
        body=body,
        code=text_or_none(error.get("code")),
        error_type=text_or_none(error.get("error_type") or error.get("type")),
        param=text_or_none(error.get("param")),
        request_id=headers.get("inference-id") or headers.get("x-request-id"),
        retry_after=retry_after(headers),
    )


# --- streams that break ---------------------------------------------------------------


def abandoned_reply(
    response: Response, reason: str, partial: AIMessage | None
) -> NscaleError:
    """Return the error for a reply that the service gave up before it was complete."""
    cls = errors.NscaleInterruptedStreamError
    text = (
        "The service gave up the reply before it was complete (finish_reason "
        f"{reason!r}). {cls.advice}"
    )
    return _error(cls, text, response, partial)


def lost_reply(response: Response, message: AIMessage) -> NscaleError:
    """Return the error for a complete reply of which only the usage has arrived."""
    usage = message.usage_metadata
    tokens = f"{usage['output_tokens']} tokens" if usage else "calls of tools"
    text = (
        f"Nscale answered {response.status_code}, but the reply is empty, although it "
        f"reports {tokens}: the service's tool parser has lost them. Try again; after a "
        "stream, the next request is not streamed."
    )
    return _error(errors.NscaleMalformedResponseError, text, response, message)


def interrupted_stream(
    response: Response, partial: AIMessage | None, cause: NscaleError | None
) -> NscaleError:
    """Return the error for a stream that ended before the model had finished."""
    origin = cause and (cause.__cause__ or cause)
    reason = f"{type(origin).__name__}: {origin}" if origin else "no finish reason came"
    cls = errors.NscaleInterruptedStreamError
    text = f"The stream was cut before the model had finished ({reason}). {cls.advice}"
    error = _error(cls, text, response, partial)
    error.__cause__ = cause
    return error


def missing_tool_call(response: Response, message: AIMessage) -> NscaleError:
    """Return the error for a reply in words where a tool call was demanded."""
    cls = errors.NscaleMissingToolCallError
    text = (
        "The model answered without a tool call, although `tool_choice` demanded one; "
        f"Nscale only documents 'auto' and 'none'. {cls.advice}"
    )
    return _error(cls, text, response, message)


def stalled_stream(
    response: Response,
    seconds: float | None,
    partial: AIMessage | None,
    cause: NscaleError | None = None,
) -> NscaleError:
    """Return the error for a stream that was silent for `seconds`."""
    cls = errors.NscaleStalledStreamError
    text = f"The stream has stalled: no event for {seconds} s. {cls.advice}"
    error = _error(cls, text, response, partial)
    error.timeout_s = seconds or 0.0
    error.__cause__ = cause
    return error


# --- network faults -------------------------------------------------------------------


class Proxy(NamedTuple):
    """A proxy, and the variable that sets it."""

    url: str
    source: str

    def __str__(self) -> str:
        return f"{self.url} ({self.source})"


def network_error(
    error: Exception, request: Any, proxy: Proxy | None = None
) -> NscaleError:
    """Return the typed error for a request that failed before it had a response."""
    _forget_token(error)
    detail = f"{type(error).__name__}: {error}".rstrip(": .")
    host = httpx2.URL(str(request.url)).host
    if type(error).__name__ == "ProxyError":
        failure = _refused_by_proxy(error, detail, host, proxy)
    else:
        failure = _failed_connection(error, detail, host, proxy)
    failure.request = public_request(request)
    failure.__cause__ = error
    return failure


def _failed_connection(
    error: Exception, detail: str, host: str, proxy: Proxy | None
) -> NscaleError:
    is_tls = "SSL" in detail or "CERTIFICATE" in detail
    hop = host
    if proxy is not None:  # connecting ends at the proxy; TLS and all else at the service
        is_connecting = type(error).__name__.startswith("Connect") and not is_tls
        hop = f"the proxy {proxy}"
        if not is_connecting:
            hop = f"{host} through {hop}"
    cls: type[NscaleError] = errors.NscaleConnectionError
    message = f"The connection to {hop} failed ({detail})."
    if "Timeout" in type(error).__name__:
        cls = errors.NscaleTimeoutError
        message = f"No answer from {hop} in time ({detail})."
    advice = cls.advice
    is_untrusted = "CERTIFICATE_VERIFY_FAILED" in detail
    speaks_http = "WRONG_VERSION_NUMBER" in detail  # OpenSSL 3.0's word for it
    if is_untrusted:
        advice = (
            "The server's certificate is not trusted: set SSL_CERT_FILE to the file of "
            "its certificate authority."
        )
    elif speaks_http:
        advice = (
            "The server answers without TLS at this port: use its port for https, or "
            "http:// in `base_url`."
        )
    elif any(
        getattr(fault, "errno", None) in _TOO_MANY_FILES for fault in _causes(error)
    ):
        message = f"This process has too many open files to connect to {hop} ({detail})."
        advice = "Lower the concurrency, or raise the limit (`ulimit -n`)."
    failure = cls(f"{message} {advice}")
    if is_untrusted or speaks_http:
        failure.is_retryable = failure.is_retried = False
    return failure


def _refused_by_proxy(
    error: Exception, detail: str, host: str, proxy: Proxy | None
) -> NscaleError:
    """Return the error for a proxy that did not open a connection (CONNECT, or SOCKS)."""
    name = f"The proxy {proxy}" if proxy else "The proxy"
    found = re.match(r"\d{3}\b", str(error))
    status = int(found[0]) if found else None
    if status == _PROXY_AUTHENTICATION:
        source = proxy.source if proxy else "HTTPS_PROXY"
        advice = _PROXY_ADVICE.replace("HTTPS_PROXY", source)
    elif status in _DENIALS:
        advice = f"Have {host} allowed by whoever runs the proxy, or add it to NO_PROXY."
    else:
        advice = f"Check whether the proxy can reach {host}, or try again."
    failure = errors.NscaleConnectionError(
        f"{name} refused a connection to {host} ({detail}). {advice}"
    )
    if status in _FINAL_REFUSALS:
        failure.is_retryable = failure.is_retried = False
    return failure


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, each once: an error can be its own cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def overdue_call(
    seconds: float | None, request: Any, partial: AIMessage | None = None
) -> NscaleError:
    """Return the error for a call that took longer than `total_timeout`."""
    return errors.NscaleTimeoutError(
        f"The call took longer than {seconds} s. Raise `total_timeout`, or try again.",
        request=public_request(request),
        partial=partial,
    )


def unusable_client(fault: RuntimeError) -> Exception:
    """Return the error for a user's HTTP client that can't send a request."""
    text = str(fault)
    if "loop" in text:
        msg = (
            "The `http_async_client` passed to the model belongs to another event loop: "
            f"create a client for each loop ({text})."
        )
        return ValueError(msg)
    if "closed" in text:
        return ValueError("The HTTP client passed to the model has been closed.")
    return fault


def _forget_token(error: BaseException | None) -> None:
    """Drop whatever holds the token in an HTTP library's error and its causes."""
    # Frame locals and request headers both hold the token, and tools that pickle causes
    # (Dask, for one) would copy them.
    fault: Any
    for fault in _causes(error):
        fault.__traceback__ = None
        if getattr(fault, "_request", None) is not None:
            fault.request = public_request(fault.request)


def public_request(request: Any) -> httpx2.Request:
    """Return a copy of a request without headers and body, so that it can be logged."""
    url = str(request.url).partition("?")[0]  # the query may hold keys
    return httpx2.Request(request.method, url)


def public_response(response: Response, content: bytes = b"") -> httpx2.Response:
    """Return a copy of a response that holds neither the token nor a connection."""
    return httpx2.Response(
        response.status_code,
        headers=public_headers(response),
        content=content,
        request=public_request(response.request),
    )


def public_headers(response: Response) -> dict[str, str]:
    """Return the headers of a response without the secret ones."""
    return {
        name: without_token(value, response)
        for name, value in response.headers.items()
        if name.lower() not in {"content-encoding", "content-length", "set-cookie"}
    }


def without_token(value: T, response: Response) -> T:
    """Return text, bytes or JSON of a response without the service token.

    A server or proxy that echoes request headers would leak it into errors and logs. Of
    JSON that is nested so deeply that copying it could fail, the innermost parts are left
    out.
    """
    header = response.request.headers.get("authorization", "")
    token = header.removeprefix("Bearer ")
    return cast("T", _replaced(value, token if len(token) >= _SHORTEST_TOKEN else ""))


def _replaced(value: Any, token: str, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value.replace(token, _HIDDEN) if token else value
    if isinstance(value, bytes):
        return value.replace(token.encode(), _HIDDEN.encode()) if token else value
    if not isinstance(value, (dict, list)):
        return value
    if depth == _DEEPEST:
        return "(nested too deeply)"
    if isinstance(value, dict):
        pairs = value.items()
        return {_replaced(k, token): _replaced(v, token, depth + 1) for k, v in pairs}
    return [_replaced(item, token, depth + 1) for item in value]
