"""README's links work in a clone, and PyPI gets absolute ones."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_relative_links_lead_to_files() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_start_page_makes_the_same_claims() -> None:
    def claims(page: str) -> str:
        text = (ROOT / page).read_text(encoding="utf-8")
        return text.split("## Quickstart")[0].split("- **", 1)[1].split("\n\n")[0]

    assert claims("docs/index.md") == claims("README.md")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_pypi_gets_absolute_links() -> None:
    import tomllib  # noqa: PLC0415  # new in 3.11

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = settings["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for each in hook["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    assert [link for link in LINK.findall(text) if "://" not in link] == []
    assert "(https://nscaledev.github.io/langchain-nscale/models/)" in text
    assert "(https://nscaledev.github.io/langchain-nscale/pictures/chat.svg)" in text
