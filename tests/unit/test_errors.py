from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx2
import openai
import pytest
from langchain_core import exceptions as core
from langchain_core.messages import AIMessage

import langchain_nscale.errors as ours
from langchain_nscale._error_bodies import retry_after
from langchain_nscale._failures import status_error
from langchain_nscale.errors import NscaleError
from tests.unit.replies import response

GUIDE_429 = {
    "error": {
        "code": "TOO_MANY_REQUESTS",
        "message": "You have insufficient credit to run this request",
        "param": None,
        "error_type": "INSUFFICIENT_CREDIT",
    }
}
OVERFLOW = "This model's maximum context length is 10 tokens. However, you requested 12."


def body(message: str = "said", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


# status, body -> our class, the SDK's, langchain-core's, retryable
TABLE = [
    (400, body(), ours.NscaleInvalidRequestError, openai.BadRequestError, False),
    (401, body(), ours.NscaleAuthenticationError, openai.AuthenticationError, False),
    (402, body(), ours.NscaleInvalidRequestError, openai.BadRequestError, False),
    (403, body(), ours.NscalePermissionDeniedError, openai.PermissionDeniedError, False),
    (404, body(), ours.NscaleModelNotFoundError, openai.NotFoundError, False),
    (408, body(), ours.NscaleTimeoutError, openai.APITimeoutError, True),
    (409, body(), ours.NscaleConflictError, openai.ConflictError, True),
    (418, body(), ours.NscaleInvalidRequestError, openai.BadRequestError, False),
    (422, body(), ours.NscaleUnprocessableError, openai.UnprocessableEntityError, False),
    (429, body(), ours.NscaleRateLimitError, openai.RateLimitError, True),
    (429, GUIDE_429, ours.NscaleInsufficientCreditError, openai.RateLimitError, False),
    (500, body(), ours.NscaleServerError, openai.InternalServerError, True),
    (501, body(), ours.NscaleServerError, openai.InternalServerError, True),
    (502, body(), ours.NscaleUnavailableError, openai.InternalServerError, True),
    (503, body(), ours.NscaleUnavailableError, openai.InternalServerError, True),
    (504, body(), ours.NscaleUnavailableError, openai.InternalServerError, True),
    (400, body(OVERFLOW), ours.NscaleContextOverflowError, openai.BadRequestError, False),
]
CORE = {
    ours.NscaleInvalidRequestError: core.ModelInvalidRequestError,
    ours.NscaleAuthenticationError: core.ModelAuthenticationError,
    ours.NscalePermissionDeniedError: core.ModelPermissionDeniedError,
    ours.NscaleModelNotFoundError: core.ModelNotFoundError,
    ours.NscaleTimeoutError: core.ModelTimeoutError,
    ours.NscaleConflictError: core.ModelAPIError,
    ours.NscaleUnprocessableError: core.ModelInvalidRequestError,
    ours.NscaleRateLimitError: core.ModelRateLimitError,
    ours.NscaleInsufficientCreditError: core.ModelRateLimitError,
    ours.NscaleServerError: core.ModelAPIError,
    ours.NscaleUnavailableError: core.ModelAPIError,
    ours.NscaleContextOverflowError: core.ContextOverflowError,
}


def error_for(status: int, content: Any, **headers: str) -> NscaleError:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return status_error(response(raw, status=status, **headers), raw)


@pytest.mark.parametrize(("status", "content", "kind", "sdk", "retryable"), TABLE)
def test_each_status_has_its_class(
    status: int, content: Any, kind: type[NscaleError], sdk: type, retryable: bool
) -> None:
    error = error_for(status, content, inference_id="inf-1", retry_after="3")
    assert type(error) is kind
    assert isinstance(error, sdk)
    assert isinstance(error, CORE[kind])
    assert isinstance(error, core.ModelError)
    assert error.is_retryable is retryable
    assert error.status_code == status
    assert error.request_id == "inf-1"
    assert error.retry_after == 3
    assert error.body == content
    said = content["error"]["message"].rstrip(".")
    assert f"Nscale answered {status}" in str(error)
    assert said in str(error)
    assert str(error).count(". ") >= 1  # what happened, and what to do


@pytest.mark.parametrize(
    "content",
    [{"detail": "Not Found"}, b"Not Found", b"<html>404</html>", b"404 page not found"],
)
def test_a_path_that_does_not_exist_blames_the_address(content: Any) -> None:
    error = error_for(404, content)
    assert type(error) is ours.NscaleModelNotFoundError
    assert "`base_url` usually ends in /v1" in str(error)
    assert "Check `model`" not in str(error)


def test_the_guides_error_object_is_read_in_full() -> None:
    error = error_for(429, GUIDE_429)
    assert error.code == "TOO_MANY_REQUESTS"
    assert error.error_type == error.type == "INSUFFICIENT_CREDIT"
    assert error.param is None
    assert "Add credit" in str(error)


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>\n<h1>Bad   gateway</h1></html>", "<h1>Bad gateway</h1>"),
        (b"", "(the response has no message)"),
        (b"{", "{"),
        (b'{"error": "short"}', "short"),
        (b'{"object": "error", "message": "flat", "code": 1}', "flat"),
        (b'{"message": "bare"}', "bare"),
        (b'{"detail": "fast"}', "fast"),
        (b'{"detail": [{"loc": ["x"]}]}', "loc"),
        (b"[1]", "(the response has no message)"),
    ],
)
def test_bodies_of_every_kind(status: int, content: bytes, said: str) -> None:
    error = error_for(status, content)
    assert str(status) in str(error)
    assert said in str(error)


