"""The stand-in server, asked directly: does it behave as the real API would?"""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from langchain_nscale import ChatNscale, NscaleEmbeddings
from langchain_nscale.__main__ import main
from langchain_nscale.errors import NscaleInvalidRequestError, NscaleModelNotFoundError
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.integration.conftest import MODEL


@pytest.fixture
def client(server: NscaleServer) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {server.token}"}
    with httpx2.Client(base_url=server.base_url, headers=headers) as made:
        yield made


def chat(client: httpx2.Client, *messages: Any, **fields: Any) -> httpx2.Response:
    said = list(messages) or [{"role": "user", "content": "Hi there"}]
    body = {"model": "m", "messages": said, **fields}
    return client.post("/chat/completions", json=body)


def test_a_reply_has_the_recorded_form(client: httpx2.Client) -> None:
    response = chat(client)
    assert response.status_code == 200
    assert response.headers["inference-id"]
    completion = response.json()
    (choice,) = completion.pop("choices")
    assert choice["message"] == {
        "role": "assistant",
        "content": "You said: Hi there",
        "tool_calls": [],
    }
    assert completion["object"] == "chat.completion"
    assert completion["usage"]["total_tokens"] == 6


def test_a_stream_has_the_recorded_form(client: httpx2.Client) -> None:
    response = chat(client, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line[6:] for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert [c["choices"][0]["delta"].get("content") for c in chunks[:-1]] == [
        "",
        "You",
        " said:",
        " Hi",
        " there",
        "",
    ]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 6
    assert "usage" not in chat(client, stream=True).text


def test_the_status_of_streams_can_be_the_guides() -> None:
    with NscaleServer(stream_status=201) as server:
        headers = {"authorization": f"Bearer {server.token}"}
        with httpx2.Client(base_url=server.base_url, headers=headers) as client:
            assert chat(client, stream=True).status_code == 201
            assert chat(client).status_code == 200


USER = {"role": "user", "content": "a"}
CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BAD_CALL = {**CALL, "function": {"name": "f", "arguments": "{"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        ({"messages": [USER]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        (
            {"model": "m", "messages": [{"role": "wizard", "content": ""}]},
            "messages[0]",
        ),
        ({"model": "m", "messages": [USER, "text"]}, "messages[1]"),
        ({"model": "m", "messages": [{"role": "user"}]}, "messages[0]"),
        (
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [BAD_CALL]}]},
            "messages[0]",
        ),
        (
            {
                "model": "m",
                "messages": [{"role": "tool", "content": "a", "tool_call_id": "x"}],
            },
            "messages[0]",
        ),
        ({"model": "m", "messages": [USER], "n": -1}, "n"),
    ],
)
def test_bad_requests_are_refused(client: httpx2.Client, body: Any, param: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body)
    response = client.post("/chat/completions", content=content)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


KEYS = ["type", "function", "name", "id", "role", "content", "tool_calls", "text"]
KEYS += ["json_schema", "schema", "properties", "parameters", "$ref"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("a"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner
            | st.sampled_from(["function", "user", "tool", "object", "json_schema"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)
FIELDS = ["messages", "model", "n", "stop", "stream", "stream_options", "tools"]
FIELDS += ["tool_choice", "response_format", "logprobs", "top_logprobs", "max_tokens"]
FIELDS += ["input", "dimensions", "encoding_format"]


def test_no_request_breaks_the_server(client: httpx2.Client) -> None:
    """Whatever a field contains, the answer is a reply or says what is wrong."""
    tool_ = {"type": "function", "function": {"name": "a", "parameters": {}}}

    @settings(max_examples=200, deadline=None)
    @given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3), st.booleans())
    def check(fields: dict[str, Any], with_tool: bool) -> None:
        tools = {"tools": [tool_]} if with_tool else {}
        response = chat(client, **{**tools, **fields})
        assert response.status_code in (200, 400, 404), response.text
        body = {"model": "m", "input": "a", **fields}
        assert client.post("/embeddings", json=body).status_code in (200, 400)

    check()


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings"])
def test_bodies_that_are_not_objects(
    client: httpx2.Client, path: str, body: bytes
) -> None:
    response = client.post(path, content=body)
    assert response.status_code == 400
    assert "JSON object" in response.json()["error"]["message"]


def test_a_schema_that_is_not_valid(client: httpx2.Client) -> None:
    for schema in ({"$ref": "#"}, {"$ref": "#/a/b"}, {"enum": 3}, {"anyOf": [3]}):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        response = chat(client, response_format=form)
        assert response.status_code == 400
        assert "Grammar error" in response.json()["error"]["message"]


def test_a_tool_message_needs_its_call(client: httpx2.Client) -> None:
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    told = {"role": "tool", "content": "done", "tool_call_id": "x"}
    answer = chat(client, USER, asked, told).json()["choices"][0]["message"]["content"]
    assert answer == "The tool answered: done"


@pytest.mark.parametrize("path", ["/models", "/embeddings", "/chat/completions"])
def test_the_token_is_checked_everywhere(server: NscaleServer, path: str) -> None:
    method = "GET" if path == "/models" else "POST"
    response = httpx2.request(method, server.base_url + path)
    assert response.status_code == 401
    assert response.json()["error"]["error_type"] == "INVALID_TOKEN"
    assert server.requests[-1].path == f"/v1{path}"


def test_models(client: httpx2.Client) -> None:
    listed = client.get("/models").json()["data"]
    assert {"id", "owned_by", "pricing"} <= listed[0].keys()


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: httpx2.Client, encoding: str) -> None:
    body = {
        "model": "m",
        "input": ["a", "b", "a"],
        "dimensions": 8,
        "encoding_format": encoding,
    }
    data = client.post("/embeddings", json=body).json()["data"]
    vectors = [entry["embedding"] for entry in data]
    if encoding == "base64":
        vectors = [struct.unpack("<8f", base64.b64decode(v)) for v in vectors]
    assert len(vectors[0]) == 8
    assert vectors[0] == vectors[2] != vectors[1]
    assert abs(sum(value * value for value in vectors[0]) - 1) < 1e-6
    single = client.post("/embeddings", json={"model": "m", "input": "a"}).json()
    assert len(single["data"][0]["embedding"]) == 256


