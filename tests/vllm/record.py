"""`make record-vllm`: sends the recorded requests again and records the engine's replies.

The requests of tests/unit/wire/0.32.0* are sent to the version that is installed in
.venv-vllm; the replies are written to the folders of that version.
"""

from __future__ import annotations

import http.client
import re
from pathlib import Path

from tests.unit.recordings import FOLDER
from tests.vllm.engine import HERMES, KEY, Engine, running
from tests.vllm.environment import VERSION, build

SOURCE = "0.32.0"
PARSERS = "-parsers"
# Paths of this machine, and what differs from run to run.
_PATHS = re.compile(rb"/[\w./-]*/(?=models/|site-packages/)")


def request_of(path: Path) -> tuple[str, str, bytes] | None:
    """Return the method, path and body of a recording; `None` if it was abridged."""
    lines = [
        line[2:] for line in path.read_bytes().split(b"\n") if line.startswith(b"> ")
    ]
    method, _, url = lines[0].decode().strip().partition(" ")
    body = b"\n".join(lines[1:]).strip()
    return None if b" ... " in body else (method, url, body)


def record(engine: Engine, source: Path, target: Path) -> None:
    """Send a recorded request and write the reply."""
    request = request_of(source)
    if request is None:
        return
    method, url, body = request
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=90)
    connection.request(method, url, body or None, headers)
    reply = connection.getresponse()
    content = _PATHS.sub(b"", reply.read())
    head = [f"> {method} {url}".encode(), b"> " + body]
    head.append(f"< HTTP/1.1 {reply.status} {reply.reason}".encode())
    head += [f"< {name}: {value}".encode() for name, value in reply.getheaders()]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"\n".join(head) + b"\n\n" + content)


def record_folder(source: Path, *options: str, model: str = "tiny") -> None:
    """Record all requests of a folder with one server."""
    target = FOLDER / (VERSION + str(source.relative_to(FOLDER)).removeprefix(SOURCE))
    paths = [
        path
        for path in sorted(source.glob("*.txt"))
        # The first are of another server, the others of one that was stopped.
        if path.stem.startswith("embed_") == (model == "minilm")
        and "killed" not in path.stem
        and "terminated" not in path.stem
    ]
    with running(*options, model=model) as engine:
        for path in paths:
            record(engine, path, target / path.name)


def main() -> None:
    """Record every folder."""
    if not build():
        return
    record_folder(FOLDER / SOURCE, *HERMES)
    record_folder(FOLDER / SOURCE, model="minilm")
    for parser in ("qwen3", "deepseek_r1"):
        folder = FOLDER / f"{SOURCE}-reasoning-{parser}"
        if folder.exists():
            record_folder(folder, *HERMES, "--reasoning-parser", parser)
    for folder in sorted((FOLDER / f"{SOURCE}{PARSERS}").iterdir()):
        options = ("--enable-auto-tool-choice", "--tool-call-parser", folder.name)
        record_folder(folder, *options)


if __name__ == "__main__":
    main()
