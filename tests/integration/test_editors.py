"""What an editor shows of the constructors, by pyright's language server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_nscale import ChatNscale, NscaleEmbeddings
from tests.pages.runner import ROOT
from tests.setting_names import setting_names

SERVER: Any = shutil.which("pyright-langserver", path=str(ROOT / ".venv" / "bin"))
PROGRAM = """\
from langchain_nscale import ChatNscale, NscaleEmbeddings

ChatNscale(
NscaleEmbeddings(
"""


class Editor:
    """Speaks the language server protocol as an editor does."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._stdin: Any = process.stdin
        self._stdout: Any = process.stdout
        self._count = 0

    def send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request; answer the server's own ones until its result arrives."""
        self._count += 1
        self.send(id=self._count, method=method, params=params)
        while True:
            message = self._receive()
            if "method" in message and "id" in message:
                items = message["params"].get("items", [])
                self.send(id=message["id"], result=[{} for _ in items])
            elif message.get("id") == self._count:
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        length = 0
        while line := self._stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        message: dict[str, Any] = json.loads(self._stdout.read(length))
        return message


@pytest.fixture(scope="module")
def hover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("project")
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    settings = {"extraPaths": [str(ROOT)], "venvPath": str(ROOT), "venv": ".venv"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    with subprocess.Popen(  # noqa: S603  # pyright's own
        [SERVER, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        editor = Editor(process)
        root = folder.as_uri()
        editor.ask(
            "initialize",
            {
                "processId": None,
                "rootUri": root,
                "workspaceFolders": [{"uri": root, "name": "project"}],
                "capabilities": {
                    "textDocument": {"hover": {"contentFormat": ["plaintext"]}}
                },
            },
        )
        editor.send(method="initialized", params={})
        document = {"uri": program.as_uri(), "languageId": "python", "version": 1}
        editor.send(
            method="textDocument/didOpen",
            params={"textDocument": {**document, "text": PROGRAM}},
        )

        def ask(line: int) -> str:
            where = {"line": line, "character": 2}
            params = {"textDocument": {"uri": program.as_uri()}, "position": where}
            return str(editor.ask("textDocument/hover", params)["contents"]["value"])

        yield ask
        process.kill()


@pytest.mark.skipif(SERVER is None, reason="pyright is not installed")
@pytest.mark.parametrize(("cls", "line"), [(ChatNscale, 2), (NscaleEmbeddings, 3)])
def test_hovering_shows_every_parameter_with_its_description(
    cls: Any, line: int, hover: Any
) -> None:
    text = hover(line)
    for name in setting_names(cls):
        lines = re.findall(rf"^\W*{name}: (.+)$", text, re.MULTILINE)
        # One for each overload, and the description, which is a sentence.
        assert len(lines) > 1, name
        assert re.match(r"[A-Z`]", lines[-1]), name