def test_texts_that_are_too_long(client: httpx2.Client) -> None:
    model = "Qwen/Qwen3-Embedding-8B"
    fits, too_long = " ".join(["word"] * 32_768), " ".join(["word"] * 32_769)
    response = client.post("/embeddings", json={"model": model, "input": ["a", fits]})
    assert response.status_code == 200
    response = client.post("/embeddings", json={"model": model, "input": ["a", too_long]})
    assert response.status_code == 400
    assert "maximum context length is 32768" in response.json()["error"]["message"]


def test_scripted_embeddings(client: httpx2.Client, server: NscaleServer) -> None:
    server.add(ServerReply.error(503, "later"))
    assert client.post("/embeddings", json={"input": "a"}).status_code == 503


def test_limits_and_stops(client: httpx2.Client) -> None:
    short = chat(client, max_tokens=2).json()["choices"][0]
    assert (short["message"]["content"], short["finish_reason"]) == (
        "You said:",
        "length",
    )
    stopped = chat(client, stop=["there"]).json()["choices"][0]
    assert stopped["message"]["content"] == "You said: Hi "
    assert chat(client, stop=" Hi").json()["choices"][0]["finish_reason"] == "stop"


def test_a_responder_answers_what_is_not_scripted() -> None:
    def respond(body: Any) -> ServerReply | None:
        return ServerReply(text="mine") if body["model"] == "m" else None

    with NscaleServer(responder=respond) as server:
        headers = {"authorization": f"Bearer {server.token}"}
        with httpx2.Client(base_url=server.base_url, headers=headers) as client:
            server.add(ServerReply(text="scripted"))
            texts = [
                chat(client, model=model).json()["choices"][0]["message"]["content"]
                for model in ("m", "m", "other")
            ]
    assert texts == ["scripted", "mine", "You said: Hi there"]


async def test_async_use() -> None:
    async with NscaleServer() as server:
        assert server.base_url.startswith("http://127.0.0.1:")
    with pytest.raises(RuntimeError, match="context manager"):
        _ = server.base_url


def test_the_fixture_is_there_without_import(nscale_server: NscaleServer) -> None:
    assert nscale_server.settings["base_url"] == nscale_server.base_url


def test_usage_can_be_given_or_left_out(
    client: httpx2.Client, server: NscaleServer
) -> None:
    server.add(ServerReply(text="a", usage=False), ServerReply(usage={"x": 1}))
    assert chat(client).json()["usage"] is None
    assert chat(client).json()["usage"] == {"x": 1}


def test_tool_calls_in_a_stream(client: httpx2.Client, server: NscaleServer) -> None:
    call = ToolCallReply("f", {"a": 1}, id="x")
    server.add(ServerReply(reasoning="hm", tool_calls=[call], pieces=[3]))
    text = chat(client, stream=True).text
    assert '"reasoning_content":"hm"' in text
    assert '"arguments":"{\\"a"' in text


SCHEMAS = [
    ({}, "text"),
    (True, "text"),
    ({"const": 3}, 3),
    ({"default": "d"}, "d"),
    ({"enum": ["a", "b"]}, "a"),
    ({"type": "integer", "minimum": 5}, 5),
    ({"type": "number", "maximum": 0}, 0),
    ({"type": "boolean"}, True),
    ({"type": "null"}, None),
    ({"type": ["null", "integer"]}, 1),
    ({"type": "string", "minLength": 6}, "textxx"),
    ({"type": "string", "maxLength": 2}, "te"),
    ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
    ({"anyOf": [{"type": "null"}]}, None),
    ({"allOf": [{"type": "boolean"}], "title": "T"}, True),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
    (
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"const": 1}}},
        {"a": 1},
    ),
]


