"""Does one part of the work with one client: prints CPU seconds per unit as JSON."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable, Iterator

from tests.benchmarks.conditions import Conditions

# Each runs in a process of its own.
PARTS = (
    "setup",
    "calls",
    "streams",
    "memory",
    "embeddings",
    "cold",
    "tls",
    "threads",
    "agents",
    "structured",
    "binding",
    "collector",
    "held",
    "arrays",
)
PATIENCE = 240  # seconds for one part


def attempt(work: Callable[[], Iterator[tuple[str, float]]]) -> dict[str, float | str]:
    """The figures of some work; a client that can't do it is reported, not dropped."""
    figures: dict[str, float | str] = {}
    try:
        for label, value in work():  # those before a failure are kept
            figures[label] = value  # noqa: PERF403
    except Exception as error:  # noqa: BLE001  # whatever a client raises
        figures[f"failed in {work.__name__}"] = f"{type(error).__name__}: {error}"[:200]
    return figures


def main() -> None:
    name, part, url = sys.argv[1:]
    for variable in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        os.environ.pop(variable, None)
    bench = Conditions(name, url)
    # A process that hangs says where, before it is killed.
    faulthandler.dump_traceback_later(PATIENCE - 5)
    sys.stdout.write(json.dumps(attempt(getattr(bench, part))))


if __name__ == "__main__":
    main()
