#!/usr/bin/env bash
# Ray: `ray.cancel` of a running call of an actor lets it run to its end, and then throws its result
# away: `ray.get` raises TaskCancelledError. A running task, in contrast, is interrupted.
#
# Guess: the call ends, as that of a task does.
# Why it matters: actors are where the model clients live. A cancelled batch is asked and paid to the end,
# the actor is busy meanwhile, and nobody gets the answers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    ray==2.60.0
cat >"$folder/finding.py" <<'PYTHON'
import logging
import sys
import time
from pathlib import Path

import ray

FOLDER = Path(__file__).parent


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def ask(folder):
    """A slow call: it ends once it is told to."""
    folder.mkdir()
    (folder / "started").touch()
    try:
        wait_for(folder / "release")
    except BaseException:
        (folder / "interrupted").touch()
        raise
    (folder / "paid").touch()
    return "answer"


@ray.remote
def task(folder):
    return ask(folder)


@ray.remote
class Actor:
    def ask(self, folder):
        return ask(folder)


def outcome(call, folder):
    reference = call.remote(folder)
    wait_for(folder / "started")
    ray.cancel(reference)
    interrupted = folder / "interrupted"
    deadline = time.monotonic() + 5
    while not interrupted.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder / "release").touch()
    try:
        return ray.get(reference, timeout=60), interrupted.exists()
    except ray.exceptions.TaskCancelledError:
        return "TaskCancelledError", interrupted.exists()


ray.init(
    num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
)
actor = Actor.remote()
print("ray", ray.__version__)
seen = {}
for name, call in {"task": task, "actor": actor.ask}.items():
    result, interrupted = outcome(call, FOLDER / name)
    paid = (FOLDER / name / "paid").exists()
    seen[name] = (result, interrupted, paid)
    print(f"{name}: interrupted {interrupted}, ran to its end {paid}, ray.get gives {result}")
ray.shutdown()
holds = seen == {
    "task": ("TaskCancelledError", True, False),
    "actor": ("TaskCancelledError", False, True),
}
sys.exit(None if holds else "This no longer holds.")
PYTHON
cd "$folder"
"$folder/venv/bin/python" finding.py
