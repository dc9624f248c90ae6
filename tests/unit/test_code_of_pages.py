"""No page overwrites a file of its reader, who pastes its code into any folder.

A block that writes files begins in a new folder (`cd "$(mktemp -d)"`), or writes into one
that the page has made and that can't have been there (`Path("notes").mkdir()`). Appending
(`>>`) loses nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md*"),
    *(ROOT / "examples").rglob("*.md"),
]
_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_SHELL_WRITE = re.compile(
    r"(?<![\d&<>=-])>(?![>&=]|\s*/dev/)"  # a redirect, but not of errors or to a device
    r"|\b(?:tee|cp|mv|Out-File|Set-Content|Copy-Item)\b"
    r"|\bcurl\b.* -[oO]\b|\bwget\b"
)
_NEW_FOLDER = re.compile(r'cd "\$\(mktemp -d\)"|cd \(New-Item -ItemType Directory "')
_PYTHON_WRITE = re.compile(
    r"\.(?:write_text|write_bytes|save_local|to_\w+file|to_csv|savefig)\("
    r"|\bopen\([^)]*, *[\"'][wxa+]"
)
_MADE_FOLDER = re.compile(r"\.mkdir\(\)")  # an error if the folder is there


def overwriting(text: str) -> list[str]:
    """Return the lines of a page that could overwrite a file of the reader."""
    found = []
    made = False
    for _, language, code in _BLOCK.findall(text):
        if language == "python":
            write, new = _PYTHON_WRITE, _MADE_FOLDER
        elif language in ("bash", "console", "powershell", "sh"):
            write, new = _SHELL_WRITE, _NEW_FOLDER
            made = False  # blocks are pasted one by one
        else:
            continue
        for line in code.splitlines():
            made |= bool(new.search(line))
            if language != "python":  # quotes and comments
                line = re.sub(r"\"[^\"]*\"|'[^']*'|(?<!\S)#.*", "''", line)  # noqa: PLW2901
            if write.search(line) and not made:
                found.append(line.strip())
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_overwrites_a_file_of_its_reader(page: Path) -> None:
    assert overwriting(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("bash", "echo x > in.jsonl", ["echo x > in.jsonl"]),
        ("bash", "echo x >in.jsonl", ["echo x >in.jsonl"]),
        ("bash", "echo x | tee in.jsonl", ["echo x | tee in.jsonl"]),
        ("powershell", "1 | Out-File in.jsonl", ["1 | Out-File in.jsonl"]),
        ("python", 'Path("a").write_text("x")', ['Path("a").write_text("x")']),
        ("python", 'open("a", "w")', ['open("a", "w")']),
        ("bash", 'cd "$(mktemp -d)"\necho x > in.jsonl', []),
        ("powershell", 'cd (New-Item -ItemType Directory "x")\n1 | Out-File a', []),
        ("bash", "echo x >> ~/.bashrc; echo y 2> /dev/null >&2", []),
        ("bash", "echo 'a > b'  # <c> d", []),
        ("python", 'Path("a").mkdir()\nPath("a/b").write_text("x")', []),
        ("python", "print(1 > 2)", []),
    ],
)
def test_what_overwrites(language: str, code: str, expected: list[str]) -> None:
    assert overwriting(f"```{language}\n{code}\n```\n") == expected
