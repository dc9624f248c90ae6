"""Runs the command line: `langchain-nscale`, or `python -m langchain_nscale`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line, or explain how to install its dependencies."""
    try:
        from langchain_nscale._cli.commands import run  # noqa: PLC0415  # optional dependencies
    except ModuleNotFoundError as missing:
        sys.stderr.write(
            f"{missing.name} is not installed: the command line needs the extra `cli`: "
            'pip install "langchain-nscale[cli]"\n'
        )
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
