"""Runs the code of a page as its reader would: pasted into an empty folder.

- All blocks ```` ```python ```` of a page are one program, run by one interpreter. What a
  block prints has to be what the block ```` ```text ```` right after it shows, if any.
- A block with a title (```` ```python title="test_chain.py" ````) is saved as that file.
- A block ```` ```bash ```` that calls `langchain-nscale` or `pytest` is run in a shell.
- The stand-in server answers, as `langchain-nscale serve` does. Nothing else is prepared:
  what a page needs, it shows.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_nscale.testing import NscaleServer
from langchain_nscale.testing._play import documentation_answers

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.mdx")),
]

_PIECE = re.compile(
    r"^```(?P<language>python|bash)(?: title=\"(?P<title>[\w./]+)\"| [\w ]+)?\n"
    r"(?P<code>(?!pip ).*?)^```$"
    r"(?:\n\n^```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_RUNS = re.compile(r"^(?!pip).*\b(?:langchain-nscale (?!serve)|pytest )", re.MULTILINE)
_TIMES = re.compile(r"\d+\.\d\d ?s\b")  # differ from run to run
_END = "\x1e"  # separates the outputs of blocks
_TIMEOUT = 120


@dataclass
class Block:
    """Code with its place in the page, and the place of the output that is shown."""

    code: str
    language: str
    title: str | None
    line: int
    shown: str | None
    span: tuple[int, int]


def blocks_of(text: str) -> list[Block]:
    """Return the code of a page, in order."""
    return [
        Block(
            code=found["code"],
            language=found["language"],
            title=found["title"],
            line=text.count("\n", 0, found.start()) + 1,
            shown=found["shown"],
            span=found.span("shown"),
        )
        for found in _PIECE.finditer(text)
        if found["language"] != "bash" or _RUNS.search(found["code"])
    ]


@contextmanager
def environment() -> Iterator[dict[str, str]]:
    """Yield the environment of a reader who has started the stand-in server."""
    with (
        NscaleServer(responder=documentation_answers()) as server,
        TemporaryDirectory() as home,
    ):
        yield {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": home,
            "NSCALE_BASE_URL": server.base_url,
            "NSCALE_SERVICE_TOKEN": server.token,
        }


def run(page: Path) -> list[tuple[Block, str]]:
    """Run a page; return its blocks with what each has printed."""
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    program = [b for b in blocks if b.language == "python" and b.title is None]
    printed = {}
    with environment() as variables, TemporaryDirectory() as folder:
        for block in blocks:
            if block.title is not None:
                Path(folder, block.title).write_text(block.code, encoding="utf-8")
        if program:
            file = Path(folder, f"{page.stem}_page.py")
            file.write_text(_as_program(program), encoding="utf-8")
            output = _call([sys.executable, str(file)], folder, variables)
            parts = output.split(_END)[1:]
            printed = {
                block.line: part for block, part in zip(program, parts, strict=True)
            }
        for block in blocks:
            if block.language == "bash":
                command = ["bash", "-euc", block.code]
                printed[block.line] = _call(command, folder, variables)
    return [(block, printed.get(block.line, "")) for block in blocks]


def _as_program(blocks: list[Block]) -> str:
    """Return blocks as one file, at the page's line numbers, with their outputs apart."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines))
        # On the line of the fence. Worker processes import the file, and print nothing.
        lines.append(f"if __name__ == '__main__': print({_END!r}, end='', flush=True)")
        lines += block.code.splitlines()
    return "\n".join(lines) + "\n"


def _call(command: list[str], folder: str, variables: dict[str, str]) -> str:
    done = subprocess.run(  # noqa: S603  # our own pages
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    # A traceback that doesn't change the exit code comes from a thread or from shutdown.
    if done.returncode or "Traceback" in done.stderr or "Exception" in done.stderr:
        msg = f"exit code {done.returncode}: {command[-1]}\n{done.stdout}\n{done.stderr}"
        raise AssertionError(msg)
    return done.stdout


def steady(text: str) -> str:
    """Return output without what differs from run to run, in width too."""
    return "\n".join(
        " ".join(_TIMES.sub("0.00 s", line).split()) for line in text.splitlines()
    )


def updated(page: Path) -> str:
    """Return a page with the current outputs of its code."""
    text = page.read_text(encoding="utf-8")
    for block, output in reversed(run(page)):
        if block.shown is not None and steady(block.shown) != steady(output):
            start, end = block.span
            text = text[:start] + output.rstrip("\n") + "\n" + text[end:]
    return text
