"""What people type first: pipes, request fields, code blocks, the last conversation."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel

from langchain_nscale import ChatNscale, NscaleEmbeddings
from langchain_nscale.__main__ import main as run
from langchain_nscale._cli.answer import first_code_block
from langchain_nscale._cli.exits import OPTIONS, PYTHON_ONLY, in_options
from langchain_nscale._cli.files import write_private
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


def test_a_default_model(
    server: NscaleServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert run(["default", VISION_MODEL]) == 0
    assert run(["chat", "Hi"]) == 0
    assert body(server)["model"] == VISION_MODEL
    assert run(["chat", "-m", MODEL, "Hi"]) == 0
    assert body(server)["model"] == MODEL
    monkeypatch.setenv("NSCALE_MODEL", "from-the-environment")
    assert run(["chat", "Hi"]) == 0
    assert body(server)["model"] == "from-the-environment"
    monkeypatch.delenv("NSCALE_MODEL")
    capsys.readouterr()
    assert run(["default"]) == 0
    assert capsys.readouterr().out == f"{VISION_MODEL}\n"
    assert run(["default", "--unset"]) == 0
    assert run(["default"]) == 0
    assert capsys.readouterr().out == f"{MODEL}\n"
    assert run(["default", MODEL.lower()]) == 0
    assert f"Did you mean {MODEL}?" in capsys.readouterr().err


def test_a_question_in_place_of_a_command(server: NscaleServer, capsys: Any) -> None:
    assert run(["Why is the sky blue?", "--max-tokens", "2"]) == 0
    assert capsys.readouterr().out == "You said:\n"
    assert body(server)["messages"][-1]["content"] == "Why is the sky blue?"


@pytest.mark.parametrize("word", ["chatt", "keys", "config", "Why?", "models-list", ""])
def test_a_word_is_never_a_question(server: NscaleServer, capsys: Any, word: str) -> None:
    assert run([word]) == 2
    said = capsys.readouterr().err
    assert f"No such command {word!r}" in said
    assert ("Did you mean" in said) or "The commands are chat, help, default" in said
    assert not server.requests


def test_help_is_a_command(capsys: Any) -> None:
    for command in ([], ["batch"], ["help"]):
        assert run([*command, "--help"]) == 0
        wanted = capsys.readouterr().out
        assert run(["help", *command]) == 0
        assert capsys.readouterr().out == wanted
    assert run(["help", "nothing"]) == 2
    assert run(["chat", "--version"]) == 0
    assert capsys.readouterr().out[0].isdigit()


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


@pytest.mark.parametrize("word", ["exit", "quit", "/exit", "EXIT", "/exit now", "/quit"])
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


# --- the words of the command line ------------------------------------------------------


IMAGE = ["--image", "https://example.com/cat.png"]


@pytest.mark.parametrize(
    ("arguments", "reply", "says"),
    [
        (["chat", "Hi", "--base-url", "http://example.com/v1"], None, "Use https://."),
        (["chat", "Hi", *IMAGE], None, "Use a vision model."),
        (["embed", ""], None, "text 1 is empty"),
        (["chat", "Hi", "-o", "n=2"], None, "-o: chat shows one answer"),
        (["chat", "Hi", "--timeout", "-1"], None, "--timeout"),
        (["chat", "Hi", "--temperature", "9"], None, "--temperature"),
        (["chat", "Hi"], ServerReply(text="a b c", cut_after=300), "Try again."),
        (["chat", "Hi"], ServerReply.error(401, "no"), "--token"),
        (["doctor", "-t", " "], None, "--token"),
    ],
    ids=lambda value: " ".join(value[:1] + value[2:]) if isinstance(value, list) else "",
)
def test_errors_speak_of_options(
    server: NscaleServer,
    capsys: Any,
    arguments: list[str],
    reply: ServerReply | None,
    says: str,
) -> None:
    if reply:
        server.add(*[reply] * 3)
    assert run(arguments) > 0
    out, err = capsys.readouterr()
    assert says in out + err
    for name in (*OPTIONS, *PYTHON_ONLY):
        assert f"`{name}" not in out + err
        assert f"{name}=" not in out + err.replace("n=2", "")


def test_every_setting_has_its_words() -> None:
    settings = {*ChatNscale.model_fields, *NscaleEmbeddings.model_fields}
    of_langchain = BaseChatModel.model_fields.keys() - {"output_version", "profile"}
    fields = {"frequency_penalty", "logit_bias", "logprobs", "n", "presence_penalty"}
    fields |= {"top_logprobs", "encoding_format", "model_kwargs", "streaming"}
    known = {*OPTIONS, *PYTHON_ONLY, *of_langchain, *fields}
    assert settings - known == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("`service_token` is odd.", "--token is odd."),
        ("Raise `total_timeout`, or try again.", "Try again."),
        ("Bad: use method='prompt', or simplify it.", "Bad: simplify it."),
        ("Check A, or pass `http_client`; stop.", "Check A, or stop."),
        ("All of it. Use `profile`. The end.", "All of it. The end."),
        ("Only `partial`.", ""),
        ("The server said: profile=1 a.", ""),
        ("messages[0] is `messages`.", "messages[0] is `messages`."),
    ],
)
def test_advice_for_python_is_left_out(text: str, words: str) -> None:
    assert in_options(text) == words


def test_the_request_is_named(server: NscaleServer, capsys: Any) -> None:
    named = {"inference-id": "inference-14"}
    server.add(*[ServerReply.error(500, "broken", headers=named)] * 3)
    assert run(["chat", "Hi"]) == 1
    said = capsys.readouterr().err
    assert re.search(
        r"report the request ID to Nscale. \(request inference-14\)\n$", said
    )


def test_retries_are_visible(server: NscaleServer, capsys: Any) -> None:
    busy = ServerReply.error(429, "busy", headers={"retry-after": "0"})
    for command in (["chat", "Hi"], ["chat", "Hi", "--json"], ["embed", "Hi"]):
        server.add(busy)
        assert run(command) == 0
        assert "Retry 1 of 2 in" in capsys.readouterr().err
    server.reset()
    server.add(busy)
    with Terminal("chat", "--no-log", "Hi") as terminal:
        terminal.expect("Retry 1 of 2 in")
        terminal.expect("You said: Hi")
        assert terminal.end() == 0


@pytest.mark.parametrize("options", [["nothing-like-this"], ["--kind", "image"]])
def test_no_model_is_no_success(options: list[str], capsys: Any) -> None:
    assert run(["models", *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No model has" in err
    assert run(["models", *options, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


# --- sessions ---------------------------------------------------------------------------


def test_an_image_that_the_model_cannot_read() -> None:
    lines = ["/image https://example.com/cat.png", "now?", f"/model {VISION_MODEL}"]
    lines += ["/image https://example.com/cat.png", f"/model {MODEL}", "two", "three"]
    done = piped("chat", "-i", text="\n".join(lines) + "\n")
    assert "only reads text: choose another /model" in done.stderr
    assert done.stderr.count("The images were dropped.") == 1
    assert done.stdout == "You said: now?\nYou said: three\n"
    lines = ["/image https://example.com/cat.png", "/image", "/image clear", "Hi"]
    done = piped("chat", "-i", "-m", VISION_MODEL, text="\n".join(lines) + "\n")
    assert "Images with the next question: https://example.com/cat.png" in done.stderr
    assert done.stdout == "You said: Hi\n"


@pytest.mark.parametrize("command", ["/save", "/load"])
def test_a_file_is_needed(command: str) -> None:
    done = piped("chat", "-i", text=f"{command}\nHi\n")
    assert f"{command} needs the name of a file." in done.stderr
    assert done.stdout == "You said: Hi\n"


def test_a_session_in_json(server: NscaleServer) -> None:
    server.add("one", ServerReply.error(400, "no"), "```\ncode\n```")
    done = piped("chat", "-i", "--json", text="a\nb\nc\n")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first["content"] == "one"
    assert second["error"]["status_code"] == 400
    assert third["total_tokens"] > 0
    server.add("Here:\n```\ncode\n```")
    assert piped("chat", "-i", "-x", text="a\n").stdout == "code\n"


# --- standard input ---------------------------------------------------------------------


def test_an_input_that_nobody_closes(server: NscaleServer) -> None:
    for options in ([], ["--no-stdin"], ["-n"]):
        with subprocess.Popen(  # noqa: S603  # our own
            [*COMMAND, "chat", "Ping", "--no-log", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.wait(60) == 0
            assert process.stdout is not None
            assert process.stdout.read() == "You said: Ping\n"
            assert process.stderr is not None
            said = process.stderr.read()
        assert ("asking without it. --no-stdin asks at once." in said) == (not options)
    assert [r.json["messages"][-1]["content"] for r in server.requests] == ["Ping"] * 3


@pytest.mark.skipif(os.name == "nt", reason="there is no shell here")
@pytest.mark.parametrize(
    ("script", "prompts"),
    [
        ('while read n; do {chat} "Hi $n"; done < names', ["Hi a", "Hi b", "Hi c"]),
        (
            'cat names | while read n; do {chat} -n "Hi $n"; done',
            ["Hi a", "Hi b", "Hi c"],
        ),
        ("{chat} Hi < names", ["Hi\n\na\nb\nc"]),
        ("(head -n 1 > /dev/null; {chat}) < names", ["b\nc"]),
        ("cat names | {chat} -", ["a\nb\nc"]),
    ],
)
def test_whose_input_it_is(
    server: NscaleServer, tmp_path: Path, script: str, prompts: list[str]
) -> None:
    (tmp_path / "names").write_text("a\nb\nc\n")
    command = script.replace("{chat}", f"{shlex.join(COMMAND)} chat --no-log")
    done = subprocess.run(  # noqa: S602  # our own
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    asked = [r.json["messages"][-1]["content"] for r in server.requests]
    assert [prompt.replace("\r", "") for prompt in asked] == prompts


@pytest.mark.skipif(os.name == "nt", reason="there is no shell here")
@pytest.mark.parametrize("arguments", ["chat --no-log Hi", "embed -f -", "batch - out"])
def test_waiting_for_an_input_is_not_silent(
    server: NscaleServer, tmp_path: Path, arguments: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = f"cat pipe | {shlex.join(COMMAND)} {arguments}"
    with subprocess.Popen(  # noqa: S602  # our own
        command, shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "Reading standard input" in process.stderr.readline()
        pipe.write_text('"late"')
        assert process.wait(60) == 0
    sent = json.dumps(body(server))
    assert "late" in sent
    assert ("Hi" in sent) == ("Hi" in arguments)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_of_the_input(
    server: NscaleServer, tmp_path: Path, encoding: str
) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    data = f"{mark}Grüße\r\nan alle".encode(encoding)
    for arguments in (["Hi"], [], ["-"]):
        command = [*COMMAND, "chat", "--no-log", *arguments]
        subprocess.run(command, input=data, check=True)  # noqa: S603  # our own
        prompt = body(server)["messages"][-1]["content"]
        assert prompt.endswith("Grüße\nan alle")
    file = tmp_path / "texts"
    file.write_bytes(data)
    assert run(["embed", "-f", str(file)]) == 0
    assert body(server)["input"] == ["Grüße", "an alle"]
    schema = tmp_path / "schema.json"
    schema.write_bytes(f'{mark}{{"title": "Grüße"}}'.encode(encoding))
    assert run(["chat", "Hi", "--json-schema", str(schema)]) == 0


def test_an_encoding_that_cannot_be_read(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "texts"
    file.write_bytes("Grüße".encode("latin-1"))
    assert run(["embed", "-f", str(file)]) == 2
    assert "Store or send it as UTF-8." in capsys.readouterr().err


# --- files ------------------------------------------------------------------------------


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("earlier")
    path.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(path)
    with path.open() as reader:
        write_private(link, "later")
        assert reader.read() == "earlier"  # which a truncated file would not have
    assert path.read_text() == "later"
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(tmp_path.iterdir()) == [path, link]


@pytest.mark.skipif(os.name == "nt", reason="there are no such limits on Windows")
def test_a_full_disk_keeps_the_earlier_conversation(tmp_path: Path) -> None:
    assert run(["chat", "earlier"]) == 0
    (stored,) = (tmp_path / "state").rglob("conversation.json")
    before = stored.read_text()
    code = (
        "import resource, sys; from langchain_nscale._cli.commands import run; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "sys.exit(run(['chat', 'long ' * 2000]))"
    )
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "-c won't continue this conversation" in done.stderr
    assert stored.read_text() == before
    assert [path.name for path in stored.parent.iterdir()] == ["conversation.json"]


def test_devices_are_not_replaced(tmp_path: Path) -> None:
    done = piped("chat", "-i", text=f"Hi\n/save {os.devnull}\n/save {tmp_path}\n")
    assert done.stderr.count("is not a file") == 2
    assert Path(os.devnull).is_char_device() or os.name == "nt"


@pytest.mark.skipif(os.name == "nt", reason="there are no modes on Windows")
def test_files_of_other_modes_become_private(tmp_path: Path) -> None:
    assert run(["chat", "secret"]) == 0
    (stored,) = (tmp_path / "state").rglob("conversation.json")
    history = stored.with_name("history")
    history.touch()
    saved = tmp_path / "saved.json"
    saved.write_text("{}")
    for path in (stored, history, saved):
        path.chmod(0o644)
    with Terminal("chat", "-i", XDG_STATE_HOME=str(tmp_path / "state")) as terminal:
        terminal.expect(">")
        terminal.send(f"/save {saved}\r")
        terminal.expect("Saved to")
        terminal.expect(">")
        terminal.send("\x04")
        assert terminal.end() == 0
    assert run(["chat", "secret"]) == 0
    for path in (stored, history, saved):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- completion -------------------------------------------------------------------------


def completions(shell: str, line: str) -> str:
    words = {"COMP_WORDS": line, "COMP_CWORD": line.rpartition(" ")[2]}
    if shell != "fish":
        words["COMP_CWORD"] = str(line.count(" "))
    done = subprocess.run(  # noqa: S603  # our own
        COMMAND,
        env={**os.environ, **words, "_LANGCHAIN_NSCALE_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    for line in ("chat -m meta-l", "chat --model 3.1-8B", "default Llama-3.1"):
        assert MODEL in completions(shell, f"langchain-nscale {line}")
    line = "langchain-nscale chat -m openai/gpt-oss-20b --reasoning-effort "
    assert all(level in completions(shell, line) for level in ("low", "medium", "high"))
    assert "bar" in completions(shell, "langchain-nscale batch a b --progress b")
    assert "Qwen3-Embedding" in completions(shell, "langchain-nscale embed -m ")
    shown = completions(shell, "langchain-nscale chat --sta")
    assert shell == "bash" or "times and cost as JSON" in shown
    if shell == "fish":  # which takes what follows a comma for something else
        assert all(line.count(",") == 1 for line in shown.splitlines())
