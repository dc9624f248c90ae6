"""`python -m langchain_nscale`, and the command `langchain-nscale`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; without its extra, say how to install it."""
    try:
        from langchain_nscale.cli import run  # noqa: PLC0415  # the extra may be missing
    except ModuleNotFoundError as missing:
        sys.stderr.write(
            f"{missing.name} is missing: the command line needs the extra `cli`: "
            'pip install "langchain-nscale[cli]"\n'
        )
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
