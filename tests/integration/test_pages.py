"""Every Python block of the documentation runs and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages.runner import PAGES, ROOT, blocks_of, run, steady

WITH_CODE = [page for page in PAGES if blocks_of(page.read_text())]


@pytest.mark.timeout(600)  # the page of the command line starts 14 programs
@pytest.mark.filterwarnings("ignore:.*is in beta")
@pytest.mark.parametrize(
    "page", WITH_CODE, ids=[str(page.relative_to(ROOT)) for page in WITH_CODE]
)
def test_a_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for block, output in run(page):
        if block.shown is not None:
            again = f"line {block.line}; run `python -m scripts.update_pages`"
            assert steady(output) == steady(block.shown), again


def test_there_is_something_to_test() -> None:
    assert len(WITH_CODE) > 5
    for page in PAGES:
        # Code that isn't found isn't run: indented, or with something after `python`.
        text = page.read_text(encoding="utf-8")
        blocks = [block for block in blocks_of(text) if block.language == "python"]
        assert len(blocks) == text.count("```python") - text.count("```python\npip "), (
            page
        )
        assert "<!-- run" not in text  # what a page needs, it shows


def test_no_page_shows_an_echo() -> None:
    """Pages show answers like a model's, except where the stand-in is the subject."""
    for page in PAGES:
        outputs = [block.shown or "" for block in blocks_of(page.read_text())]
        assert not any("You said" in output for output in outputs), page


LINK = re.compile(r"\]\((https://[^)\s#]+)(?:#([\w-]+))?\)")
SITE = "https://nscaledev.github.io/langchain-nscale/"
SOURCE = re.compile(
    r"https://github.com/nscaledev/langchain-nscale/(?:blob|tree)/main/(.*)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_absolute_links_to_ourselves(page: Path) -> None:
    """Check what mkdocs doesn't: links of pages outside the site, and to the source."""
    for address, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if source := SOURCE.match(address):
            assert (ROOT / source[1]).exists(), address
        elif address.startswith(SITE):
            path = address.removeprefix(SITE).rstrip("/") or "index"
            target = ROOT / "docs" / (path if "." in path else f"{path}.md")
            assert target.exists(), address
            slugs = re.sub(r"[^\w\n -]", "", target.read_text().lower()).replace(" ", "-")
            assert not anchor or anchor in slugs, address
