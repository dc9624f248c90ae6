"""Servers of the real engine, one at a time for each kind of test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_socket import socket_allow_hosts

from tests.vllm.engine import HERMES, Engine, running
from tests.vllm.environment import READY

if not READY.exists():
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str:
    return "" if READY.exists() else "vLLM is not installed: run `make test-vllm`"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests of LangChain's suites each class passes."""
    table: dict[str, Counter[str]] = {}
    columns = ("passed", "xpassed", "failed", "xfailed", "error", "skipped")
    for column in columns:
        for report in terminalreporter.stats.get(column, ()):
            place, _, rest = report.nodeid.partition("::")
            name = rest.partition("::")[0]
            if "::" in rest and place.endswith(("_suites.py", "_embeddings.py")):
                kind = column.removeprefix("x")
                kind = "failed" if kind == "error" else kind
                table.setdefault(name, Counter())[kind] += 1
    if table:
        terminalreporter.section("LangChain's suites on vLLM")
    for name, counts in table.items():
        shown = ", ".join(f"{counts[c]} {c}" for c in ("passed", "failed", "skipped"))
        terminalreporter.write_line(f"{name:24} {shown}")


@pytest.fixture(autouse=True)
def _loopback_only() -> None:
    socket_allow_hosts(["127.0.0.1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that says what the script tells, with a parser for tools."""
    with running(*HERMES) as server:
        yield server


@pytest.fixture(scope="session", params=["qwen3", "deepseek_r1"])
def thinking(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine that also has a parser for reasoning."""
    with running(*HERMES, "--reasoning-parser", request.param) as server:
        yield server
