#!/usr/bin/env bash
# Ray: arrays that a task returns can't be written to, however small, also inside lists and dicts.
# `vector /= norm(vector)`, the usual normalization, raises "output array is read-only", and the same code
# works with Dask, a process pool, or without a cluster.
#
# Guess: normalizing in place works, as it does elsewhere.
# Why it matters: a pipeline of embeddings fails after it has paid for all of them, in the last step,
# and only on the cluster.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    ray==2.60.0 numpy==2.4.6 dask==2026.8.0 distributed==2026.8.0
cat >"$folder/finding.py" <<'PYTHON'
import logging
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy
import ray
from dask.distributed import Client, LocalCluster


def embed(size):
    return {"vectors": [numpy.ones(size, dtype=numpy.float32)]}


def normalized(result):
    vector = result["vectors"][0]
    try:
        vector /= numpy.linalg.norm(vector)
    except ValueError as error:
        return str(error)
    return "normalized"


def with_ray(sizes):
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    remote = ray.remote(embed)
    results = [normalized(ray.get(remote.remote(size))) for size in sizes]
    ray.shutdown()
    return results


def with_dask(sizes):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        return [normalized(client.submit(embed, size).result()) for size in sizes]


def with_processes(sizes):
    with ProcessPoolExecutor(1) as pool:
        return [normalized(pool.submit(embed, size).result()) for size in sizes]


def main():
    sizes = (3, 384, 200_000)
    print("ray", ray.__version__, "numpy", numpy.__version__)
    seen = {
        "processes": with_processes(sizes), "Dask": with_dask(sizes), "Ray": with_ray(sizes)
    }
    for name, results in seen.items():
        print(f"{name}: vectors of {sizes}: {results}")
    holds = set(seen["Ray"]) == {"output array is read-only"}
    holds &= set(seen["processes"] + seen["Dask"]) == {"normalized"}
    return None if holds else "This no longer holds."


if __name__ == "__main__":
    sys.exit(main())
PYTHON
cd "$folder"
"$folder/venv/bin/python" finding.py
