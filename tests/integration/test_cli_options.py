"""What people type first: pipes, request fields, code blocks, the last conversation."""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from langchain_nscale._cli.chat import first_code_block
from langchain_nscale._cli.commands import run
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL, VISION_MODEL
from tests.integration.terminal import COMMAND, Terminal
from tests.integration.test_cli import piped
from tests.integration.test_standard import PICTURE

pytestmark = pytest.mark.usefixtures("to_server")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def body(server: NscaleServer) -> Any:
    (*_, request) = [r for r in server.requests if r.method == "POST"]
    return request.json


@pytest.mark.parametrize(
    ("arguments", "text", "prompt"),
    [
        (
            ["Write a commit message"],
            "diff --git\n",
            "Write a commit message\n\ndiff --git",
        ),
        (["Hi"], "", "Hi"),
        ([], "only this", "only this"),
        (["-"], "only this", "only this"),
        (["--message", "user:a", "b"], "c", "b\n\nc"),
    ],
)
def test_what_is_piped_in_reaches_the_model(
    server: NscaleServer, arguments: list[str], text: str, prompt: str
) -> None:
    assert piped("chat", *arguments, text=text).returncode == 0
    assert body(server)["messages"][-1]["content"] == prompt


def test_any_field_of_the_request(server: NscaleServer) -> None:
    more = ["-o", "top_k=5", "-o", "user=me", "-o", 'logit_bias={"1": 2}', "-s", "Brief."]
    sampling = ["--top-p", "0.5", "--reasoning-effort", "low"]
    assert piped("chat", "Hi", *more, *sampling).returncode == 0
    sent = body(server)
    assert (sent["top_k"], sent["user"], sent["logit_bias"]) == (5, "me", {"1": 2})
    assert (sent["top_p"], sent["reasoning_effort"]) == (0.5, "low")
    assert sent["messages"][0] == {"role": "system", "content": "Brief."}
    wrong = piped("chat", "Hi", "-o", "top_k")
    assert wrong.returncode == 2
    assert "name=value" in wrong.stderr


def test_an_image_from_a_pipe(server: NscaleServer, tmp_path: Path) -> None:
    command = [*COMMAND, "chat", "-m", VISION_MODEL, "--image", "-", "What is it?"]
    for data, status in ((PICTURE, 0), (b"no image", 2)):
        run_ = subprocess.run(command, input=data, capture_output=True, check=False)  # noqa: S603
        assert run_.returncode == status
    blocks = body(server)["messages"][-1]["content"]
    assert blocks[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "Here:\n```python\nprint(1)\nprint(2)\n```\nDone.\n```\nno\n```",
            "print(1)\nprint(2)",
        ),
        ("~~~\na ``` b\n~~~", "a ``` b"),
        ("```\n\n```", ""),
        ("no code", "no code"),
        ("```\nunfinished", "```\nunfinished"),
    ],
)
def test_the_first_code_block(text: str, code: str) -> None:
    assert first_code_block(text) == code


def test_only_the_code(server: NscaleServer, capsys: Any) -> None:
    server.add("Sure:\n```sh\nls -l\n```\nIt lists files.")
    assert run(["chat", "-x", "How do I list files?"]) == 0
    assert capsys.readouterr().out == "ls -l\n"


def test_the_last_conversation(server: NscaleServer, tmp_path: Path, capsys: Any) -> None:
    assert run(["chat", "-c", "Hi"]) == 2
    assert "no conversation to continue" in capsys.readouterr().err
    assert run(["chat", "-m", VISION_MODEL, "--no-log", "One"]) == 0
    assert run(["chat", "-c", "Hi"]) == 2
    assert run(["chat", "-m", VISION_MODEL, "One"]) == 0
    assert run(["chat", "-c", "Two"]) == 0
    assert run(["chat", "-c", "Three"]) == 0
    sent = body(server)
    assert sent["model"] == VISION_MODEL
    contents = [message["content"] for message in sent["messages"]]
    assert contents == ["One", "You said: One", "Two", "You said: Two", "Three"]
    (stored,) = (tmp_path / "state").rglob("conversation.json")
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    stored.write_text('{"model": 5}')
    assert run(["chat", "-c", "Hi"]) == 2
    assert "is not a saved conversation" in capsys.readouterr().err


def test_a_default_model(server: NscaleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["default", VISION_MODEL]) == 0
    assert run(["chat", "Hi"]) == 0
    assert body(server)["model"] == VISION_MODEL
    assert run(["chat", "-m", MODEL, "Hi"]) == 0
    assert body(server)["model"] == MODEL
    monkeypatch.setenv("NSCALE_MODEL", "from-the-environment")
    assert run(["chat", "Hi"]) == 0
    assert body(server)["model"] == "from-the-environment"


def test_a_question_in_place_of_a_command(capsys: Any) -> None:
    assert run(["Why is the sky blue?"]) == 2
    assert "langchain-nscale chat 'Why is the sky blue?'" in capsys.readouterr().err
    assert run(["chatt"]) == 2
    assert "langchain-nscale chat" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reply", "option"), [(ServerReply.error(401, "no"), "--token"), (None, "--base-url")]
)
def test_errors_name_options(
    server: NscaleServer, capsys: Any, reply: ServerReply | None, option: str
) -> None:
    if reply:
        server.add(reply)
        assert run(["chat", "Hi"]) == 1
    else:
        assert run(["chat", "Hi", "--base-url", "http://127.0.0.1:9/v1"]) == 1
    said = capsys.readouterr().err
    assert option in said
    assert "service_token" not in said
    assert "`base_url`" not in said


@pytest.mark.parametrize("word", ["exit", "quit", "/exit", "EXIT"])
def test_the_way_out_of_a_session(server: NscaleServer, word: str) -> None:
    done = piped("chat", "-i", text=f"Hi\n{word}\nmore\n")
    assert done.returncode == 0
    assert len([r for r in server.requests if r.method == "POST"]) == 1
    assert done.stderr.startswith(f"{MODEL}. /help lists the commands, /exit leaves.")


def test_a_sign_of_life(server: NscaleServer, tmp_path: Path) -> None:
    server.add(ServerReply(text="Hello", delay=0.5))
    with Terminal("chat", "Hi", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.expect("…")
        terminal.expect("Hello")


def test_settings_that_are_broken_are_left_out(
    server: NscaleServer, tmp_path: Path
) -> None:
    folder = tmp_path / "config" / "langchain-nscale"
    folder.mkdir(parents=True)
    for text in ("", "{", "[]", '{"model": 5}', json.dumps({"other": 1})):
        (folder / "settings.json").write_text(text)
        assert run(["chat", "Hi"]) == 0
        assert body(server)["model"] == MODEL


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["chat Hi", "models", "doctor"])
def test_closed_streams_cause_no_traceback(command: str, closed: str) -> None:
    line = f"{shlex.join(COMMAND)} {command} {closed}"
    done = subprocess.run(  # noqa: S602  # our own, in a shell that closes streams
        line, shell=True, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def test_no_color(tmp_path: Path) -> None:
    for command in (["doctor"], ["models"], ["chat", "**Hi**"]):
        with Terminal(*command, XDG_STATE_HOME=str(tmp_path), NO_COLOR="1") as terminal:
            terminal.end()
            assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.raw)


def test_the_table_of_models_fits_80_columns(capsys: Any) -> None:
    assert run(["models"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