def instance_of(schema: Any, model: Any) -> Any:
    """What the server answers in a schema of an object with a value of this kind."""
    whole = {
        "type": "object",
        "$defs": schema.get("$defs", {}) if isinstance(schema, dict) else {},
        "properties": {"value": schema},
        "required": ["value"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "T", "schema": whole}}
    return json.loads(model.invoke("Hi", response_format=form).text)["value"]


@pytest.mark.parametrize(("schema", "value"), SCHEMAS)
def test_instances_of_schemas(make: Any, schema: Any, value: Any) -> None:
    assert instance_of(schema, make()) == value


def test_a_recursive_schema_ends(make: Any) -> None:
    child = {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
    node = {"type": "object", "properties": {"child": child}}
    tree = instance_of({"$ref": "#/$defs/Node", "$defs": {"Node": node}}, make())
    while tree:
        tree = tree.get("child")


def test_pieces_make_up_the_text(make: Any, server: NscaleServer) -> None:
    text = " a  b\nc "
    server.add(text, ServerReply(text="abcdef", pieces=[1, 2]))
    assert "".join(chunk.text for chunk in make().stream("Hi")) == text
    pieces = [chunk.text for chunk in make().stream("Hi")]
    assert [piece for piece in pieces if piece] == ["a", "bc", "de", "f"]


@pytest.mark.parametrize("piece", [" ", "a", " a"])
def test_a_long_text_takes_linear_time(make: Any, piece: str) -> None:
    def seconds(size: int) -> float:
        start = time.process_time()
        make().invoke(piece * (size // len(piece)) + "!")
        return time.process_time() - start

    small = min(seconds(50_000) for _ in range(3))
    # Quadratic time would be sixteen times as much.
    assert min(seconds(200_000) for _ in range(3)) < 10 * max(small, 0.003)


def test_a_text_is_a_reply_and_anything_else_is_rejected_at_once(
    make: Any, server: NscaleServer
) -> None:
    server.add("Hello", ServerReply(text="again"))
    assert [make().invoke("Hi").text for _ in range(2)] == ["Hello", "again"]
    with pytest.raises(TypeError, match="not HumanMessage"):
        server.add("kept back", HumanMessage("Hello"))  # type: ignore[arg-type]  # the mistake
    assert make().invoke("Hi").text != "kept back"


# --- mistakes of tests ------------------------------------------------------------------


def test_a_script_that_is_not_used_up_is_reported(
    make: Any, server: NscaleServer
) -> None:
    server.add("one", ServerReply(tool_calls=[ToolCallReply("f", {"a": 1})]))
    server.add(ServerReply.error(503, "no"), ServerReply(body=b"raw"), ServerReply())
    make().invoke("Hi")
    with pytest.raises(AssertionError) as caught:
        server.check()
    assert str(caught.value).splitlines() == [
        "The scripted replies and the 1 chat requests received do not match:",
        "- not requested: f({'a': 1})",
        "- not requested: status 503",
        """- not requested: body "b'raw'\"""",
        "- not requested: an empty reply",
    ]
    server.reset()
    server.check()


def test_strict_servers_answer_only_what_is_scripted(make: Any) -> None:
    with NscaleServer(strict=True) as strict:
        strict.add("one")
        model = make(**strict.settings)
        assert model.invoke("Hi").text == "one"
        strict.check()
        with pytest.raises(NscaleInvalidRequestError, match="No reply is scripted"):
            model.invoke("And then?")
        with pytest.raises(AssertionError, match="not scripted:  'And then\\?'"):
            strict.check()


def test_unknown_models_are_rejected_like_the_service_does(make: Any) -> None:
    with NscaleServer(any_model=False) as server:
        for known in (MODEL, "Qwen/Qwen3-4B-Instruct-2507"):
            assert make(model=known, **server.settings).invoke("Hi").text
        with pytest.raises(NscaleModelNotFoundError, match="Similar models: meta-llama"):
            make(model=MODEL.lower(), **server.settings).invoke("Hi")
        with pytest.raises(NscaleModelNotFoundError):
            NscaleEmbeddings(model="no/such", **server.settings).embed_query("Hi")


def test_models_are_rejected_for_what_they_cannot_do() -> None:
    embedding = "Qwen/Qwen3-Embedding-8B"
    with NscaleServer(any_model=False) as server:
        with pytest.raises(NscaleInvalidRequestError, match="not support Chat Comple"):
            ChatNscale(model=embedding, **server.settings).invoke("Hi")
        with pytest.raises(NscaleInvalidRequestError, match="not support Embeddings"):
            NscaleEmbeddings(model=MODEL, **server.settings).embed_query("Hi")
        assert NscaleEmbeddings(model=embedding, **server.settings).embed_query("Hi")


def test_errors_have_a_request_id_too(make: Any, server: NscaleServer) -> None:
    server.add(status=400)
    with pytest.raises(NscaleInvalidRequestError) as caught:
        make(**server.settings).invoke("Hi")
    assert str(caught.value.request_id).startswith("inference-")


PLUGIN_TEST = """
from langchain_nscale import ChatNscale
def test_unused(nscale_server):
    nscale_server.add("never requested")
def test_strict(nscale_server):
    nscale_server.strict = True
    model = ChatNscale(model="openai/gpt-oss-20b", **nscale_server.settings)
    try:
        model.invoke("Hi")
    except Exception:
        pass
def test_fine(nscale_server):
    nscale_server.add("Hello")
    model = ChatNscale(model="openai/gpt-oss-20b", **nscale_server.settings)
    assert model.invoke("Hi").text == "Hello"
"""


def test_the_fixture_fails_tests_whose_script_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PLUGIN_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0"]
    done = subprocess.run(  # noqa: S603  # our own
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert re.search(r"3 passed.* 2 errors", done.stdout)
    assert "not requested: 'never requested'" in done.stdout
    assert "not scripted:  'Hi'" in done.stdout


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "default": None}, "text"),
        ({"type": "integer", "default": "x", "minimum": 3}, 3),
        ({"type": ["string", "null"], "default": None}, None),
        ({"type": "string", "default": "d"}, "d"),
        ({"default": 5}, 5),
    ],
)
def test_defaults_of_the_wrong_type_are_not_used(
    make: Any, schema: Any, value: Any
) -> None:
    assert instance_of(schema, make()) == value


