"""`python -m scripts.update_pages [PAGE …]`: refreshes the outputs that pages show."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.pages.runner import PAGES, updated


def main() -> None:
    """Update the pages named on the command line, or all pages."""
    for page in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
        text = updated(page)
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{page}: updated\n")


# Pages start worker processes, which import this module again.
if __name__ == "__main__":
    main()
