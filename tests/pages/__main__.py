"""`python -m tests.pages [PAGE …]`: put the output of the pages' code into them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.pages.runner import PAGES, rewritten

for page in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
    text = rewritten(page)
    if text != page.read_text():
        page.write_text(text)
        sys.stdout.write(f"{page}: rewritten\n")
