from __future__ import annotations

from tests.templates.environment import READY

if not READY.exists():
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str:
    return "" if READY.exists() else "No templates: run `make test-templates`"