def test_a_long_page_is_cut_in_the_text_and_whole_in_the_body() -> None:
    error = error_for(503, b"x" * 10_000)
    assert len(str(error)) < 1000
    assert error.body == "x" * 10_000


def test_passing_limits_that_others_word_like_quota_are_retryable() -> None:
    error = error_for(429, body("INSUFFICIENT QUOTA", error_type="RATE_LIMIT"))
    assert type(error) is ours.NscaleRateLimitError


@pytest.mark.parametrize(
    "message",
    [
        OVERFLOW,
        "The prompt (total length 12) exceeds the maximum model length of 10",
        "The input exceeds the model's maximum context of 10",
        "Prompt is too long",
    ],
)
def test_every_wording_of_a_prompt_that_is_too_long(message: str) -> None:
    flat = {"object": "error", "message": message, "code": 400}
    for content in (body(message), flat):
        assert type(error_for(400, content)) is ours.NscaleContextOverflowError


def test_a_redirect_is_refused_with_its_target() -> None:
    error = error_for(307, b"", location="https://elsewhere/v1")
    assert "https://elsewhere/v1" in str(error)
    assert "`base_url`" in str(error)
    assert error.is_retryable is False


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_a_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(seconds=30)
    seconds = retry_after({"retry-after": format_datetime(later, usegmt=True)})
    assert seconds is not None
    assert 25 < seconds <= 30


@pytest.mark.parametrize("kind", sorted(CORE, key=str))
def test_errors_survive_pickling(kind: type[NscaleError]) -> None:
    error = kind(
        "text",
        response=httpx2.Response(
            429, headers={"retry-after": "2"}, request=httpx2.Request("POST", "https://x")
        ),
        body=GUIDE_429,
        partial=AIMessage("half"),
        retries=2,
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "text"
    assert copy.args == error.args
    for name in ("status_code", "code", "error_type", "retry_after", "body", "retries"):
        assert getattr(copy, name) == getattr(error, name)
    assert copy.partial == error.partial
    assert copy.response.status_code == 429


def test_an_error_holds_no_token() -> None:
    request = httpx2.Request("POST", "https://x", headers={"authorization": "Bearer s3"})
    got = httpx2.Response(500, content=b"x", request=request)
    error = status_error(got, b"x")
    assert b"s3" not in pickle.dumps(error)
    assert "authorization" not in error.request.headers
    assert "authorization" not in error.response.request.headers


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    ("said", "way_out"),
    [
        ("tool_choice must be auto or none", "method='json_schema'"),
        ("response_format is not supported", "method='prompt'"),
    ],
)
def test_a_refused_field_names_the_way_out(status: int, said: str, way_out: str) -> None:
    body = json.dumps({"error": {"message": said}}).encode()
    assert way_out in str(status_error(response(body, status=status), body))
