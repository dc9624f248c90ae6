"""`batch` where the service is away, and what a later run notices."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from langchain_nscale.__main__ import main as run
from langchain_nscale._cli.batch import progress as _progress
from langchain_nscale._cli.batch.outage import FAIL, STOP, Outage
from langchain_nscale.errors import NscaleRateLimitError, NscaleUnavailableError
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.test_batch import read, write

pytestmark = pytest.mark.usefixtures("to_server")


class Away:
    """Is unavailable for a number of requests, then answers."""

    def __init__(self, requests: int) -> None:
        self.left = requests
        self.lock = threading.Lock()

    def __call__(self, body: Mapping[str, Any]) -> ServerReply:
        with self.lock:
            self.left -= 1
            if self.left >= 0:
                return ServerReply.error(503, "away", headers={"retry-after": "0"})
        return ServerReply(text=body["messages"][-1]["content"])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def batch(source: Path, target: Path, *more: str) -> int:
    return run(["batch", str(source), str(target), "--max-retries", "0", *more])


def test_an_outage_pauses_the_run(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("langchain_nscale._cli.batch.outage._LONGEST_PAUSE", 0.01)
    with NscaleServer(responder=Away(40)) as server:
        monkeypatch.setenv("NSCALE_BASE_URL", server.base_url)
        monkeypatch.setenv("NSCALE_SERVICE_TOKEN", server.token)
        source = write(tmp_path / "in.jsonl", map(str, range(200)))
        assert batch(source, target, "--concurrency", "8") == 0
    assert [record["content"] for record in read(target)] == [*map(str, range(200))]
    assert "Waiting 0 s after NscaleUnavailableError." in capsys.readouterr().err


@pytest.mark.parametrize("headers", [{}, {"retry-after": "3600"}])
def test_a_service_that_stays_away_stops_the_run_without_failing_lines(
    tmp_path: Path,
    target: Path,
    server: NscaleServer,
    capsys: Any,
    headers: dict[str, str],
) -> None:
    source = write(tmp_path / "in.jsonl", map(str, range(500)))
    server.add("first", *[ServerReply.error(429, "busy", headers=headers)] * 500)
    wait = "60" if headers else "0"
    more = ("--max-wait", wait, "--concurrency", "4")
    # With --max-spend, no line begins before the first one has succeeded.
    assert batch(source, target, *more, "--max-spend", "5") == 1
    assert "Run it again to continue" in capsys.readouterr().err
    failed = tmp_path / "out.jsonl.failed"
    assert not failed.exists() or len(read(failed)) <= 5
    chats = [r for r in server.requests if r.method == "POST"]
    assert len(chats) <= 20
    server.reset()
    assert batch(source, target, "--retry-failed") == 0
    assert len(read(target)) == 500
    assert not failed.exists()


def test_a_line_that_the_service_cannot_process_does_not_stop_it(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def responder(body: Mapping[str, Any]) -> ServerReply:
        if body["messages"][-1]["content"] == "5":
            return ServerReply.error(500, "crash")
        return ServerReply(text="fine")

    with NscaleServer(responder=responder) as server:
        monkeypatch.setenv("NSCALE_BASE_URL", server.base_url)
        monkeypatch.setenv("NSCALE_SERVICE_TOKEN", server.token)
        source = write(tmp_path / "in.jsonl", map(str, range(50)))
        more = ("--max-wait", "0.1", "--concurrency", "1")
        assert batch(source, target, *more) == 1
    assert len(read(target)) == 49
    (failure,) = read(tmp_path / "out.jsonl.failed")
    assert failure["line"] == 6


class TestVerdicts:
    """Whether the service is away or the line is bad."""

    error = NscaleUnavailableError("away")

    def test_a_line_fails_if_others_succeed(self) -> None:
        outage = Outage(60)
        outage.succeeded()
        assert outage.judge(self.error, 0, attempts=1) == 1.0
        assert outage.judge(self.error, 0, attempts=2) == FAIL

    def test_it_waits_longer_each_time_and_not_for_ever(self) -> None:
        outage = Outage(60)
        waits = [outage.judge(self.error, 0, attempts=n) for n in range(1, 9)]
        assert waits == [1, 2, 4, 8, 15, 15, 15, 15]
        long = NscaleRateLimitError("busy", retry_after=61)
        assert outage.judge(long, 0, attempts=1) == STOP

    def test_a_mistake_is_the_lines_own(self) -> None:
        assert Outage(60).judge(ValueError("no"), 0, attempts=1) == FAIL

    def test_lines_are_given_up_only_a_few_in_a_row(self) -> None:
        outage = Outage(0)
        assert [outage.give_up() for _ in range(6)] == [True] * 5 + [False]
        outage.succeeded()
        assert outage.give_up()


# --- later runs -------------------------------------------------------------------------


def test_retried_lines_take_their_places(
    tmp_path: Path, target: Path, server: NscaleServer
) -> None:
    source = write(tmp_path / "in.jsonl", map(str, range(20)))
    replies = [ServerReply(text="x") for _ in range(20)]
    for place in (0, 3, 4, 19):
        replies[place] = ServerReply.error(400, "no")
    server.add(*replies)
    assert batch(source, target, "--concurrency", "1") == 1
    server.add(*["x"] * 2, ServerReply.error(400, "still not"), "x")
    assert batch(source, target, "--concurrency", "1", "--retry-failed") == 1
    lines = [record["line"] for record in read(target)]
    assert lines == [number for number in range(1, 21) if number != 5]
    assert [failure["line"] for failure in read(tmp_path / "out.jsonl.failed")] == [5]
    server.reset()
    assert batch(source, target) == 1  # still has a failed line, and asks for nothing
    assert not [r for r in server.requests if r.method == "POST"]
    assert batch(source, target, "--retry-failed") == 0
    assert [record["line"] for record in read(target)] == [*range(1, 21)]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["in.jsonl", "out.jsonl", "out.jsonl.db"]


def test_what_failed_lines_cost_counts_in_later_runs(
    tmp_path: Path, target: Path, server: NscaleServer, capsys: Any
) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}  # 6 cents
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "required": ["a"]}')
    server.add(*[ServerReply(text="not JSON", usage=usage)] * 50)
    source = write(tmp_path / "in.jsonl", map(str, range(50)))
    more = ("--json-schema", str(schema), "--concurrency", "1", "--max-spend")
    for _ in range(2):  # the second run spends nothing
        assert batch(source, target, *more, "0.15") == 1
        assert len(read(tmp_path / "out.jsonl.failed")) == 3
        assert "$0.180000" in capsys.readouterr().err
    server.reset()
    server.add(*[ServerReply(text='{"a": 1}', usage=usage)] * 50)
    assert batch(source, target, *more, "0.29", "--retry-failed") == 1
    assert "$0.300000" in capsys.readouterr().err  # 3 failed attempts and 2 results
    assert len(read(target)) == 2
    assert "earlier_attempts" in read(target)[0]


@pytest.mark.parametrize(
    "changed",
    [["-m", "openai/gpt-oss-20b"], ["--system", "s"], ["--temperature", "1"]],
    ids=str,
)
def test_changed_settings_are_noticed(
    tmp_path: Path, target: Path, server: NscaleServer, capsys: Any, changed: list[str]
) -> None:
    source = write(tmp_path / "in.jsonl", ["a", "b"])
    server.add("x", ServerReply.error(400, "no"))
    assert batch(source, target, "--concurrency", "1") == 1
    before = target.read_bytes()
    assert batch(source, target, *changed) == 2
    assert "results for other settings" in capsys.readouterr().err
    assert target.read_bytes() == before
    # A line that failed may need other settings.
    assert batch(source, target, *changed, "--retry-failed") == 0
    assert len(read(target)) == 2


# --- inputs and progress ----------------------------------------------------------------


def test_openais_batch_format(tmp_path: Path, target: Path, server: NscaleServer) -> None:
    parameters = {"type": "object", "properties": {}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    body = {
        "model": "openai/gpt-oss-20b",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "tools": [tool],
        "tool_choice": "auto",
        "stream": True,
    }
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    wrong = [
        {**line, "url": "/v1/embeddings", "body": body},
        {**line, "body": {"model": "m"}},
        {**line, "body": body, "more": 1},
    ]
    source = write(tmp_path / "in.jsonl", [{**line, "body": body}, *wrong])
    assert batch(source, target, "--system", "s") == 1
    (record,) = read(target)
    assert record["custom_id"] == "a"
    assert record["model"] == "openai/gpt-oss-20b"
    (request,) = [r.json for r in server.requests if r.method == "POST"]
    sent = ("messages", "max_tokens", "tools", "tool_choice", "model")
    assert {key: request[key] for key in sent} == {
        **{key: body[key] for key in sent},
        "messages": [{"role": "system", "content": "s"}, *body["messages"]],  # type: ignore[misc]  # a list
    }
    assert not request.get("stream")
    messages = [f["error"]["message"] for f in read(tmp_path / "out.jsonl.failed")]
    assert len(messages) == 3
    assert "/v1/embeddings" in messages[0]
    assert "`body`" in messages[1]
    assert "'more'" in messages[2]


def openai_line(**body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "gpt-4o-mini", "messages": messages, **body}
    return {"custom_id": "a", "url": "/v1/chat/completions", "body": body}


def sent(server: NscaleServer) -> list[Any]:
    return [r.json for r in server.requests if r.method == "POST"]


def test_whatever_was_paid_for_is_in_the_result(
    tmp_path: Path, target: Path, server: NscaleServer
) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "top_logprobs": []}]}
    message = {"role": "assistant", "content": "one", "refusal": None}
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]
    reply = {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "service_tier": "flex",
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "stop",
                "logprobs": logprobs,
            },
            {"index": 1, "message": {**message, "content": "two"}, "stop_reason": 7},
            {"index": 2, "message": {**message, "content": "", "tool_calls": calls}},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10},
    }
    server.add(ServerReply(body=json.dumps(reply).encode()))
    source = write(tmp_path / "in.jsonl", [openai_line(n=3, logprobs=True)])
    assert batch(source, target) == 0
    (record,) = read(target)
    assert record["content"] == "one"
    assert record["logprobs"] == logprobs
    assert record["usage"]["output_tokens"] == 9
    assert record["response_metadata"]["service_tier"] == "flex"
    first, second, third = record["choices"]
    assert first == {key: record[key] for key in first}
    assert (second["content"], second["response_metadata"]["stop_reason"]) == ("two", 7)
    assert third["invalid_tool_calls"][0]["name"] == "f"


def test_a_schema_takes_one_answer(
    tmp_path: Path, target: Path, server: NscaleServer
) -> None:
    schema = write(tmp_path / "schema.json", [{"type": "object"}])
    source = write(tmp_path / "in.jsonl", [openai_line(n=2)])
    assert batch(source, target, "--json-schema", str(schema)) == 1
    assert "--json-schema" in read(tmp_path / "out.jsonl.failed")[0]["error"]["message"]
    assert not sent(server)


def test_a_model_of_the_command_is_that_of_all_lines(
    tmp_path: Path,
    target: Path,
    server: NscaleServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [openai_line(), {"prompt": "Hi", "model": "other"}, "Hi"]
    source = write(tmp_path / "in.jsonl", lines)
    monkeypatch.setenv("NSCALE_MODEL", "of-the-environment")
    assert batch(source, target, "--concurrency", "1") == 0
    used = [body["model"] for body in sent(server)]
    assert used == ["gpt-4o-mini", "other", "of-the-environment"]
    server.reset()
    again = tmp_path / "again.jsonl"
    assert batch(source, again, "-m", "mine") == 0
    assert {body["model"] for body in sent(server)} == {"mine"}
    assert {record["model"] for record in read(again)} == {"mine"}
    # What was answered by the lines' own models is not continued by another one.
    assert batch(source, target, "-m", "of-the-environment") == 2


@pytest.mark.parametrize(
    "line",
    [
        openai_line(max_completion_tokens=5),
        openai_line(max_tokens=5),
        {"prompt": "Hi", "max_tokens": 5},
        {"prompt": "Hi", "extra_body": {"max_completion_tokens": 5}},
        {"prompt": "Hi", "extra_body": {"max_tokens": 5}},
    ],
    ids=str,
)
def test_one_limit_is_sent(
    tmp_path: Path, target: Path, server: NscaleServer, line: Any
) -> None:
    source = write(tmp_path / "in.jsonl", [line])
    assert batch(source, target, "--max-tokens", "9") == 0
    (body,) = sent(server)
    assert [value for key, value in body.items() if key.startswith("max_")] == [5]


@pytest.mark.parametrize(("kind", "lines"), [("auto", 5), ("lines", 5), ("none", 1)])
def test_progress_without_a_terminal(
    tmp_path: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    kind: str,
    lines: int,
) -> None:
    monkeypatch.setattr(_progress, "_INTERVAL", 0.0)
    source = write(tmp_path / "in.jsonl", map(str, range(3)))
    assert batch(source, target, "--progress", kind, "--concurrency", "1") == 0
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == lines
    assert json.loads(target.read_text().splitlines()[0])["line"] == 1
    if lines > 1:
        assert shown[1].startswith("1 of 3 lines, 0 failed, ")


def test_the_input_may_be_piped(
    target: Path, server: NscaleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lines in (b'"a"\n', b'"a"\n"b"\n'):  # continued with more of it
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
        assert run(["batch", "-", str(target)]) == 0
    assert [record["line"] for record in read(target)] == [1, 2]
    assert len([r for r in server.requests if r.method == "POST"]) == 2


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes on Windows")
def test_the_input_may_be_a_named_pipe(tmp_path: Path, target: Path) -> None:
    """As `<(…)` and /dev/stdin are; it can be read only once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"echo '\"a\"' > {pipe}"]):  # noqa: S603, S607  # ours
        assert batch(pipe, target) == 0
    assert [record["line"] for record in read(target)] == [1]
