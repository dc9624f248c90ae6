"""`batch`: exactly once, whatever stops it."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_nscale.__main__ import main as run
from langchain_nscale._cli.batch.lines import read_line
from langchain_nscale._cli.batch.store import Store
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.terminal import Terminal

LINES = int(os.environ.get("BATCH_LINES", "1000"))
CONCURRENCY = 8
SEED = 20261125


class Faulty:
    """Answers with the number of the line; 2 % of the lines meet a fault."""

    def __init__(self) -> None:
        self.paid: Counter[int] = Counter()
        self.failed: set[int] = set()
        self.lock = threading.Lock()
        self.kill_at = 0
        self.kill: Any = None

    def __call__(self, body: Mapping[str, Any]) -> ServerReply:
        number = int(body["messages"][-1]["content"])
        with self.lock:
            total = (
                self.paid.total()
                if hasattr(self.paid, "total")
                else sum(self.paid.values())
            )
            if self.kill is not None and total >= self.kill_at:
                self.kill.kill()  # SIGKILL: nothing of it can be caught
                self.kill = None
            if number % 100 == 13:  # whatever one tries
                return ServerReply.error(400, "no", error_type="BAD_LINE")
            if number % 100 == 57 and number not in self.failed:  # once
                self.failed.add(number)
                return ServerReply.error(503, "later", headers={"retry-after": "0"})
            self.paid[number] += 1
        return ServerReply(text=f"answer {number}")


@pytest.fixture
def faulty() -> Faulty:
    return Faulty()


@pytest.fixture
def batch_server(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NscaleServer]:
    with NscaleServer(responder=faulty) as server:
        monkeypatch.setenv("NSCALE_BASE_URL", server.base_url)
        monkeypatch.setenv("NSCALE_SERVICE_TOKEN", server.token)
        yield server


def write(path: Path, lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(source: Path, target: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "langchain_nscale",
        "batch",
        str(source),
        str(target),
    ]
    command += ["--concurrency", str(CONCURRENCY), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: S603  # our own


@pytest.mark.usefixtures("batch_server")
@pytest.mark.parametrize("mode", [[], ["--as-completed"]], ids=["ordered", "as done"])
def test_killed_three_times(faulty: Faulty, tmp_path: Path, mode: list[str]) -> None:
    lines = [{"prompt": str(number)} for number in range(1, LINES + 1)]
    source = write(tmp_path / "in.jsonl", lines)
    target = tmp_path / "out.jsonl"
    chance = random.Random(SEED)  # noqa: S311  # to be repeated
    for kill_at in sorted(chance.sample(range(1, LINES * 9 // 10), 3)):
        faulty.kill_at = kill_at
        with start(source, target, *mode) as process:
            faulty.kill = process
            process.communicate(timeout=300)
        assert process.returncode == -9
    with start(source, target, *mode) as process:
        _, said = process.communicate(timeout=300)
    bad = {n for n in range(1, LINES + 1) if n % 100 == 13}
    assert process.returncode == 1, said
    assert f"{LINES - len(bad)} done, {len(bad)} failed".encode() in said
    done = [record["line"] for record in read(target)]
    assert sorted(done) == [n for n in range(1, LINES + 1) if n not in bad]
    assert mode or done == sorted(done)
    assert all(r["content"] == f"answer {r['line']}" for r in read(target))
    failures = read(tmp_path / "out.jsonl.failed")
    assert {record["line"] for record in failures} == bad
    assert len(failures) == len(bad)
    assert failures[0]["error"]["type"] == "NscaleInvalidRequestError"
    assert failures[0]["error"]["error_type"] == "BAD_LINE"
    # Paid twice is at most what was under way when it was killed.
    assert sum(faulty.paid.values()) - len(done) <= 3 * CONCURRENCY
    assert {path.name for path in tmp_path.iterdir()} == {
        *("in.jsonl", "out.jsonl", "out.jsonl.failed", "out.jsonl.db")
    }


@pytest.mark.usefixtures("batch_server")
def test_memory_does_not_grow(tmp_path: Path) -> None:
    peaks = []
    for count in (min(LINES // 2, 1000), LINES):
        lines = [{"prompt": str(100 * number)} for number in range(count)]
        source = write(tmp_path / f"{count}.jsonl", lines)
        code = (
            "import resource, sys; from langchain_nscale._cli.commands import run; "
            f"run(['batch', {str(source)!r}, {str(tmp_path / f'{count}.out')!r}]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(  # noqa: S603  # our own code
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
        assert len(read(tmp_path / f"{count}.out")) == count
    assert peaks[1] < 1.2 * peaks[0]


def test_a_run_that_is_done_asks_for_nothing(
    batch_server: NscaleServer, tmp_path: Path, capsys: Any
) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": "1"}, {"prompt": "2"}])
    target = tmp_path / "out.jsonl"
    assert run(["batch", str(source), str(target)]) == 0
    assert "earlier runs" not in capsys.readouterr().err
    batch_server.requests.clear()
    assert run(["batch", str(source), str(target)]) == 0
    assert capsys.readouterr().err.endswith(", all by earlier runs.\n")
    assert all(
        request.path != "/v1/chat/completions" for request in batch_server.requests
    )


@pytest.mark.usefixtures("batch_server")
def test_a_bar_in_a_terminal(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", map(str, range(10, 30)))
    with Terminal("batch", str(source), str(tmp_path / "out.jsonl")) as terminal:
        terminal.expect("20/20")
        assert terminal.end() == 1
    assert "1 failed" in terminal.shown
    assert "tokens, $0.0000" in terminal.shown
    assert "19 done, 1 failed" in terminal.shown


@pytest.mark.usefixtures("batch_server")
def test_failed_lines_alone(tmp_path: Path, capsys: Any) -> None:
    lines: list[Any] = [
        {"prompt": "13", "id": "a", "metadata": {"mine": 1}},
        {"prompt": "1"},
        "2",
        {"prompts": "3"},
        {"prompt": "4", "messages": []},
        [5],
    ]
    source = write(tmp_path / "in.jsonl", lines)
    with source.open("a") as file:
        file.write("\n{not JSON\n")
    target = tmp_path / "out.jsonl"
    failed = tmp_path / "out.jsonl.failed"
    assert run(["batch", str(source), str(target)]) == 1
    assert [record["content"] for record in read(target)] == ["answer 1", "answer 2"]
    failures = {record["line"]: record for record in read(failed)}
    assert set(failures) == {1, 4, 5, 6, 8}
    assert failures[1]["prompt"] == "13"
    assert failures[1]["metadata"] == {"mine": 1}
    assert "`metadata`" in failures[4]["error"]["message"]
    assert "either `prompt` or `messages`" in failures[5]["error"]["message"]
    assert failures[8]["raw"] == "{not JSON\n"
    assert "5 failed" in capsys.readouterr().err

    # By themselves, in a run of their own; one has been mended.
    mended = [{**failures[1], "prompt": "14"}]
    again = write(tmp_path / "again.jsonl", mended)
    assert run(["batch", str(again), str(tmp_path / "again.out")]) == 0
    (record,) = read(tmp_path / "again.out")
    assert (record["content"], record["id"]) == ("answer 14", "a")
    assert record["metadata"] == {"mine": 1}

    # Or in place.
    assert run(["batch", str(source), str(target), "--retry-failed"]) == 1
    assert len(read(failed)) == 5
    assert len(read(target)) == 2


def test_overrides_and_options(batch_server: NscaleServer, tmp_path: Path) -> None:
    lines: list[Any] = [
        {"prompt": "1", "model": "openai/gpt-oss-20b", "temperature": 0, "stop": ["x"]},
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "2"},
            ]
        },
    ]
    source = write(tmp_path / "in.jsonl", lines)
    options = ["--temperature", "0.5", "--max-tokens", "9", "--concurrency", "1"]
    target = str(tmp_path / "out.jsonl")
    assert run(["batch", str(source), target, "--system", "be brief", *options]) == 0
    first, second = (
        request.json for request in batch_server.requests if request.method == "POST"
    )
    assert first["model"] == "openai/gpt-oss-20b"
    assert (first["temperature"], first["stop"], first["max_tokens"]) == (0, ["x"], 9)
    assert first["messages"][0] == {"role": "system", "content": "be brief"}
    assert second["temperature"] == 0.5
    # The model's template carries one system message.
    system, user = second["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert system["content"].split() == ["be", "brief", "s"]


@pytest.mark.usefixtures("to_server")
def test_schemas(tmp_path: Path, server: NscaleServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    source = write(tmp_path / "in.jsonl", ["1", "2"])
    target = tmp_path / "out.jsonl"
    server.add(ServerReply(text='{"n": 7}'), ServerReply(text="no JSON"))
    command = ["batch", str(source), str(target), "--json-schema", str(path)]
    assert run([*command, "--concurrency", "1"]) == 1
    assert [record["parsed"] for record in read(target)] == [{"n": 7}]
    (failure,) = read(tmp_path / "out.jsonl.failed")
    assert failure["error"]["type"] == "OutputParserException"


@pytest.mark.usefixtures("to_server")
def test_max_spend(tmp_path: Path, server: NscaleServer, capsys: Any) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}  # 6 cents
    server.add(*[ServerReply(text="x", usage=usage)] * 9)
    source = write(tmp_path / "in.jsonl", map(str, range(9)))
    target = tmp_path / "out.jsonl"
    command = ["batch", str(source), str(target), "--concurrency", "1"]
    assert run([*command, "--max-spend", "0.15"]) == 1
    assert len(read(target)) == 3
    assert "--max-spend" in capsys.readouterr().err
    assert run([*command, "--max-spend", "0.15"]) == 1  # what was spent before counts
    assert len(read(target)) == 3
    assert run([*command, "--max-spend", "5"]) == 0
    assert len(read(target)) == 9
    assert "$0.540000" in capsys.readouterr().err
    assert run([*command, "--max-spend", "5", "-m", "no/such"]) == 2
    assert "--max-spend" in capsys.readouterr().err


@pytest.mark.usefixtures("to_server")
@pytest.mark.parametrize(
    "reply", [ServerReply.insufficient_credit(), ServerReply.error(401, "no")]
)
def test_what_no_line_survives_stops_it(
    tmp_path: Path,
    server: NscaleServer,
    monkeypatch: Any,
    capsys: Any,
    reply: ServerReply,
) -> None:
    monkeypatch.setenv("NSCALE_BASE_URL", server.base_url)
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", server.token)
    source = write(tmp_path / "in.jsonl", map(str, range(100)))
    target = tmp_path / "out.jsonl"
    server.add(ServerReply(text="x"), *[reply] * 100)
    assert run(["batch", str(source), str(target), "--concurrency", "4"]) == 1
    asked = [request for request in server.requests if request.method == "POST"]
    assert len(asked) <= 8
    assert len(read(target)) == 1
    assert not (tmp_path / "out.jsonl.failed").exists()
    assert "Run it again to continue" in capsys.readouterr().err
    server.reset()
    assert run(["batch", str(source), str(target)]) == 0
    assert [record["line"] for record in read(target)] == list(range(1, 101))


MARK = '"input_hash": "00000000"'
FOREIGN = {
    "empty object": b'{"precious": 1}',
    "text without a last line end": b"line one\nprecious",
    "binary": bytes(range(256)) * 4,
    "other JSON lines": b'{"a": 1}\n{"b": 2}\n',
    "lines by number": b'{"line": 1, "text": "mine"}\n{"line": 2}',
    "UTF-16": '{"line": 1}\n'.encode("utf-16"),
    "ours, then something else": b'{"line": 1, %s}\nprecious' % MARK.encode(),
    "nothing but a line end": b"\n",
}


class TestForeignFiles:
    @pytest.mark.parametrize("suffix", ["", ".failed", ".db"])
    @pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
    @pytest.mark.parametrize("more", [[], ["--retry-failed"]])
    def test_they_are_not_changed(
        self, tmp_path: Path, capsys: Any, suffix: str, content: bytes, more: list[str]
    ) -> None:
        source = write(tmp_path / "in.jsonl", ["1"])
        target = tmp_path / "out"
        foreign = tmp_path / f"out{suffix}"
        foreign.write_bytes(content)
        assert run(["batch", str(source), str(target), "--local", *more]) == 2
        assert f"{foreign} was not written by `batch`" in capsys.readouterr().err
        assert foreign.read_bytes() == content
        assert sorted(tmp_path.iterdir()) == sorted([source, foreign])

    @pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
    @pytest.mark.parametrize("suffix", ["", ".failed", ".db"])
    def test_the_input_is_not_the_output(
        self, tmp_path: Path, capsys: Any, link: str | None, suffix: str
    ) -> None:
        source = target = tmp_path / f"out{suffix}"
        source.write_text('"1"')
        if link is not None:
            source = source.rename(tmp_path / "in.jsonl")
            getattr(target, link)(source)
        assert run(["batch", str(source), str(tmp_path / "out"), "--local"]) == 2
        assert "is the input" in capsys.readouterr().err
        assert source.read_text() == '"1"'

    def test_a_changed_input(self, tmp_path: Path, capsys: Any) -> None:
        source = write(tmp_path / "in.jsonl", ["1", "2"])
        command = ["batch", str(source), str(tmp_path / "out"), "--local"]
        assert run(command) == 0
        before = (tmp_path / "out").read_bytes()
        write(source, ["0", "1", "2"])
        assert run(command) == 2
        assert f"Line 1 of {source} has changed" in capsys.readouterr().err
        assert (tmp_path / "out").read_bytes() == before
        write(source, ["1", "2", "3"])
        assert run(command) == 0
        assert len(read(tmp_path / "out")) == 3

    @pytest.mark.skipif(os.name == "nt", reason="there are no modes on Windows")
    def test_results_are_private(self, tmp_path: Path) -> None:
        source = write(tmp_path / "in.jsonl", ["1", {"prompt": 5}])
        assert run(["batch", str(source), str(tmp_path / "out"), "--local"]) == 1
        for name in ("out", "out.failed"):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_results_need_a_file(tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "in.jsonl", ["1"])
    assert run(["batch", str(source), "-", "--local"]) == 2
    assert "OUT.jsonl has to be a file" in capsys.readouterr().err
    assert not Path("-").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_refused_once(tmp_path: Path, capsys: Any, encoding: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes('\ufeff"1"\n"2"\n'.encode(encoding))
    assert run(["batch", str(source), str(tmp_path / "out"), "--local"]) == 2
    assert "Out-File -Encoding utf8" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


ODD_LINES = {
    "deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number as message": b'{"messages": [5]}',
    "tool message without id": b'{"messages": [{"role": "tool", "content": "x"}]}',
    "null as model": b'{"prompt": "1", "model": null}',
    "list as model": b'{"prompt": "1", "model": []}',
    "number as prompt": b'{"prompt": 5}',
    "number as messages": b'{"messages": 5}',
    "number as system": b'{"prompt": "1", "system": 5}',
    "stop of lists": b'{"prompt": "1", "stop": [[1]]}',
    "UTF-16": '{"prompt": "1"}'.encode("utf-16"),
    "NaN": b'{"prompt": "1", "temperature": NaN}',
    "invalid UTF-8": b'{"prompt": "\xff"}',
    "extra_body": b'{"prompt": "1", "extra_body": 5}',
    "surrogate as id": b'{"prompt": 5, "id": "\\ud800"}',
}


@pytest.mark.usefixtures("batch_server")
def test_no_line_stops_a_run(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = [*ODD_LINES.values(), b'{"prompt": "1"}']
    source.write_bytes(b"\n".join(lines))
    assert run(["batch", str(source), str(tmp_path / "out")]) == 1
    assert [record["content"] for record in read(tmp_path / "out")] == ["answer 1"]
    failures = {record["line"]: record for record in read(tmp_path / "out.failed")}
    assert sorted(failures) == list(range(1, len(ODD_LINES) + 1))
    assert all(failure["error"]["message"] for failure in failures.values())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner, max_size=2)
    ),
    max_leaves=5,
)
NAMES = ["prompt", "messages", "system", "model", "stop", "body", "url", "extra_body"]


@given(VALUES | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3))
def test_a_line_of_any_form_is_read_or_named(line: Any) -> None:
    error: ValueError | None = None
    try:
        read_line(line, None)
    except ValueError as caught:
        error = caught
    assert error is None or str(error)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"messages": None}, "`messages` is not a list"),
        ({"messages": [3]}, "entry that is not a message"),
        ({"prompt": 3}, "`prompt` is neither"),
        ({"prompt": "a", "system": [3]}, "`system` is neither"),
        ({"body": {"messages": {"a": 1}}}, "`messages` is not a list"),
    ],
)
def test_what_is_wrong_with_a_line(line: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_line(line, None)


@pytest.mark.usefixtures("to_server")
def test_a_403_for_one_line(tmp_path: Path, server: NscaleServer, capsys: Any) -> None:
    source = write(tmp_path / "in.jsonl", map(str, range(20)))
    command = ["batch", str(source), str(tmp_path / "out"), "--concurrency", "1"]
    server.add(ServerReply.error(403, "blocked"))
    assert run(command) == 1
    assert len(read(tmp_path / "out")) == 19
    # If it isn't about single lines, the run stops.
    server.add(*[ServerReply.error(403, "blocked")] * 20)
    assert run([*command[:2], str(tmp_path / "other"), *command[3:]]) == 1
    assert len(read(tmp_path / "other.failed")) == 5
    assert "Run it again to continue" in capsys.readouterr().err


@pytest.mark.usefixtures("to_server")
@pytest.mark.parametrize("concurrency", [1, 16, 64])
def test_requests_in_flight_count_too(
    tmp_path: Path, server: NscaleServer, concurrency: int
) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}  # 6 cents
    server.add(*[ServerReply(text="x", usage=usage)] * 100)
    source = write(tmp_path / "in.jsonl", map(str, range(100)))
    command = ["batch", str(source), str(tmp_path / "out"), "--max-spend", "0.5"]
    assert run([*command, "--concurrency", str(concurrency)]) == 1
    assert len(read(tmp_path / "out")) <= 9  # 54 cents


@pytest.mark.usefixtures("to_server")
@pytest.mark.parametrize(("with_usage", "most"), [(0, 3), (1, 9)])
def test_requests_without_usage_count_too(
    tmp_path: Path, server: NscaleServer, with_usage: int, most: int
) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}  # 6 cents
    server.add(*[ServerReply(text="x", usage=usage)] * with_usage)
    server.add(*[ServerReply(text="x", usage=False)] * 50)
    source = write(tmp_path / "in.jsonl", map(str, range(50)))
    command = ["batch", str(source), str(tmp_path / "out"), "--max-spend", "0.5"]
    assert run([*command, "--concurrency", "8"]) == 1
    assert len(read(tmp_path / "out")) <= most


@pytest.mark.parametrize("amount", ["nan", "inf", "-1", "0"])
def test_no_amount(tmp_path: Path, capsys: Any, amount: str) -> None:
    source = write(tmp_path / "in.jsonl", ["1"])
    command = ["batch", str(source), str(tmp_path / "out"), "--local"]
    assert run([*command, "--max-spend", amount]) == 2
    assert "--max-spend" in capsys.readouterr().err


class TestStore:
    """What the results look like after a run that could not end in its own way."""

    def store(
        self, target: Path, lines: Iterable[int] = (), *, ordered: bool = True
    ) -> Store:
        """Open a store in which some lines have begun."""
        store = Store(target, ordered=ordered)
        begun = store.unfinished(b"%d" % number for number in range(1, 10))
        for number in lines:
            assert next(begun)[0] == number
        return store

    def texts(self, target: Path) -> list[str]:
        return [record["content"] for record in read(target)]

    def test_results_that_cannot_be_in_their_places_yet(self, tmp_path: Path) -> None:
        target = tmp_path / "out"
        store = self.store(target, [1, 2, 3, 4])
        store.add(3, {"content": "c"})
        store.add(2, {"content": "b"})
        store.close()  # as if it had been killed
        assert read(target) == []
        store = self.store(target, [1, 4])
        store.fail(1, {"error": {}})
        assert self.texts(target) == ["b", "c"]  # `tail -f` shows them now
        store.add(4, {"content": "d"})
        assert self.texts(target) == ["b", "c", "d"]
        store.close()

    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize("lost", ["a part", "a half", "all"])
    def test_a_file_that_was_cut_anywhere_is_repaired(
        self, tmp_path: Path, lost: str, ordered: bool
    ) -> None:
        target = tmp_path / "out"
        store = self.store(target, [1, 2, 3], ordered=ordered)
        for number in (2, 1, 3):
            store.add(number, {"content": str(number)})
        store.finish()
        store.close()
        whole = target.read_bytes()
        ends = {"a part": range(len(whole) // 2, len(whole)), "all": [0]}
        for end in ends.get(lost, range(len(whole) // 2)):
            target.write_bytes(whole[:end])
            store = self.store(target, [4], ordered=ordered)
            assert store.done == 3
            store.add(4, {"content": "4"})
            store.close()
            wanted = ["1", "2", "3"] if ordered else ["2", "1", "3"]
            assert self.texts(target)[:3] == wanted
            target.with_name("out.db").write_bytes(b"")  # as at first
            target.unlink()
            store = self.store(target, [1, 2, 3], ordered=ordered)
            for number in (2, 1, 3):
                store.add(number, {"content": str(number)})
            store.close()

    def test_another_order_rewrites_the_file(self, tmp_path: Path) -> None:
        target = tmp_path / "out"
        store = self.store(target, [1, 2, 3], ordered=False)
        for number in (3, 1, 2):
            store.add(number, {"content": str(number)})
        store.close()
        assert self.texts(target) == ["3", "1", "2"]
        store = self.store(target, [4])
        store.add(4, {"content": "4"})
        store.finish()
        store.close()
        assert self.texts(target) == ["1", "2", "3", "4"]

    def test_what_someone_added_is_not_changed(self, tmp_path: Path, capsys: Any) -> None:
        source = write(tmp_path / "in.jsonl", ["1"])
        command = ["batch", str(source), str(tmp_path / "out"), "--local"]
        assert run(command) == 0
        with (tmp_path / "out").open("a") as file:
            file.write("precious")
        before = (tmp_path / "out").read_bytes()
        assert run(command) == 2
        assert "out was not written by `batch`" in capsys.readouterr().err
        assert (tmp_path / "out").read_bytes() == before

    def test_without_its_database(self, tmp_path: Path, capsys: Any) -> None:
        source = write(tmp_path / "in.jsonl", ["1", {"prompt": 5}, "2"])
        command = ["batch", str(source), str(tmp_path / "out"), "--local"]
        assert run(command) == 1
        files = [tmp_path / "out", tmp_path / "out.failed"]
        before = [path.read_bytes() for path in files]
        (tmp_path / "out.db").unlink()
        assert run(command) == 1
        assert "2 done, 1 failed, 8 tokens, " in capsys.readouterr().err.splitlines()[-2]
        assert [path.read_bytes() for path in files] == before
        (tmp_path / "out.db").unlink()
        assert run([*command, "--system", "s"]) == 2  # the settings are known, too

    def test_what_another_machine_has_done(self, tmp_path: Path) -> None:
        target = tmp_path / "out"
        store = self.store(target, [1, 2])
        store.add(1, {"content": "a"})
        store.fail(2, {"error": {}})
        store.close()
        (tmp_path / "there").mkdir()
        there = tmp_path / "there" / "out"
        shutil.copy(target, there)
        store = self.store(there, [2, 3, 4])
        for number in (2, 3, 4):
            store.add(number, {"content": str(number)})
        store.close()
        there.replace(target)
        store = self.store(target)
        assert (store.done, store.failed) == (4, 0)
        store.finish()
        store.close()
        assert self.texts(target) == ["a", "2", "3", "4"]
        assert not target.with_name("out.failed").exists()

    def test_what_is_nested_too_deeply_to_be_written_again(self, tmp_path: Path) -> None:
        deep: Any = []
        for _ in range(sys.getrecursionlimit() * 2):
            deep = [deep]
        store = self.store(tmp_path / "out", [1])
        with pytest.raises(RecursionError):
            store.add(1, {"metadata": deep})
        store.add(1, {"content": "a"})
        store.close()
        assert self.texts(tmp_path / "out") == ["a"]

    @pytest.mark.parametrize("name", ["out", "link"])
    def test_another_run(self, tmp_path: Path, name: str, capsys: Any) -> None:
        store = self.store(tmp_path / "out")
        (tmp_path / "link").symlink_to(tmp_path / "out")
        (tmp_path / "in").write_text('"1"\n')
        arguments = ["batch", str(tmp_path / "in"), str(tmp_path / name), "--local"]
        assert run(arguments) == 1
        assert "Another run is writing out." in capsys.readouterr().err
        store.close()
        assert run(arguments) == 0

    def test_a_disk_that_is_full_for_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "out"
        store = self.store(target, [1, 2, 3])
        store.add(1, {"content": "a"})
        room = [7, 0]  # bytes that the next writes find room for

        class Full(FileIO):
            def write(self, data: Any) -> int:
                size = room.pop(0) if room else len(data)
                if not size:
                    raise OSError(errno.ENOSPC, "full")
                return super().write(bytes(data[:size]))

        store._out.close()
        monkeypatch.setattr(store, "_out", Full(target, "a+"))
        with pytest.raises(OSError, match="full"):
            store.add(2, {"content": "b"})
        room[:] = [7, 7]  # short, but not full
        store.add(3, {"content": "c"})  # with the one before, which was paid for
        store.close()
        assert self.texts(target) == ["a", "b", "c"]

    def test_a_database_without_room(self, tmp_path: Path) -> None:
        store = self.store(tmp_path / "out", [1, 2])
        store.add(1, {"content": "a"})
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(OSError, match=r"out\.db: database or disk is full"):
            store.add(2, {"content": os.urandom(9000).hex()})
        store._db.execute("PRAGMA max_page_count=1000")
        store.add(2, {"content": "b"})
        store.close()
        assert self.texts(tmp_path / "out") == ["a", "b"]

    def test_where_there_is_no_write_ahead_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = sqlite3.connect

        class WithoutLog(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if "=WAL" in statement:
                    message = "disk I/O error"
                    raise sqlite3.OperationalError(message)
                return super().execute(statement, *values)

        monkeypatch.setattr(
            sqlite3, "connect", lambda *a, **kw: connect(*a, **kw, factory=WithoutLog)
        )
        store = self.store(tmp_path / "out", [1])
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        store.add(1, {"content": "a"})
        store.close()
        assert self.texts(tmp_path / "out") == ["a"]

    def test_a_python_without_sqlite3(self, tmp_path: Path) -> None:
        source = write(tmp_path / "in.jsonl", ["1"])
        code = (
            "import sys; sys.modules['sqlite3'] = None;"
            "from langchain_nscale.__main__ import main; sys.exit(main())"
        )
        command = [sys.executable, "-c", code, "batch", str(source), "out", "--local"]
        done = subprocess.run(  # noqa: S603  # our own code
            command, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith("Error: This Python was built without sqlite3")
        assert done.stderr.count("\n") == 1

    @pytest.mark.skipif(os.name == "nt", reason="there are no modes on Windows")
    def test_all_files_are_private_from_the_beginning(self, tmp_path: Path) -> None:
        target = tmp_path / "out"
        for name in ("out", "out.db"):
            (tmp_path / name).touch(0o644)
        seen: dict[str, int] = {}
        mask = os.umask(0)

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "sqlite3.connect" and str(tmp_path) in str(arguments[0]):
                seen["at first"] = (tmp_path / "out.db").stat().st_mode & 0o777

        try:
            sys.addaudithook(look)
            store = self.store(target, [1, 2, 3])
            store.add(2, {"content": "b"})
            store.fail(3, {"error": {}})
            seen |= {
                path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()
            }
            store.close()
        finally:
            os.umask(mask)
        assert set(seen) == {"at first", "out", "out.db", "out.db-wal", "out.failed"}
        assert set(seen.values()) == {0o600}

    def test_disk_use(self, tmp_path: Path) -> None:
        target = tmp_path / "out"
        count = 1500
        store = Store(target, ordered=True)
        begun = list(store.unfinished(b"x" for _ in range(count)))
        chance = random.Random(SEED)  # noqa: S311  # to be repeated
        peak = 0
        for number, raw in begun:
            words = " ".join(str(chance.randrange(1000)) for _ in range(400))
            store.add(number, {"content": words}, raw)
            used = sum(path.stat().st_size for path in tmp_path.iterdir())
            peak = max(peak, used)
        store.finish()
        store.close()
        assert peak < 2.2 * target.stat().st_size
