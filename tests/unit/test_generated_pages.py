from __future__ import annotations

import re

from scripts import models_page, templates_page
from scripts.settings_page import PAGE, page


def without_types(text: str) -> list[str]:
    """Lines without types, because older Pythons write them differently."""
    return [re.sub(r"^`.*?`(, default|$)", r"\1", line) for line in text.splitlines()]


def test_the_page_is_up_to_date() -> None:
    shown = PAGE.read_text(encoding="utf-8")
    assert without_types(shown) == without_types(page()), (
        "run `python -m scripts.settings_page`"
    )


def test_the_page_of_models_is_up_to_date() -> None:
    shown = models_page.PAGE.read_text(encoding="utf-8")
    assert shown == models_page.page(), "run `python -m scripts.models_page`"


def test_the_page_of_templates_is_up_to_date() -> None:
    shown = templates_page.PAGE.read_text(encoding="utf-8")
    assert shown == templates_page.page(), "run `python -m scripts.templates_page`"
