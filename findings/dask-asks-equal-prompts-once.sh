#!/usr/bin/env bash
# Dask: `client.map(ask, [prompt] * 5)` makes one call and hands out its answer five times, and
# while the future of a failed call is still held, submitting the call again raises the old error
# without a call. `pure=False` cures both; dask.delayed is impure without being told.
#
# Guess: five tasks are five calls, and submitting again tries again.
# Why it matters: five samples at temperature 1 are one sample, votes among answers are
# unanimous, and a loop that tries again after a 429 never sends a request.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dask==2026.8.0 distributed==2026.8.0
cat >"$folder/finding.py" <<'PYTHON'
import logging
import sys
from pathlib import Path

import dask
from dask.distributed import Client, LocalCluster

LOG = Path(__file__).with_name("calls.txt")


def ask(prompt):
    with LOG.open("a") as file:
        file.write("x")
    return f"{prompt}: answer {LOG.stat().st_size}"


def fail(prompt):
    ask(prompt)
    raise ConnectionError("429")


def count(work):
    LOG.write_text("")
    result = work()
    return LOG.stat().st_size, result


def twice(client):
    first = client.submit(fail, "a joke")
    second_error = None
    try:
        first.result()
    except ConnectionError:
        try:
            client.submit(fail, "a joke").result()
        except ConnectionError as error:
            second_error = str(error)
    return second_error


def main():
    print("dask", dask.__version__)
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        prompts = ["a joke"] * 5
        mapped, answers = count(lambda: client.gather(client.map(ask, prompts)))
        impure, _ = count(lambda: client.gather(client.map(ask, prompts, pure=False)))
        retried, error = count(lambda: twice(client))
        delayed = [dask.delayed(ask)(prompt) for prompt in prompts]
        lazy, _ = count(lambda: dask.compute(*delayed))
    print(f"map of five equal prompts: {mapped} call, answers {answers}")
    print(f"the same with pure=False: {impure} calls; with dask.delayed: {lazy} calls")
    print(f"a failed call submitted again: {retried} call in all, the second raised {error!r}")
    right = (mapped, impure, lazy, retried, error) == (1, 5, 5, 1, "429")
    return None if right else "This no longer holds."


if __name__ == "__main__":
    sys.exit(main())
PYTHON
cd "$folder"
"$folder/venv/bin/python" finding.py
