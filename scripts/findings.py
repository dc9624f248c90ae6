"""`python -m scripts.findings [NAME ...]` runs the findings and names what changed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "findings"
NOT_RUN = 77  # the status of a script that lacks something, as in Automake's tests


def main(names: list[str]) -> int:
    """Run the named findings, or all of them; return 1 if one has changed."""
    scripts = [FOLDER / f"{name}.sh" for name in names] or sorted(FOLDER.glob("*.sh"))
    states = {script.stem: run(script) for script in scripts}
    changed = [name for name, status in states.items() if status not in (0, NOT_RUN)]
    skipped = [name for name, status in states.items() if status == NOT_RUN]
    print(
        f"\n{len(states) - len(changed) - len(skipped)} of {len(states)} findings hold."
    )
    if skipped:
        print("Not run, as something is missing here:", ", ".join(skipped))
    if changed:
        print("No longer hold:", ", ".join(changed))
    return 1 if changed else 0


def run(script: Path) -> int:
    """Run one finding and return its status."""
    print(f"== {script.stem}", flush=True)
    start = time.monotonic()
    status = subprocess.run([script], check=False).returncode  # noqa: S603  # our own
    print(f"-- status {status} after {time.monotonic() - start:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