SCRIPT = """"First."
{"text": "Second.", "usage": false}

{"if": "weather", "tool_calls": [{"name": "get_weather", "args": {"city": "Oslo"}}]}
"""


@contextmanager
def playing(path: Path) -> Iterator[dict[str, str]]:
    """Run `serve` with a script; yield the settings of its clients."""
    command = [sys.executable, "-m", "langchain_nscale", "serve", "--port", "0"]
    process = subprocess.Popen(  # noqa: S603  # our own code
        [*command, "--script", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url, token = (process.stdout.readline().strip() for _ in range(2))
        yield {
            "base_url": url.partition("=")[2],
            "service_token": token.partition("=")[2],
        }
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("as_list", [False, True])
def test_a_script_from_a_file(make: Any, tmp_path: Path, as_list: bool) -> None:
    entries = [json.loads(line) for line in SCRIPT.splitlines() if line]
    path = tmp_path / "script.json"
    path.write_text(json.dumps(entries) if as_list else SCRIPT)
    with playing(path) as settings:
        model = make(**settings)
        answers = [model.invoke("The weather?") for _ in range(4)]
    assert [answer.text for answer in answers] == ["First.", "Second.", "", ""]
    assert answers[3].tool_calls[0]["args"] == {"city": "Oslo"}


def test_rules_of_a_script(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    entries: list[Any] = [
        {"if": r"(\d+) times 10", "text": r"\g<1>0"},
        {"if": r"a \w+ path", "text": r"C:\new \d"},
        {"if": "object", "json": {"a": [1]}},
    ]
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    with playing(path) as settings:
        model = make(**settings)
        assert model.invoke("What is 7 times 10?").text == "70"
        assert model.invoke("A Windows? a full path").text == r"C:\new \d"
        assert json.loads(model.invoke("An object").text) == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[5]", "Entry 1 of the script is neither"),
        (r'{"if": "(a)", "text": "\\2"}', "invalid group reference"),
        ('"a"\n{nope', "Line 2 of the script is not JSON"),
        ('{"texts": "a"}', "unknown field 'texts'"),
        ('{"if": "("}', "Entry 1 of the script"),
        ('{"tool_calls": [{"nam": "f"}]}', "Entry 1 of the script"),
    ],
)
def test_mistakes_in_a_script(
    tmp_path: Path, text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "script.json"
    path.write_text(text)
    assert main(["serve", "--script", str(path)]) == 2
    assert problem in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}],
)
def test_pages_of_other_sites_are_rejected(headers: dict[str, str]) -> None:
    with NscaleServer() as server:
        headers = {"authorization": f"Bearer {server.token}", **headers}
        response = httpx2.get(f"{server.base_url}/models", headers=headers)
        assert response.status_code in (400, 403)
        own = {**headers, "host": "localhost:1", "origin": "http://localhost:1"}
        assert httpx2.get(f"{server.base_url}/models", headers=own).status_code == 200
