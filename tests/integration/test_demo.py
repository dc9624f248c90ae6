"""`make demo` as a user runs it, without a token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_runs_end_to_end_on_the_stand_in() -> None:
    done = subprocess.run(  # noqa: S603  # our own script
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        env={**os.environ, "PYTHONDEVMODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert "stand-in" in first
    assert 'calls temperature({"city": "Oslo"})' in done.stdout
    assert "subtract answers 14.5" in done.stdout
    assert "Lisbon is warmer, by 14.5 degrees." in done.stdout
    assert "meta-llama/Llama-3.1-8B-Instruct" in done.stdout
