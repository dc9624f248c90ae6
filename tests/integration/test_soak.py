"""The short form of `make soak`: every call ends, in its own answer or a typed error."""

from __future__ import annotations

import logging

import pytest

from tests.soak.soak import FAULTS, soak

TYPED = {
    "NscaleConnectionError",
    "NscaleInterruptedStreamError",
    "NscaleMalformedResponseError",
    "NscaleStalledStreamError",
    "NscaleTimeoutError",
    "NscaleUnavailableError",
}


@pytest.mark.timeout(120)
def test_a_short_soak(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    count = 1200
    report = soak(count, 60, seed=7)
    assert report.hangs == 0
    assert report.wrong == []
    assert report.complete + report.errors.total() == count
    assert report.complete > count * 0.9
    assert set(report.faults) == set(FAULTS)
    assert set(report.errors) <= TYPED
    assert report.leaked_tasks == 0
    assert report.leaked_files == 0
