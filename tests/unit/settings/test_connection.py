"""Mistakes in settings and the environment: an early error that names what to change."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import h11
import httpx
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from langchain_nscale import (
    ChatNscale,
    NscaleEmbeddings,
    NscaleUsageCallbackHandler,
    aclose_connections,
    close_connections,
)
from langchain_nscale._requests.body import _API_FIELDS, CALL_SETTINGS

ANSWER = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
BOTH = pytest.mark.parametrize("cls", [ChatNscale, NscaleEmbeddings])


def make(cls: Any = ChatNscale, **settings: Any) -> Any:
    return cls(**{"model": "m", "service_token": "t", **settings})


# --- addresses --------------------------------------------------------------------------

HIDDEN = "hunter2"
URLS = {
    "no scheme": ("example.com/v1", "must begin with https://"),
    "another scheme": ("ftp://example.com", "must begin with https://"),
    "no host": ("https:///v1", "host"),
    "clear text": ("http://example.com/v1", "allow_insecure_http"),
    "the path of an endpoint": (
        "https://example.com/v1/chat/completions",
        "use 'https://example.com/v1'",
    ),
    "a fragment": ("https://example.com/v1#x", "use 'https://example.com/v1'"),
    "a password": (f"https://me:{HIDDEN}@example.com/v1", "user name or password"),
    "an impossible host": (f"https://{'a' * 64}.com/v1", "not a valid URL"),
    "an empty label": ("https://a..b/v1", "not a valid URL"),
    "an impossible port": (f"https://me:{HIDDEN}@example.com:x/v1", "not a valid URL"),
    "a secret query": ("http://example.com/v1?key=hunter2", "allow_insecure_http"),
    "a secret query and a path": (
        "https://example.com/v1/chat/completions?key=hunter2",
        "without a path",
    ),
}


@BOTH
@pytest.mark.parametrize(("url", "problem"), URLS.values(), ids=URLS)
@pytest.mark.parametrize("variable", [False, True])
def test_addresses(
    cls: Any, url: str, problem: str, variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {} if variable else {"base_url": url}
    if variable:
        monkeypatch.setenv("NSCALE_BASE_URL", url)
    with pytest.raises(ValueError, match=problem) as caught:
        make(cls, **settings)
    assert ("NSCALE_BASE_URL" if variable else "`base_url`") in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.255.3.4/v1", True),
        ("http://[::1]/v1", True),
        ("http://[::ffff:127.0.0.1]/v1", True),
        ("http://0.0.0.0:8000", True),
        ("http://localhost", True),
        ("http://LOCALHOST", True),
        ("http://model.localhost", True),
        ("http://128.0.0.1", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://inference.api.nscale.com/v1", False),
        ("http://[::ffff:10.0.0.1]/v1", False),
        ("http://a..b", False),
    ],
)
def test_only_addresses_of_this_machine_may_be_without_tls(
    url: str, is_local: bool
) -> None:
    refused = pytest.raises(ValueError, match=r"allow_insecure_http|not a valid URL")
    with nullcontext() if is_local else refused:
        make(base_url=url)


def test_secrets_in_a_query_or_header_are_not_shown() -> None:
    url = "https://example.com/v1?key=hunter2"
    model = make(base_url=url, default_headers={"X-Key": "hunter3"})
    assert model.default_query == {"key": "hunter2"}
    assert "hunter" not in repr(model) + str(model)


# --- headers, limits, clients -----------------------------------------------------------

SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "authorization": (
        {"default_headers": {"AUTHORIZATION": "Bearer x"}},
        "`default_headers`.*service_token",
    ),
    "a header that the request determines": (
        {"default_headers": {"content-length": "3"}},
        "`default_headers` has 'content-length'",
    ),
    "two lines": ({"default_headers": {"X": "a\nb"}}, "`default_headers`.*'X'"),
    "other letters": ({"default_headers": {"X": "ü"}}, "`default_headers`.*'X'"),
    "no header's name": ({"default_headers": {"X Y": "a"}}, "'X Y'.*not the name"),
    "negative retries": ({"max_retries": -1}, "`max_retries`"),
    "no time": ({"timeout": 0}, "`timeout`"),
    "a word for a time": ({"timeout": "soon"}, "`timeout`"),
    "three times": ({"timeout": (1, 2, 3)}, "`timeout`"),
    "no total time": ({"total_timeout": 0}, "`total_timeout`"),
    "an unknown name": ({"temprature": 1}, "Did you mean `temperature`"),
    "client arguments": ({"client_args": {}}, "`client_args`"),
    "no choices": ({"n": 0}, "`n`"),
    "a client with auth": (
        {"http_client": httpx2.Client(auth=("a", "b"))},
        "`http_client` has its own `auth`",
    ),
    "no token": ({"service_token": ""}, "NSCALE_SERVICE_TOKEN"),
    "a token of two words": ({"service_token": "a b"}, "NSCALE_SERVICE_TOKEN"),
    "a token in quotes": ({"service_token": '"secret"'}, "quotation mark.*--env-file"),
    "a token in single quotes": ({"service_token": "'secret'\n"}, "quotation mark"),
}


@pytest.mark.parametrize(("settings", "problem"), SETTINGS.values(), ids=SETTINGS)
def test_settings(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make(**settings)


@given(st.text(), st.text())
def test_headers_that_are_accepted_can_be_sent(name: str, value: str) -> None:
    with suppress(ValueError):
        make(default_headers={name: value})
        request = httpx2.Request("GET", "https://x", headers={name: value})
        h11.Request(method="GET", target="/", headers=request.headers.raw)


@pytest.mark.parametrize("name", ["extra_headers", "extra_query", "extra_body"])
def test_arguments_that_may_be_secret_are_not_shown(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is of type str") as caught:
        make().invoke("Hi", **{name: HIDDEN})
    assert HIDDEN not in str(caught.value)


def test_the_values_of_headers_are_not_shown() -> None:
    with pytest.raises(ValueError, match="X-Key") as caught:
        make(default_headers={"X-Key": f"{HIDDEN}\n"})
    assert HIDDEN not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Unrecognized keys in model profile")
@settings(max_examples=300)
@given(
    st.sampled_from([*ChatNscale.model_fields, *NscaleEmbeddings.model_fields]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=2)
    | st.binary(max_size=2)
    | st.lists(st.integers() | st.none(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.none() | st.integers(), max_size=2)
    | st.just(object()),
)
def test_a_setting_of_any_form_is_accepted_or_named(field: str, value: Any) -> None:
    for cls in (ChatNscale, NscaleEmbeddings):
        if field not in cls.model_fields:
            continue
        error: Exception | None = None
        try:
            make(cls, **{field: value})
        except (ValueError, TypeError) as caught:
            error = caught
        alias = cls.model_fields[field].alias or field
        assert error is None or {field, alias} & set(
            re.findall(r"\w+", str(error).lower().replace("nscale_service", "service"))
        )


BAD_SCHEMAS: list[Any] = [True, 0, "x", b"x", [], [3], object(), {"title": 5}]
BAD_SCHEMAS += [{"name": "f", "parameters": 3}, {"type": "function", "function": {}}]
BAD_SCHEMAS += [int, str, list[int], int | str]
BAD_TOOLS: list[Any] = [
    5,
    "x",
    {"a": 1},
    [None],
    [3],
    [{}],
    ["x"],
    [int],
    [object()],
    [[]],
]
BAD_TOOLS += [[{"type": "function"}], [{"type": "function", "function": {"name": 5}}]]


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("schema", BAD_SCHEMAS)
def test_invalid_schemas(schema: Any, method: Any) -> None:
    with pytest.raises(ValueError, match="`schema` is"):
        make().with_structured_output(schema, method=method)


@pytest.mark.parametrize("tools", BAD_TOOLS)
def test_invalid_tools(tools: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="tool"):
        make().bind_tools(tools)


# Values of JSON, and those by which replies are read: roles, calls, names.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "function", "name", "id", "tool_calls", "a"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)
SENT_FIELDS = sorted(_API_FIELDS | CALL_SETTINGS | {"extra_body", "messages"})


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=500)
@given(
    st.sampled_from(["call", "model_kwargs", "extra_body"]),
    st.sampled_from(SENT_FIELDS),
    JSON,
    st.booleans(),
)
def test_a_field_of_any_form_is_sent_or_named(
    place: str, field: str, value: Any, stream: bool
) -> None:
    """A mistake is never found after the request has been sent and paid for."""
    requests: list[bytes] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        requests.append(request.content)
        if not stream:
            return httpx2.Response(200, json=ANSWER)
        chunk = {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}
        events = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, text=events, headers=headers)

    call: dict[str, Any] = {field: value} if place == "call" else {}
    options: dict[str, Any] = {} if place == "call" else {place: {field: value}}
    with httpx2.Client(transport=httpx2.MockTransport(handle)) as client:
        error: Exception | None = None
        text = ""
        try:
            model = make(http_client=client, **options)
            parts = model.stream("Hi", **call) if stream else [model.invoke("Hi", **call)]
            text = "".join(part.text for part in parts)
        except (ValueError, TypeError) as caught:
            error = caught
    if error is None:
        assert (len(requests), text) == (1, "hi")
    else:
        assert not requests
        assert field.removesuffix("s") in str(error)


@BOTH
@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("http_client", httpx2.AsyncClient()),
        ("http_async_client", httpx2.Client()),
        ("http_client", httpx.AsyncClient()),
        ("http_client", object()),
        ("http_client", "https://proxy"),
    ],
)
def test_clients_of_the_wrong_kind(cls: Any, name: str, client: Any) -> None:
    with pytest.raises(TypeError, match="client"):
        make(cls, **{name: client})


def test_a_closed_client() -> None:
    client = httpx2.Client()
    client.close()
    with pytest.raises(ValueError, match="has been closed"):
        make(http_client=client).invoke("Hi")

    async def main() -> None:
        closed = httpx2.AsyncClient()
        await closed.aclose()
        with pytest.raises(ValueError, match="has been closed"):
            await make(http_async_client=closed).ainvoke("Hi")

    asyncio.run(main())


# --- the environment --------------------------------------------------------------------


@pytest.fixture
def _new_clients() -> Any:
    close_connections()
    yield
    close_connections()


ENVIRONMENT = {
    "a missing file": ("SSL_CERT_FILE", "/nowhere/ca.pem", "SSL_CERT_FILE"),
    "an unknown kind of proxy": ("ALL_PROXY", "socks://h:1", "ALL_PROXY.*socks5://"),
    "another unknown kind": ("HTTPS_PROXY", "ftp://h:1", "HTTPS_PROXY.*socks5://"),
}


@pytest.mark.usefixtures("_new_clients")
@pytest.mark.parametrize(
    ("name", "value", "problem"), ENVIRONMENT.values(), ids=ENVIRONMENT
)
async def test_variables(
    name: str, value: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=problem):
        make().invoke("Hi")
    with pytest.raises(ValueError, match=problem):
        await make().ainvoke("Hi")
    await aclose_connections()


@pytest.mark.usefixtures("_new_clients")
def test_a_certificate_file_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ValueError, match="SSL_CERT_FILE") as caught:
        make().invoke("Hi")
    assert not isinstance(caught.value, ssl.SSLError)


# --- tools ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "object", ["object", "null"], "missing"], ids=str)
def test_schemas_of_tools_are_completed(kind: Any) -> None:
    parameters: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
    if kind != "missing":
        parameters["type"] = kind
    definition = {
        "type": "function",
        "function": {"name": "f", "parameters": None if kind is None else parameters},
    }
    bound: Any = make().bind_tools([definition])
    sent = bound.kwargs["tools"][0]["function"].get("parameters")
    assert sent is None or sent["type"] == "object"


@pytest.mark.parametrize("choice", ["any", "required", "f", True])
def test_a_choice_without_tools(choice: Any) -> None:
    with pytest.raises(ValueError, match="no tools"):
        make().bind_tools([], tool_choice=choice)


def test_values_without_a_json_form_are_named() -> None:
    @tool
    def f() -> str:
        """Do nothing."""
        return ""

    model = make().bind_tools([f])
    with pytest.raises(ValueError, match="of type object"):
        model.invoke("Hi", extra_body={"x": object()})
    history = [HumanMessage("Hi"), AIMessage("", tool_calls=[])]
    with pytest.raises(ValueError, match="nested too deeply"):
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        model.invoke(history, extra_body={"x": deep})


# --- what people get wrong first ------------------------------------------------------

MODEL: Any = ChatNscale
HANDLER: Any = NscaleUsageCallbackHandler
FIRST: dict[str, tuple[Any, str]] = {
    "a positional model": (
        lambda: MODEL("m"),
        r"ChatNscale\(model='m'\)",
    ),
    "two tokens": (lambda: make(api_key="a"), "either `service_token` or `api_key`"),
    "a setting of a call": (lambda: make(response_format={}), "with_structured_output"),
    "another service's": (lambda: make(use_responses_api=True), "Chat Completions"),
    "a tool instead of a list": (
        lambda: make().bind_tools(make),
        r"pass a list.*\[make\]",
    ),
    "a text instead of a list": (lambda: make().bind_tools("f"), "pass a list"),
    "a number as a schema": (
        lambda: make().with_structured_output(5),
        "use a Pydantic class",
    ),
    "an unknown argument of a call": (
        lambda: make().invoke("Hi", temprature=1),
        "`temprature` is not a field.*`temperature`",
    ),
    "messages that are none": (
        lambda: make().invoke("Hi", extra_body={"messages": 5}),
        "`messages` is 5",
    ),
    "a stop sequence that is none": (
        lambda: make().invoke("Hi", stop=[5]),
        r"`stop` is \[5\]",
    ),
    "a price without a pair": (
        lambda: HANDLER({"m": 5}),
        "US dollars per million",
    ),
    "a price with three parts": (
        lambda: HANDLER({"m": (1, 2, 3)}),
        "US dollars per million",
    ),
    "a price for everything": (
        lambda: HANDLER(0.06),
        "list_models",
    ),
}


def test_a_variable_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NSCALE_SERVICE_TOKEN", "NSCALE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for other in ("GITHUB_TOKEN", "NSCALE_REGION"):
        monkeypatch.setenv(other, "t")
        with pytest.raises(ValueError, match="token is missing") as caught:
            ChatNscale(model="m")
        assert other not in str(caught.value)
    monkeypatch.setenv("NSCALE_TOKEN", "t")
    with pytest.raises(ValueError, match="NSCALE_TOKEN is set, but not read"):
        ChatNscale(model="m")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_a_failing_token_callable_is_named() -> None:
    def fail() -> str:
        vault: dict[str, str] = {}
        return vault["secret of the vault"]

    async def afail() -> str:
        return fail()

    calls: list[Any] = [
        lambda: make(service_token=fail).invoke("Hi"),
        lambda: asyncio.run(make(service_token=fail).ainvoke("Hi")),
        lambda: asyncio.run(make(service_token=afail).ainvoke("Hi")),
    ]
    for call in calls:
        with pytest.raises(LookupError, match="secret of the vault") as caught:
            call()
        assert any("`service_token`" in note for note in caught.value.__notes__)


def test_a_repr_shows_what_was_set() -> None:
    model = make(temperature=0, metadata={"a": 1})
    shown = repr(model)
    assert shown.startswith("ChatNscale(model=")
    assert "temperature=0.0" in shown
    assert "'a': 1" in shown
    assert "profile" not in shown
    assert "max_retries" not in shown
    assert "profile=" in repr(make(profile={"max_input_tokens": 5}))
    embeddings = NscaleEmbeddings(model="e", service_token="t", chunk_size=5)
    assert repr(embeddings).startswith("NscaleEmbeddings(model='e'")
    assert "chunk_size=5" in repr(embeddings)
    assert "max_concurrency" not in repr(embeddings)


@pytest.mark.parametrize(("mistake", "problem"), FIRST.values(), ids=FIRST)
def test_first_mistakes(mistake: Any, problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        mistake()
