"""Tells coverage which test runs, or selects the tests for a mutant."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest
from hypothesis import Phase, settings

RECORD = "MUTATE_RECORD"
SELECT = "MUTATE_SELECT"
FAILED = "MUTATE_FAILED"


def pytest_configure() -> None:
    # After the profile of tests/conftest.py: the same examples each time, found once.
    settings.register_profile(
        "mutate",
        settings(),
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
    )
    settings.load_profile("mutate")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if RECORD in os.environ and (measured := coverage.Coverage.current()):
        measured.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            measured.switch_context("")
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and FAILED in os.environ:
        Path(os.environ[FAILED]).write_text(report.nodeid)
    # With xdist, the controller gets the reports of all workers.
    if RECORD in os.environ and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(os.environ[RECORD]).open("a") as file:
            row = [report.nodeid, report.when, report.outcome, report.duration]
            file.write(json.dumps(row) + "\n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SELECT in os.environ:
        chosen = json.loads(Path(os.environ[SELECT]).read_text())
        position = {name: number for number, name in enumerate(chosen)}
        items[:] = sorted(
            (item for item in items if item.nodeid in position),
            key=lambda item: position[item.nodeid],
        )
