"""`make soak`: load, faults, cancellations and kills, for an hour.

20,000 calls to a server that fails at random; mixed work for 20 minutes; streams that are
cancelled; batches that are killed; and thousands of streams at once over TLS, next to
ChatOpenAI.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.soak import cancellations, kills, mixed, streams
from tests.soak.soak import soak


def main() -> None:
    """Run and print; the exit code is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--cancelled", type=int, default=10_000, help="on each loop")
    parser.add_argument("--mixed", type=float, default=1200, help="seconds of mixed work")
    parser.add_argument("--batches", type=int, default=30, help="of 3,000 lines")
    parser.add_argument("--seconds", type=float, default=180, help="for each load")
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
    is_bad = any(
        (report.hangs, len(report.wrong), report.leaked_files, report.leaked_tasks)
    )
    if options.mixed:
        is_bad |= mixed.report(options.mixed, options.seed)
    if options.cancelled:
        is_bad |= cancellations.report(options.cancelled, options.seed)
    if options.batches:
        is_bad |= kills.report(options.batches, 3000, options.seed)
    if options.seconds:
        is_bad |= streams.report(options.seconds)
    sys.exit(is_bad)


if __name__ == "__main__":
    main()
