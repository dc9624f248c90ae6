from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from time import process_time
from typing import Any

import httpx2
import openai
import pytest
from langchain_core import exceptions as core
from langchain_core.messages import AIMessage
from langgraph.types import RetryPolicy

import langchain_nscale.errors as ours
from langchain_nscale import ChatNscale
from langchain_nscale.errors import NscaleError
from tests.unit.service import Service, chat

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


# status, body -> our class, langchain-core's, retryable
TABLE = [
    (400, body(), ours.NscaleInvalidRequestError, core.ModelInvalidRequestError, False),
    (401, body(), ours.NscaleAuthenticationError, core.ModelAuthenticationError, False),
    (402, body(), ours.NscaleInsufficientCreditError, core.ModelRateLimitError, False),
    (
        403,
        body(),
        ours.NscalePermissionDeniedError,
        core.ModelPermissionDeniedError,
        False,
    ),
    (404, body(), ours.NscaleModelNotFoundError, core.ModelNotFoundError, False),
    (408, body(), ours.NscaleTimeoutError, core.ModelTimeoutError, True),
    (409, body(), ours.NscaleConflictError, core.ModelAPIError, True),
    (418, body(), ours.NscaleInvalidRequestError, core.ModelInvalidRequestError, False),
    (422, body(), ours.NscaleUnprocessableError, core.ModelInvalidRequestError, False),
    (429, body(), ours.NscaleRateLimitError, core.ModelRateLimitError, True),
    (429, GUIDE_429, ours.NscaleInsufficientCreditError, core.ModelRateLimitError, False),
    (500, body(), ours.NscaleServerError, core.ModelAPIError, True),
    (501, body(), ours.NscaleServerError, core.ModelAPIError, True),
    (502, body(), ours.NscaleUnavailableError, core.ModelAPIError, True),
    (503, body(), ours.NscaleUnavailableError, core.ModelAPIError, True),
    (504, body(), ours.NscaleUnavailableError, core.ModelAPIError, True),
    (
        400,
        body(OVERFLOW),
        ours.NscaleContextOverflowError,
        core.ContextOverflowError,
        False,
    ),
]


def error_for(
    status: int, content: Any, headers: dict[str, str] | None = None
) -> NscaleError:
    """The error of a call that is answered so."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    service = Service(httpx2.Response(status, content=raw, headers=headers))
    with pytest.raises(NscaleError) as caught:
        chat(service, max_retries=0, service_token="s3cret-token").invoke("Hi")
    return caught.value


@pytest.mark.parametrize(("status", "content", "kind", "base", "retryable"), TABLE)
def test_each_status_has_its_class(
    status: int, content: Any, kind: type[NscaleError], base: type, retryable: bool
) -> None:
    error = error_for(status, content, {"inference-id": "inf-1", "retry-after": "3"})
    assert type(error) is kind
    assert isinstance(error, base)
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
    assert error.error_type == "INSUFFICIENT_CREDIT"
    assert error.param is None
    assert "Add credit" in str(error)


def test_the_type_of_an_error_is_read_in_both_spellings() -> None:
    for key in ("type", "error_type"):
        error = error_for(400, b'{"error": {"message": "x", "%s": "Bad"}}' % key.encode())
        assert error.error_type == "Bad"


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
    error = error_for(307, b"", {"location": "https://elsewhere/v1"})
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
        ({"retry-after": "-0.5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert error_for(503, b"", headers).retry_after == seconds


def test_retry_after_a_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(seconds=30)
    headers = {"retry-after": format_datetime(later, usegmt=True)}
    seconds = error_for(503, b"", headers).retry_after
    assert seconds is not None
    assert 25 < seconds <= 30


@pytest.mark.parametrize("kind", sorted({row[2] for row in TABLE}, key=str))
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


@pytest.mark.parametrize("kind", sorted({row[2] for row in TABLE}, key=str))
def test_errors_can_be_made_from_their_text(kind: type[NscaleError]) -> None:
    """Celery hands an error out as a base class where its class can't be made so."""
    assert type(kind(*kind("text").args)) is kind


def test_an_error_holds_no_token() -> None:
    error = error_for(500, b"x")
    assert b"s3cret" not in pickle.dumps(error)
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
    assert way_out in str(error_for(status, {"error": {"message": said}}))


def test_langgraphs_default_policy_repeats_what_may_pass() -> None:
    # It repeats all but some built-in classes: 401, 400 and no credit three times each.
    default = RetryPolicy().retry_on
    assert callable(default)
    for kind in subclasses(NscaleError):
        error = kind("text")
        assert default(error) == error.is_retryable, kind
        assert not isinstance(error, (OSError, ValueError))  # for files, and settings


