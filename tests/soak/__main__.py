"""`make soak`: 20,000 calls, 200 at a time."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.soak.soak import soak


def main() -> None:
    """Run and print; the exit code is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    logging.disable()
    started = time.monotonic()
    report = soak(options.calls, options.at_once, options.seed)
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s")
    print(f"calls: {options.calls}, complete: {report.complete}")
    print(f"faults injected: {dict(report.faults)}")
    print(f"typed errors: {dict(report.errors)}")
    print(f"hangs: {report.hangs}, wrong: {len(report.wrong)}")
    print(f"leaked files: {report.leaked_files}, tasks: {report.leaked_tasks}")
    for what in report.wrong[:20]:
        print(what)
    bad = (report.hangs, len(report.wrong), report.leaked_files, report.leaked_tasks)
    sys.exit(any(bad))


if __name__ == "__main__":
    main()
