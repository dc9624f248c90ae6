"""Runs the code of a page from top to bottom as one program, on the stand-in server.

- A block ```` ```python ```` is run; what it prints has to be what the block
  ```` ```text ```` right after it shows, if there is one.
- A block ```` ```bash ```` that calls `langchain-nscale` is run in a shell, in a folder
  of its own.
- A comment `<!-- run … -->` is run too, and not seen by the reader: it prepares what
  the page leaves out. It has `server`, `ServerReply` and `ToolCallReply`.
- `await` works at the top level.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.pages.responder import respond

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.mdx")),
]

_PIECE = re.compile(
    r"^<!-- run\n(?P<hidden>.*?)^-->$"
    r"|^```(?P<language>python|bash)(?: [\w ]+)?\n(?P<code>(?!pip ).*?)^```$"
    r"(?:\n\n^```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_OURS = re.compile(r"^(?!pip).*\blangchain-nscale ", re.MULTILINE)
_TIMES = re.compile(r"\d+\.\d\d s\b")  # differ from run to run


@dataclass
class Block:
    """Code with its place in the page, and the place of the output that is shown."""

    code: str
    shell: bool
    line: int
    shown: str | None
    span: tuple[int, int]


def blocks_of(text: str) -> list[Block]:
    """The code of a page, in order."""
    return [
        Block(
            code=found["hidden"] or found["code"] or "",
            shell=found["language"] == "bash",
            line=text.count("\n", 0, found.start()) + 1,
            shown=found["shown"],
            span=found.span("shown"),
        )
        for found in _PIECE.finditer(text)
        if found["language"] != "bash" or _OURS.search(found["code"])
    ]


@contextmanager
def environment() -> Iterator[dict[str, Any]]:
    """A server, the variables that lead to it, and what code may take for granted."""
    saved = dict(os.environ)
    with NscaleServer(responder=respond) as server:
        os.environ["NSCALE_BASE_URL"] = server.base_url
        os.environ["NSCALE_SERVICE_TOKEN"] = server.token
        try:
            yield {
                "__name__": "__main__",
                "server": server,
                "ServerReply": ServerReply,
                "ToolCallReply": ToolCallReply,
            }
        finally:
            os.environ.clear()
            os.environ.update(saved)


def run(page: Path) -> list[tuple[Block, str]]:
    """Run a page; return its blocks with what each has printed."""
    printed = []
    loop = asyncio.new_event_loop()
    with environment() as names, closing(loop), TemporaryDirectory() as folder:
        for block in blocks_of(page.read_text()):
            if block.shell:
                printed.append((block, _run_in_shell(block.code, folder)))
                continue
            # As many line ends as precede it, so that a traceback has the page's lines.
            source = "\n" * block.line + block.code
            code = compile(
                source,
                str(page),
                "exec",
                ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                dont_inherit=True,
            )
            output = io.StringIO()
            with redirect_stdout(output):
                result = eval(code, names)  # noqa: S307  # our own pages
                if inspect.iscoroutine(result):
                    loop.run_until_complete(result)
            printed.append((block, output.getvalue()))
        loop.run_until_complete(loop.shutdown_asyncgens())  # as `asyncio.run` does
    return printed


def _run_in_shell(code: str, folder: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603  # our own pages
        ["bash", "-euc", code],  # noqa: S607  # whichever there is
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"exit code {done.returncode}: {code}\n{done.stderr}"
        raise AssertionError(msg)
    return done.stdout


def steady(text: str) -> str:
    """Output without what differs from run to run, in width too."""
    return "\n".join(
        " ".join(_TIMES.sub("0.00 s", line).split()) for line in text.splitlines()
    )


def updated(page: Path) -> str:
    """Return a page with the current outputs of its code."""
    text = page.read_text()
    for block, output in reversed(run(page)):
        if block.shown is not None and steady(block.shown) != steady(output):
            start, end = block.span
            text = text[:start] + output.rstrip("\n") + "\n" + text[end:]
    return text
