"""The command line, in a terminal and in pipes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from langchain_nscale.__main__ import _EXTRA
from langchain_nscale.__main__ import main as run
from langchain_nscale._cli.commands import cli
from langchain_nscale._cli.doctor import masked
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL, VISION_MODEL
from tests.integration.terminal import COMMAND, Terminal, needs_sigint
from tests.integration.test_standard import PICTURE

pytestmark = pytest.mark.usefixtures("to_server")

QUESTION = "What is serverless inference?"
ANSWER = f"You said: {QUESTION}"
# The options of the guide's examples, with what comes out.
ONCE: list[tuple[list[str], str]] = [
    ([QUESTION], ANSWER),
    ([QUESTION, "-t", "stand-in-token"], ANSWER),
    ([QUESTION, "--token", "stand-in-token", "-m", MODEL], ANSWER),
    ([QUESTION, "--model", "openai/gpt-oss-20b"], ANSWER),
    (["--message", "system:Be brief.", "--message", f"user:{QUESTION}"], ANSWER),
    (
        [
            *("--message", "user:Hi", "--message", "assistant:Hello: you?"),
            QUESTION,
        ],
        ANSWER,
    ),
    ([QUESTION, "--stats"], ANSWER),
    ([QUESTION, "--max-tokens", "3"], "You said: What"),
]
CONVERSATIONS: list[list[str]] = [
    ["-i"],
    ["-i", "-m", MODEL],
    ["-i", "--message", "system:Be brief."],
    ["-i", "--message", "user:Hi", "--message", "assistant:Hello"],
    ["-i", "--stats"],
]


def piped(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own
        [*COMMAND, *arguments], input=text, capture_output=True, text=True, check=False
    )


_SLOW = (
    "langchain_core.language_models",
    "langchain_core.messages",
    "langchain_core.runnables",
    "langsmith",
    "openai",
)


class TestTheGuidesExamples:
    @pytest.mark.parametrize(("arguments", "answer"), ONCE)
    def test_in_a_pipe(
        self, server: NscaleServer, arguments: list[str], answer: str
    ) -> None:
        done = piped("chat", *arguments)
        assert (done.returncode, done.stdout) == (0, answer + "\n")
        if "--stats" in arguments:
            stats = json.loads(done.stderr)
            assert stats["total_tokens"] == stats["prompt_tokens"] + 6
            assert stats["cost"] > 0
            assert 0 < stats["time_to_first_token"] <= stats["total_time"]
            assert stats["tokens_per_second"] > 0
        else:
            assert done.stderr == ""
        assert server.requests[0].json["stream"] is True

    @pytest.mark.parametrize(("arguments", "answer"), ONCE)
    def test_in_a_terminal(self, arguments: list[str], answer: str) -> None:
        with Terminal("chat", *arguments) as terminal:
            terminal.expect(answer)
            assert terminal.end() == 0
            if "--stats" in arguments:
                assert '"total_tokens"' in terminal.shown

    @pytest.mark.parametrize("arguments", CONVERSATIONS)
    def test_conversations_in_a_pipe(
        self, server: NscaleServer, arguments: list[str]
    ) -> None:
        done = piped("chat", *arguments, text="one\n\ntwo\n")
        assert (done.returncode, done.stdout) == (0, "You said: one\nYou said: two\n")
        assert ('"cost"' in done.stderr) == ("--stats" in arguments)
        turns = [r.json["messages"] for r in server.requests if r.method == "POST"][-1]
        given = arguments.count("--message")
        said = [turn["content"] for turn in turns]
        assert said[given:] == ["one", "You said: one", "two"]

    @pytest.mark.parametrize("arguments", CONVERSATIONS)
    def test_conversations_in_a_terminal(
        self, arguments: list[str], tmp_path: Path
    ) -> None:
        with Terminal("chat", *arguments, XDG_STATE_HOME=str(tmp_path)) as terminal:
            terminal.expect(">")
            terminal.send("one\r")
            terminal.expect("You said: one")
            terminal.expect(">")
            terminal.send("\x04")  # Ctrl-D
            assert terminal.end() == 0
        assert "+one" in (tmp_path / "langchain-nscale" / "history").read_text()


class TestChat:
    def test_what_is_asked(self, server: NscaleServer) -> None:
        options = ["--system", "s", "--temperature", "0.5", "--seed", "7"]
        options += ["--stop", "a", "--stop", "b", "--max-tokens", "9", "-m", "m"]
        assert run(["chat", "Hi", *options]) == 0
        body = server.requests[0].json
        assert body["messages"] == [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "Hi"},
        ]
        wanted = {"temperature": 0.5, "seed": 7, "stop": ["a", "b"], "max_tokens": 9}
        assert {key: body[key] for key in wanted} == wanted

    def test_text_with_colons(self, server: NscaleServer) -> None:
        assert run(["chat", "--message", "user: a: b"]) == 0
        assert server.requests[0].json["messages"][0]["content"] == "a: b"

    @pytest.mark.parametrize("arguments", [[], ["-"]])
    def test_standard_input(self, arguments: list[str]) -> None:
        done = piped("chat", *arguments, text="From a pipe\n")
        assert done.stdout == "You said: From a pipe\n"

    def test_images(self, server: NscaleServer, tmp_path: Path) -> None:
        picture = tmp_path / "picture.png"
        picture.write_bytes(PICTURE)
        url = "https://example.com/cat.jpg"
        arguments = ["chat", "What?", "-m", VISION_MODEL, "--image", str(picture)]
        assert run([*arguments, "--image", url]) == 0
        (message,) = server.requests[0].json["messages"]
        kinds = [part["type"] for part in message["content"]]
        assert kinds == ["text", "image_url", "image_url"]
        urls = [part["image_url"]["url"] for part in message["content"][1:]]
        assert urls[0].startswith("data:image/png;base64,iVBOR")
        assert urls[1] == url

    def test_a_schema(self, server: NscaleServer, tmp_path: Path, capsys: Any) -> None:
        path = tmp_path / "schema.json"
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        path.write_text(json.dumps(schema))
        assert run(["chat", "Hi", "--json-schema", str(path)]) == 0
        assert json.loads(capsys.readouterr().out) == {"n": 1}
        assert server.requests[0].json["response_format"]["type"] == "json_schema"
        server.add(*[ServerReply(text="no JSON")] * 2)
        command = ["chat", "Hi", "--json-schema", str(path)]
        assert run(command) == 1
        assert "no JSON" in capsys.readouterr().err
        assert run([*command, "--json"]) == 1
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["type"] == "OutputParserException"

    @pytest.mark.parametrize("stream", [[], ["--no-stream"]])
    def test_json(self, server: NscaleServer, capsys: Any, stream: list[str]) -> None:
        server.add(ServerReply(text="Ah", reasoning="Hm"))
        assert run(["chat", "Hi", "--json", *stream]) == 0
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert err == ""
        assert (found["content"], found["reasoning"]) == ("Ah", "Hm")
        assert found["finish_reason"] == "stop"
        assert found["total_tokens"] == 3
        assert server.requests[0].json.get("stream", False) is not bool(stream)

    @pytest.mark.parametrize("stream", [[], ["--no-stream"]])
    def test_reasoning(self, server: NscaleServer, stream: list[str]) -> None:
        server.add(*[ServerReply(text="Ah", reasoning="Hm, so")] * 2)
        shown = piped("chat", "Hi", "--reasoning", *stream)
        assert (shown.stdout, shown.stderr) == ("Ah\n", "Hm, so\n\n")
        hidden = piped("chat", "Hi", *stream)
        assert (hidden.stdout, hidden.stderr) == ("Ah\n", "")

    def test_reasoning_is_dimmed_in_a_terminal(self, server: NscaleServer) -> None:
        server.add(*[ServerReply(text="Ah", reasoning="Hm")] * 3)
        with Terminal("chat", "Hi") as terminal:
            assert terminal.end() == 0
        assert "\x1b[2mHm\x1b[0m" in terminal.raw
        with Terminal("chat", "Hi", NO_COLOR="1") as terminal:
            assert terminal.end() == 0
        assert "\x1b[2m" not in terminal.raw
        with Terminal("chat", "Hi", "--no-reasoning") as terminal:
            assert terminal.end() == 0
        assert "Hm" not in terminal.shown

    def test_markdown_in_a_terminal_and_plain_in_a_pipe(
        self, server: NscaleServer
    ) -> None:
        text = "Some **bold** words.\n\n- one\n- two\n\n```\ncode\n\nmore\n```\n\nEnd."
        server.add(*[ServerReply(text=text)] * 3)
        with Terminal("chat", "Hi") as terminal:
            assert terminal.end() == 0
        assert "**" not in terminal.shown
        assert " • two" in terminal.shown
        assert "\x1b[1mbold" in terminal.raw
        assert terminal.shown.rstrip().endswith("End.")
        assert piped("chat", "Hi").stdout == text + "\n"
        with Terminal("chat", "Hi", NO_COLOR="1") as terminal:
            assert terminal.end() == 0
        assert "\x1b[3" not in terminal.raw  # no colours

    @needs_sigint
    def test_ctrl_c_keeps_what_has_come(self, server: NscaleServer) -> None:
        server.add(ServerReply(text="one two three", stall_after=3))
        with Terminal("chat", "Hi") as terminal:
            terminal.expect("one")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.end() == 130
        assert "one" in terminal.shown
        assert "Traceback" not in terminal.shown


class TestErrors:
    def test_of_the_api(self, server: NscaleServer, capsys: Any) -> None:
        server.add(*[ServerReply.insufficient_credit()] * 2)
        assert run(["chat", "Hi"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "insufficient credit" in err
        assert err.count("\n") == 1
        assert run(["chat", "Hi", "--json"]) == 1
        out, err = capsys.readouterr()
        error = json.loads(out)["error"]
        assert error["type"] == "NscaleInsufficientCreditError"
        assert (error["status_code"], error["error_type"]) == (429, "INSUFFICIENT_CREDIT")
        assert err == ""

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["chat"], "no prompt"),
            (["chat", "Hi", "--message", "robot:x"], "role:text"),
            (["chat", "Hi", "--message", "x"], "role:text"),
            (["chat", "Hi", "--image", "no.png"], "'no.png' can't be read"),
            (["chat", "Hi", "--image", "no.txt"], "file extension of an image"),
            (["chat", "Hi", "--json-schema", "no.json"], "does not exist"),
            (["chat", "Hi", "--base-url", "ftp://x"], "--base-url"),
            (["chat", "Hi", "--timeout", "-1"], "--timeout"),
            (["chat", "Hi", "--bogus"], "No such option"),
            (["embed"], "nothing to embed"),
            (["embed", ""], "is empty"),
            (["nothing"], "No such command"),
            (["hi"], "To ask a model: langchain-nscale chat 'hi'"),
        ],
    )
    def test_of_usage(
        self, arguments: list[str], says: str, capsys: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        assert run(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert says in err

    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_of_schemas(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "schema.json"
        path.write_text(content)
        assert run(["chat", "Hi", "--json-schema", str(path)]) == 2

    def test_no_token(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.delenv("NSCALE_SERVICE_TOKEN")
        assert run(["chat", "Hi"]) == 2
        assert "NSCALE_SERVICE_TOKEN" in capsys.readouterr().err

    def test_a_bug_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> int:
            raise AttributeError

        monkeypatch.setattr("langchain_nscale._cli.chat.main", broken)
        with pytest.raises(AttributeError):
            run(["chat", "Hi"])

    def test_a_reader_that_leaves(self, server: NscaleServer) -> None:
        server.add(ServerReply(text="word " * 100_000))
        command = f"{' '.join(COMMAND)} chat Hi | head -c 10"
        done = subprocess.run(  # noqa: S602  # our own
            command, shell=True, capture_output=True, text=True, check=False
        )
        assert done.stdout == "word word "
        assert done.stderr == ""

    @pytest.mark.parametrize(
        ("command", "absent"),
        [
            ("chat Hi", _SLOW),
            ("chat Hi --stats -s Briefly.", _SLOW),
            ("chat Hi --no-stream --json", _SLOW),
            ("models", _SLOW),
            ("doctor -m meta-llama/Llama-3.1-8B-Instruct", _SLOW),
            ("embed Hi", ("langsmith", "openai")),
        ],
    )
    @pytest.mark.usefixtures("server")
    def test_what_a_command_does_not_import(
        self, command: str, absent: tuple[str, ...], tmp_path: Path
    ) -> None:
        """LangChain's chat models with LangSmith take half a second."""
        code = (
            "import sys; from langchain_nscale._cli.commands import run;"
            f"code = run({command.split()});"
            f"sys.exit(code or ' '.join(sys.modules.keys() & {set(absent)}) or 0)"
        )
        done = subprocess.run(  # noqa: S603  # our own code
            [sys.executable, "-c", code],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.partition("{")[0]) == (0, "")

    @pytest.mark.parametrize("command", ["chat Hi", "models", "batch a b", "--help"])
    @pytest.mark.parametrize(
        "missing", [["click"], ["rich"], ["prompt_toolkit", "uvicorn"]]
    )
    def test_without_the_extra(self, missing: list[str], command: str) -> None:
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({missing}));"
            "from langchain_nscale.__main__ import main; sys.exit(main())"
        )
        done = subprocess.run(  # noqa: S603  # our own code
            [sys.executable, "-c", code, *command.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(", ".join(missing))
        assert 'pip install "langchain-nscale[cli]"' in done.stderr
        assert done.stderr.count("\n") == 1

    def test_the_whole_extra_is_looked_for(self) -> None:
        tomllib = pytest.importorskip("tomllib")
        project = Path(__file__).parents[2] / "pyproject.toml"
        extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
        needed = {re.split(r"[<>=\[]", line)[0] for line in extras["cli"]}
        needed |= {re.split(r"[<>=\[]", line)[0] for line in extras["testing"]}
        assert set(_EXTRA) == needed - {"langchain-nscale"}


class TestConversations:
    def converse(self, *lines: str, arguments: tuple[str, ...] = ()) -> Any:
        text = "".join(f"{line}\n" for line in lines)
        return CliRunner().invoke(cli, ["chat", "-i", *arguments], input=text)

    def test_commands(self, server: NscaleServer, tmp_path: Path) -> None:
        saved = tmp_path / "saved.json"
        picture = tmp_path / "cat.png"
        picture.write_bytes(PICTURE)
        done = self.converse(
            "/help",
            "/stats",
            "/system Be brief.",
            "one",
            "/model other",
            f"/image {picture}",
            "two",
            "/stats",
            f"/save {saved}",
            "/reset",
            "three",
            f"/load {saved}",
            "four",
            "/bogus",
            "/exit",
            "never",
        )
        assert done.exit_code == 0
        assert done.stdout.splitlines() == [
            "You said: one",
            "You said: two [image_url]",
            "You said: three",
            "You said: four",
        ]
        for said in ("/load FILE", "no answer yet", "Model: other", "Conversation reset"):
            assert said in done.stderr
        assert '"model": "other"' in done.stderr
        assert "no command /bogus" in done.stderr
        asked = [r.json for r in server.requests if r.method == "POST"]
        assert [body["model"] for body in asked] == [MODEL, "other", "other", "other"]
        assert [len(body["messages"]) for body in asked] == [2, 4, 2, 6]
        assert all(body["messages"][0]["content"] == "Be brief." for body in asked)

    def test_an_error_ends_nothing(self, server: NscaleServer, tmp_path: Path) -> None:
        (tmp_path / "bad.json").write_text('{"messages": 7}')
        server.add(ServerReply(text="a"), ServerReply.error(400, "no"))
        done = self.converse(
            "one",
            "two",
            "/load no.json",
            f"/load {tmp_path / 'bad.json'}",
            "/image no.png",
            "/save /no/such/place",
            "three",
        )
        assert done.exit_code == 0
        assert done.stdout.splitlines() == ["a", "You said: three"]
        assert done.stderr.count("Error: ") == 5
        turns = [turn["content"] for turn in server.requests[-1].json["messages"]]
        assert turns == ["one", "a", "three"]  # what failed can be asked again

    def test_a_question_among_the_turns_is_answered(self) -> None:
        done = self.converse("/exit", arguments=("--message", "user:Hi"))
        assert done.stdout == "You said: Hi\n"

    @needs_sigint
    def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(
        self, server: NscaleServer, tmp_path: Path
    ) -> None:
        server.add(ServerReply(text="one two three", stall_after=3))
        with Terminal("chat", "-i", XDG_STATE_HOME=str(tmp_path)) as terminal:
            terminal.expect(">")
            terminal.send("Hi\r")
            terminal.expect("one two")
            terminal.send("\x03")
            terminal.expect("Stopped.")
            terminal.expect(">")
            terminal.send("\x03")  # at the prompt it does nothing
            terminal.expect(">")
            terminal.send("Go on\r")
            terminal.expect("You said: Go on")
            terminal.expect(">")
            terminal.send("\x04")
            assert terminal.end() == 0
        turns = [turn["content"] for turn in server.requests[-1].json["messages"]]
        assert turns == ["Hi", "one two", "Go on"]

    def test_a_paste_of_many_lines_is_one_question(
        self, server: NscaleServer, tmp_path: Path
    ) -> None:
        with Terminal("chat", "-i", XDG_STATE_HOME=str(tmp_path)) as terminal:
            terminal.expect(">")
            terminal.send("\x1b[200~first\nsecond\x1b[201~\r")
            terminal.expect("You said: first second")
            terminal.expect(">")
            terminal.send("third\x1b\rfourth\r")  # Escape, Enter
            terminal.expect("You said: third fourth")
            terminal.expect(">")
            terminal.send("\x1b[A\r")  # the last one again
            terminal.expect("You said: third fourth")
            terminal.expect(">")
            terminal.send("\x04")
            assert terminal.end() == 0
        said = [r.json["messages"][-1]["content"] for r in server.requests]
        assert said == ["first\nsecond", "third\nfourth", "third\nfourth"]


class TestLists:
    def test_models(self, capsys: Any) -> None:
        assert run(["models"]) == 0
        shown = capsys.readouterr().out
        assert shown.splitlines()[0].split()[:3] == ["model", "kind", "context"]
        llama = next(line for line in shown.splitlines() if MODEL in line)
        assert llama.split()[1:] == [
            *("chat", "131K", "0.06", "0.06"),
            "T--",
        ]

    def test_models_as_json(self, capsys: Any) -> None:
        assert run(["models", "--json", "--kind", "embedding"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert found["id"] == "Qwen/Qwen3-Embedding-8B"
        assert found["input_price"] == 0.04
        assert run(["models", "--json", "LLAMA"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert found["tools"] is True

    def test_models_in_a_terminal(self) -> None:
        with Terminal("models") as terminal:
            assert terminal.end() == 0
        assert MODEL in terminal.shown

    def test_embed(self, tmp_path: Path, capsys: Any, server: NscaleServer) -> None:
        file = tmp_path / "texts"
        file.write_text("two words\n\nlast\n")
        command = ["embed", "first", "-f", str(file), "--dimensions", "4"]
        assert run(command) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["text"] for line in lines] == ["first", "two words", "last"]
        assert [line["index"] for line in lines] == [0, 1, 2]
        assert all(len(line["embedding"]) == 4 for line in lines)
        assert run([*command, "--query"]) == 0
        assert server.requests[-1].json["input"][0].startswith("Instruct: ")

    def test_version_and_completion(self, capsys: Any) -> None:
        assert run(["--version"]) == 0
        assert capsys.readouterr().out[0].isdigit()
        for shell in ("zsh", "fish"):
            assert run(["completion", shell]) == 0
            assert "_LANGCHAIN_NSCALE_COMPLETE" in capsys.readouterr().out
        done = subprocess.run(  # noqa: S603  # our own
            COMMAND,
            env={
                "_LANGCHAIN_NSCALE_COMPLETE": "bash_complete",
                "COMP_WORDS": "langchain-nscale do",
                "COMP_CWORD": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert "plain,doctor" in done.stdout


class TestDoctor:
    def test_all_is_well(self, capsys: Any) -> None:
        assert run(["doctor"]) == 0
        lines = capsys.readouterr().out.splitlines()
        names = [line.split(":")[0] for line in lines]
        assert names == [
            *("ok   versions", "ok   token", "ok   API"),
            *("ok   answer", "ok   stream", "ok   tools"),
        ]
        assert "from NSCALE_SERVICE_TOKEN" in lines[1]
        assert "stand-in-token" not in lines[1]

    def test_no_token(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.delenv("NSCALE_SERVICE_TOKEN")
        assert run(["doctor"]) == 1
        assert "FAIL token: The service token is missing" in capsys.readouterr().out

    def test_a_wrong_token(self, capsys: Any) -> None:
        assert run(["doctor", "-t", "another-token-of-mine"]) == 1
        out = capsys.readouterr().out
        assert "anot…mine from --token, which other users" in out
        assert out.count("FAIL") == 4
        assert "answered 401" in out

    def test_a_model_without_tools(self, server: NscaleServer, capsys: Any) -> None:
        server.add(*[ServerReply(text="Hello")] * 3)
        assert run(["doctor", "-m", "unknown"]) == 1
        out = capsys.readouterr().out
        assert "unknown is not one of them" in out
        assert "FAIL tools: the model didn't call the tool" in out

    def test_masks(self) -> None:
        assert masked("x" * 15) == "****"
        assert masked("abcd" + "x" * 30 + "wxyz") == "abcd…wxyz"


def test_the_stand_in(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("NSCALE_SERVICE_TOKEN")
    monkeypatch.setenv("NSCALE_BASE_URL", "http://127.0.0.1:9/v1")
    assert run(["chat", "Hi", "--local"]) == 0
    assert capsys.readouterr().out == "You said: Hi\n"
    assert run(["doctor", "--local"]) == 0
    assert "the stand-in server's" in capsys.readouterr().out


@needs_sigint
def test_serve() -> None:
    with Terminal("serve") as terminal:
        terminal.expect("NSCALE_BASE_URL=")
        terminal.expect("\n")
        terminal.expect("NSCALE_SERVICE_TOKEN=stand-in-token")
        terminal.expect("Ctrl-C")
        url = terminal.shown.partition("NSCALE_BASE_URL=")[2].split()[0]
        done = piped("chat", "Hi", "--base-url", url)
        assert done.stdout == "You said: Hi\n"
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130


EVIL = (
    "A\x1b]52;c;ZXZpbA==\x07B\x1b]0;evil\x07C\x1b[2J\x1b[8mD\x9b31mE\x1bP+q\x1b\\F\rG\x08"
)
EVIL_MODEL = {"id": f"a/{EVIL}[bold]:smile:", "object": "model", "owned_by": EVIL}


@pytest.mark.parametrize(
    ("arguments", "reply"),
    [
        (["chat", "q"], ServerReply(text=EVIL)),
        (["chat", "q"], ServerReply(text=f"```\n{EVIL}\n```\n")),
        (["chat", "q"], ServerReply(text="ok", reasoning=EVIL)),
        (["chat", "q"], ServerReply.error(400, EVIL)),
        (["chat", "q"], ServerReply.error(404, EVIL)),
        (["chat", "q", "--no-stream"], ServerReply(text=EVIL)),
        (["chat", "q", "--json"], ServerReply(text=EVIL)),
        (["chat", "q", "--stats"], ServerReply(text="ok", finish_reason=EVIL)),
        (["models"], ServerReply()),
        (["models", "--json"], ServerReply()),
        (["doctor"], ServerReply(text=EVIL)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_controls_the_terminal(arguments: list[str], reply: ServerReply) -> None:
    with NscaleServer(responder=lambda _: reply, models=[EVIL_MODEL]) as server:
        terminal = Terminal(
            *arguments,
            NSCALE_BASE_URL=server.base_url,
            NSCALE_SERVICE_TOKEN=server.token,
        )
        with terminal:
            terminal.end()
    assert terminal.raw
    for sequence in (
        "\x1b]52;",
        "\x1b]0;evil",
        "\x1b[2J",
        "\x1b[8m",
        "\x9b",
        "\x1bP",
        "\x08",
    ):
        assert sequence not in terminal.raw


@pytest.mark.parametrize(
    "content",
    [
        b"5",
        b"[1]",
        b"no JSON",
        b"\xff\xfe",
        b'{"model": 5, "messages": []}',
        b'{"model": "m", "messages": [5]}',
        b'{"model": "m", "messages": {"a": 1}}',
        b"[" * 100_000,
    ],
)
def test_loading_a_broken_file(
    server: NscaleServer, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(content)
    result = CliRunner().invoke(
        cli,
        ["chat", "-i", "--base-url", server.base_url, "--token", server.token],
        input=f"/load {path}\nHi\n",
    )
    assert "is not a saved conversation" in result.output
    assert "You said: Hi" in result.output
    assert result.exit_code == 0
