"""Runs the command line: `langchain-nscale`, or `python -m langchain_nscale`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

# The packages of the extra `cli`. Others install some of them (click above all), so check
# for every one of them before a command begins and an answer is paid for.
_EXTRA = ("click", "prompt_toolkit", "rich", "starlette", "uvicorn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, or explain how to install its dependencies."""
    missing = [name for name in _EXTRA if not _is_installed(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        sys.stderr.write(
            f"{', '.join(missing)} {verb} not installed: the command line needs the "
            'extra `cli`: pip install "langchain-nscale[cli]"\n'
        )
        return 2
    try:
        from langchain_nscale._cli.commands import run  # noqa: PLC0415  # needs click

        return run(arguments)
    except KeyboardInterrupt:  # while something was imported
        return 130


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # in `sys.modules`, but as `None` or without a spec
        return sys.modules.get(name) is not None


if __name__ == "__main__":
    sys.exit(main())
