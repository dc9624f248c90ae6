from __future__ import annotations

import re

from tests.settings import PAGE, page


def without_types(text: str) -> list[str]:
    """Lines without the second column: types are written otherwise by older Pythons."""
    return [re.sub(r"^(\| `\w+` \|) `.*?` \|", r"\1", line) for line in text.splitlines()]


def test_the_page_is_up_to_date() -> None:
    shown = PAGE.read_text()
    assert without_types(shown) == without_types(page()), "`python -m tests.settings`"
