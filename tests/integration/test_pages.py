"""Every Python block of the documentation runs and prints what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.runner import PAGES, ROOT, blocks_of, run, steady

WITH_CODE = [page for page in PAGES if blocks_of(page.read_text())]


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
        blocks = [block for block in blocks_of(page.read_text()) if not block.shell]
        text = page.read_text()
        visible = text.count("```python") - text.count("```python\npip ")
        hidden = page.read_text().count("<!-- run")
        assert len(blocks) == visible + hidden, page