def test_helpers_for_other_policies() -> None:
    for kind in subclasses(NscaleError):
        error = kind("text")
        assert ours.should_retry(error) == error.is_retryable, kind
    for may_pass in (ConnectionError(), TimeoutError(), core.ModelRateLimitError()):
        assert ours.should_retry(may_pass)
    for final in (ValueError(), KeyError(), OSError(), core.ModelAuthenticationError()):
        assert not ours.should_retry(final)


def subclasses(kind: type[NscaleError]) -> list[type[NscaleError]]:
    found: list[type[NscaleError]] = []
    for each in kind.__subclasses__():
        found += [each, *subclasses(each)]
    return found


def test_the_page_on_migrating_says_what_to_catch_instead_of_the_sdks_classes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
    rows = re.findall(r"^\| `openai\.(\w+)` \| ([^|]*) \|", page, re.MULTILINE)
    instead = {name: re.findall(r"`(\w+Error)`", text) for name, text in rows}
    assert instead.keys() <= vars(openai).keys()
    for status, content, *_ in TABLE:
        error = error_for(status, content)
        bases = {base.__name__ for base in openai_class_for(status).__mro__}
        for name in bases & instead.keys():
            found = [vars(core).get(each) or vars(ours)[each] for each in instead[name]]
            assert isinstance(error, tuple(found)), (status, name)


def openai_class_for(status: int) -> type[Exception]:
    """The class that the OpenAI SDK raises for a status."""
    answer = httpx2.Response(status, request=httpx2.Request("POST", "https://x"))
    client = openai.OpenAI(api_key="k")
    return type(client._make_status_error("x", body=None, response=answer))


HOSTILE_MESSAGES: dict[str, Callable[[int], str]] = {
    "blanks": lambda n: "x" + " " * n + "y",
    "locations": lambda n: "'loc':(" * (n // 7),
    "locations and open quotes": lambda n: "'loc':(a),'msg':'" * (n // 17),
    "blanks after a location": lambda n: "'loc':" + " " * n,
    "files": lambda n: 'File "' * (n // 6),
    "escapes": lambda n: "'loc':(a),'msg':'" + "\\" * n,
}


@pytest.mark.parametrize("kind", HOSTILE_MESSAGES)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_hostile_message_costs_linear_time(kind: str, status: int) -> None:
    """The search for the cause of an error is bounded, whatever the text."""

    def seconds(size: int) -> float:
        body = {"error": {"message": HOSTILE_MESSAGES[kind](size), "code": "X"}}
        start = process_time()
        error_for(status, body)
        return process_time() - start

    small = min(seconds(250_000) for _ in range(3))
    assert min(seconds(1_000_000) for _ in range(3)) < 8 * max(small, 0.005)


@pytest.mark.parametrize("depth", [90, 150, 300, 1_000, 10_000, 60_000])
@pytest.mark.parametrize("place", ['"message":', '"message":"m","x":', '"code":'])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deeply_nested_errors_are_typed(depth: int, place: str, opening: str) -> None:
    end = {"[": "]", '{"a":': "}"}[opening]
    inner = opening * depth + ("1" if end == "}" else "") + end * depth
    body = f'{{"error":{{{place}{inner}}}}}'.encode()
    error = error_for(400, body)
    pickle.dumps(copy.deepcopy(error))
    wire = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        content=b"data: " + body + b"\n\n",
    )
    client = httpx2.Client(transport=httpx2.MockTransport(lambda _: wire))
    model = ChatNscale(model="m", service_token="token-1", http_client=client)
    with pytest.raises(NscaleError):
        list(model.bind(max_retries=0).stream("Hi"))


def test_what_litellm_renames_is_read() -> None:
    assert error_for(429, b"", {"llm_provider-retry-after": "7"}).retry_after == 7
    message = "Invalid model name passed in model=x. Call `/v1/models` to view models."
    unknown = error_for(400, {"error": {"message": message, "code": "400"}})
    assert type(unknown) is ours.NscaleModelNotFoundError


def test_a_fault_that_is_its_own_cause_is_reported() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        fault = httpx2.ConnectError("down", request=request)
        fault.__cause__ = fault
        raise fault

    client = httpx2.Client(transport=httpx2.MockTransport(handle))
    model = ChatNscale(model="m", service_token="t", max_retries=0, http_client=client)
    with pytest.raises(ours.NscaleConnectionError):
        model.invoke("Hi")
