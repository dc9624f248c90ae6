#!/usr/bin/env bash
# Dask: a column that is computed by a function (`frame["text"].map(ask)`) calls the function at once,
# in this process, with a made-up text "a" and a missing value, to find out what type it returns.
# With a model inside these are two requests that nobody wrote, for each such column, before
# anything is computed. `meta=("answer", "str")` prevents it.
#
# Guess: a lazy frame calls nothing before `compute()`, and then once a row.
# Why it matters: bills and logs have prompts that are not in the data, the client is made in the
# wrong process, and a missing token fails where nothing runs yet.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dask==2026.8.0 pandas==3.1.1 pyarrow==26.0.1
cat >"$folder/finding.py" <<'PYTHON'
import sys

import dask
import dask.dataframe
import pandas

prompts = []


def ask(prompt):
    prompts.append(prompt)
    return f"answer to {prompt}"


dask.config.set(scheduler="synchronous")
table = pandas.DataFrame({"text": ["one", "two", "three"]})
frame = dask.dataframe.from_pandas(table, npartitions=1)
print(f"dask {dask.__version__}, pandas {pandas.__version__}; the data: one, two, three")

answers = frame["text"].map(ask)
before = list(prompts)
print("asked when the column is declared:", before)
prompts.clear()
answers.compute()
print("asked by compute():", prompts)
computed = list(prompts)

prompts.clear()
with_meta = frame["text"].map(ask, meta=("answer", "str"))
print("asked with `meta`, when it is declared:", prompts)
holds = before[0] == "a" and len(before) == 2 and before[1] is pandas.NA
holds &= computed == ["one", "two", "three"] and not prompts
sys.exit(None if holds else "This no longer holds.")
PYTHON
cd "$folder"
"$folder/venv/bin/python" finding.py
