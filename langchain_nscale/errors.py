"""Exceptions raised for failures of the service or the network.

Each class is also langchain-core's class for the same condition, so
`except ModelRateLimitError`, `with_fallbacks`, `ModelRetryMiddleware` and LangGraph's
`RetryPolicy` treat them like the errors of other providers::

    NscaleError
    ├── NscaleInvalidRequestError              400, 413 and other 4xx
    │   ├── NscaleUnprocessableError           422
    │   └── NscaleContextOverflowError         the prompt is too long
    ├── NscaleAuthenticationError              401
    ├── NscalePermissionDeniedError            403
    ├── NscaleModelNotFoundError               404
    ├── NscaleConflictError                    409
    ├── NscaleRateLimitError                   429
    ├── NscaleInsufficientCreditError          429 with INSUFFICIENT_CREDIT
    ├── NscaleServerError                      500 and other 5xx
    │   └── NscaleUnavailableError             502, 503, 504
    ├── NscaleConnectionError                  no connection
    │   └── NscaleInterruptedStreamError       a stream ended early
    ├── NscaleTimeoutError                     408, or no response in time
    │   └── NscaleStalledStreamError           a stream went silent
    ├── NscaleStreamError                      an error reported inside a stream
    ├── NscaleMalformedResponseError           a 2xx that is not a usable reply
    └── NscaleMissingToolCallError             words where a tool call was demanded

Errors that no repetition can fix (`is_retryable` is false) are also RuntimeErrors, for
one reason: LangGraph's `RetryPolicy()` (1.2) repeats all exceptions but those of some
built-in classes, and would send a rejected request three times.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2
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
else:
    AIMessage = Any  # the command line starts without messages


class NscaleError(ModelError):
    """Base class of all errors caused by the service or the network.

    Attributes:
        message: What happened and what to do about it, in one or two sentences.
        status_code: HTTP status, or `None` if there was no response.
        code: The service's `error.code`, for example `"TOO_MANY_REQUESTS"`.
        error_type: The service's `error.error_type`, for example
            `"INSUFFICIENT_CREDIT"`.
        param: The request field named by the service, if any.
        request_id: The service's ID of the request (header `inference-id`).
        retry_after: Seconds to wait as requested by the service, or `None`.
        body: The decoded body of the response, its text if it is not JSON, or `None`.
        partial: The message received before a stream broke, or `None`.
        partial_embeddings: If only some texts could be embedded, the vectors of all
            texts in order, with `None` for each text that failed; otherwise `None`.
        retries: Number of retries before this error.
        requests: Number of requests sent, retries included.
        request: The request without its headers, which contain the token.
        response: The response, or `None`.
        is_retryable: Whether the same request may succeed later.
        is_retried: Whether `ChatNscale` and `NscaleEmbeddings` retry it themselves.
        advice: What to do about errors of this class.
        statuses: HTTP statuses that raise this class.
    """

    advice: ClassVar[str] = ""
    is_retried: bool = False
    statuses: ClassVar[frozenset[int]] = frozenset()
    partial_embeddings: list[list[float] | None] | None = None

    def __init__(
        self,
        message: str,
        *,
        request: httpx2.Request | None = None,
        response: httpx2.Response | None = None,
        status_code: int | None = None,
        body: object = None,
        code: str | None = None,
        error_type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        partial: AIMessage | None = None,
        retries: int = 0,
    ) -> None:
        Exception.__init__(self, message)
        self.message = message
        self.request = request or (
            response.request if response is not None else httpx2.Request("POST", "")
        )
        self.response: Any = response
        if status_code is None and response is not None:
            status_code = response.status_code
        self.status_code: Any = status_code
        self.body = body
        self.code = code
        self.error_type = error_type
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        self.partial = partial
        self.retries = retries

    @property
    def requests(self) -> int:
        """Number of requests sent, retries included."""
        return self.retries + 1

    def add_to_message(self, text: str) -> None:
        """Append a sentence to the message."""
        self.message = f"{self.message} {text}"
        self.args = (self.message,)

    # Exceptions are pickled as cls(*args), which would lose the keyword arguments.
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._restore, (self.__dict__,)  # noqa: SLF001  # same class

    @classmethod
    def _restore(cls, state: dict[str, Any]) -> NscaleError:
        error = cls.__new__(cls, state["message"])
        Exception.__init__(error, state["message"])
        error.__dict__.update(state)
        return error


class NscaleAuthenticationError(NscaleError, ModelAuthenticationError, RuntimeError):
    """401: the service token is missing, wrong, expired or revoked."""

    statuses = frozenset({401})
    advice = (
        "Check the service token: argument `service_token` or variable "
        "NSCALE_SERVICE_TOKEN. It may have expired."
    )


class NscalePermissionDeniedError(NscaleError, ModelPermissionDeniedError, RuntimeError):
    """403: the service token does not have the required permission."""

    statuses = frozenset({403})
    advice = "Grant the service token the permission named in the message."


class NscaleInvalidRequestError(NscaleError, ModelInvalidRequestError, RuntimeError):
    """400, or another 4xx without a specific class: the request was rejected."""

    statuses = frozenset({400, 413})
    advice = "Fix the request as described in the message."


class NscaleUnprocessableError(NscaleInvalidRequestError):
    """422: a field of the request has an invalid value."""

    statuses = frozenset({422})


class NscaleContextOverflowError(NscaleInvalidRequestError, ContextOverflowError):
    """The prompt is longer than the model's context window."""

    statuses = frozenset()
    advice = "Shorten the messages (`trim_messages`) or lower `max_tokens`."


