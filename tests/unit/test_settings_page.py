from __future__ import annotations

import re

from scripts.settings_page import PAGE, page


def without_types(text: str) -> list[str]:
    """Lines without the second column, because older Pythons write types differently."""
    return [re.sub(r"^(\| `\w+` \|) `.*?` \|", r"\1", line) for line in text.splitlines()]


def test_the_page_is_up_to_date() -> None:
    shown = PAGE.read_text(encoding="utf-8")
    assert without_types(shown) == without_types(page()), (
        "run `python -m scripts.settings_page`"
    )