class NscaleModelNotFoundError(NscaleError, ModelNotFoundError, RuntimeError):
    """404: the model does not exist or is currently unavailable.

    Attributes:
        suggestions: The most similar IDs that the service lists, best match first.
    """

    statuses = frozenset({404})
    advice = (
        "Check `model` (IDs are case-sensitive) against GET /v1/models, and `base_url`."
    )
    suggestions: tuple[str, ...] = ()


class NscaleConflictError(NscaleError, ModelAPIError):
    """409: the request conflicts with the state of a resource and may succeed later."""

    statuses = frozenset({409})
    advice = "Try again."
    is_retried = True


class NscaleRateLimitError(NscaleError, ModelRateLimitError):
    """429 for any reason but insufficient credit."""

    statuses = frozenset({429})
    advice = "Wait and try again, or lower the concurrency."
    is_retried = True


class NscaleInsufficientCreditError(NscaleError, ModelRateLimitError, RuntimeError):
    """429 with `INSUFFICIENT_CREDIT`: retrying won't help."""

    advice = "Add credit in the Nscale console; retrying won't help."
    is_retryable = False


class NscaleServerError(NscaleError, ModelAPIError):
    """500, or another 5xx without a specific class."""

    statuses = frozenset({500})
    advice = "Try again; if the error persists, report the request ID to Nscale."
    is_retried = True


class NscaleUnavailableError(NscaleServerError):
    """502, 503 or 504: the service is temporarily unavailable."""

    statuses = frozenset({502, 503, 504})
    advice = "Try again later."


class NscaleConnectionError(NscaleError, ModelConnectionError):
    """The service could not be reached, or the connection broke before a response."""

    advice = "Check `base_url`, the network and any proxy, or try again."
    is_retried = True


class NscaleTimeoutError(NscaleError, ModelTimeoutError):
    """408, or no response within `timeout`."""

    statuses = frozenset({408})
    advice = "Raise `timeout`, or try again."
    is_retried = True


class NscaleStalledStreamError(NscaleTimeoutError):
    """A stream was silent for `stream_chunk_timeout` seconds.

    Attributes:
        timeout_s: The limit, in seconds.
        model_name: ID of the model.
        chunks_received: Number of chunks received before the silence.
    """

    statuses = frozenset()
    advice = (
        "Raise `stream_chunk_timeout`, or try again; everything received is in `partial`."
    )
    is_retried = False
    timeout_s: float = 0.0
    model_name: str | None = None
    chunks_received: int = 0


class NscaleInterruptedStreamError(NscaleConnectionError):
    """A stream ended before the model had finished; `partial` holds what was received."""

    advice = "Try again; everything received is in `partial`."
    is_retried = False


class NscaleStreamError(NscaleError, ModelAPIError):
    """The service reported an error mid-stream that has no more specific class."""

    advice = "Try again; everything received is in `partial`."


class NscaleMalformedResponseError(NscaleError, ModelAPIError):
    """The response has a 2xx status, but its body is not a usable reply."""

    advice = "Check `base_url` and any proxy in between."


class NscaleMissingToolCallError(NscaleError, RuntimeError):
    """The model answered in words although `tool_choice` demanded a tool call.

    Nscale only documents the choices auto and none. The reply has been paid for: it is in
    `partial`, complete and with its usage.
    """

    advice = (
        "For an answer in a schema use `with_structured_output(Schema)`, and in an agent "
        "`response_format=ProviderStrategy(Schema)`: they need no tool call. The whole "
        "reply is in `partial`."
    )


def should_retry(error: BaseException) -> bool:
    """Return whether repeating what raised an error may help.

    For `retry_on` of LangGraph's `RetryPolicy` and LangChain's middleware, and for
    `with_retry(retry_if_exception_type=should_retry)`. Errors of all models that use
    langchain-core's classes say so themselves (`is_retryable`). Of other exceptions only
    ConnectionError and TimeoutError are worth a repetition.

    Examples:
        >>> from langchain_nscale import NscaleInsufficientCreditError, should_retry
        >>> should_retry(NscaleInsufficientCreditError("No credit"))
        False
    """
    if isinstance(error, ModelError):
        return bool(error.is_retryable)
    return isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError))
