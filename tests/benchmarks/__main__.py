"""`make bench`: CPU time of LangChain's chat clients against one loopback server.

Each client runs in a process of its own, several rounds alternating, medians. Ratios are
what counts: machines differ and are shared. Then follow the rows of `pairs.py` and a table
of everything that has a goal. Without arguments that takes a quarter of an hour on two
idle cores; `--all` measures every client and every part, which takes hours.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import langchain_nscale
from tests.benchmarks.client import CLIENTS, PLAIN
from tests.benchmarks.goals import BASE, EARLIER, Figures, Pairs, goals
from tests.benchmarks.pairs import compare
from tests.benchmarks.worker import PARTS, PATIENCE
from tests.loopback import CERTIFICATE, running

# Work -> at most so many times ChatOpenAI.
BOUNDS = {
    "stream, text": 0.17,
    "astream, text": 0.15,
    "stream, reasoning": 0.25,
    "astream, reasoning": 0.25,
    "stream, tools": 0.25,
    "astream, tools": 0.25,
    "events v3": 0.5,
    "events v3, sync": 0.5,
    "invoke": 0.5,
    "ainvoke, 200 at once": 0.5,
    "first construction": 1.0,
    "hundredth construction": 1.0,
    "import": 0.70,
    "embed 10,000 texts": 0.5,
    "aembed 10,000 texts": 0.5,
    "peak memory, 1,000 streams (MiB)": 0.8,
}
# What runs without `--all`: the clients and the parts that a goal names.
USUAL = ("floor", "core", "plain", "InferenceClient", "sdk", "ChatNscale", "ChatOpenAI")
SHORT = tuple(part for part in PARTS if part not in ("memory", "embeddings", "held"))
_ROWS = f"^({'|'.join(map(re.escape, EARLIER))})$"
LINEAR = (
    ("stream, text", "stream, text, twice as long", 1.0),
    ("ainvoke, 200 at once", "ainvoke, 400 at once", 1.0),
    ("history of 200 messages", "history of 400 messages", 2.0),
)


def measure(
    rounds: int, clients: list[str], parts: list[str]
) -> tuple[Figures, dict[str, str]]:
    """Run all clients; return medians by work and client, and what failed."""
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name in clients:
            for part in parts:
                for label, value in figures_of(name, part).items():
                    if isinstance(value, str):
                        failed[f"{name}, {label}"] = value
                    else:
                        seen[label, name].append(value)
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
    medians: Figures = defaultdict(dict)
    for (label, name), values in seen.items():
        medians[label][name] = median(values)
    return medians, failed


def figures_of(name: str, part: str) -> dict[str, float | str]:
    """Do one part of the work with one client, with processes for it and its server."""
    with running("tests.benchmarks.server", tls=part == "tls") as url:
        command = [sys.executable, "-m", "tests.benchmarks.worker", name, part, url]
        try:
            done = subprocess.run(  # our own code
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
                env={**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)},
            )
        except subprocess.TimeoutExpired as late:
            where = (late.stderr or b"").decode().strip().splitlines()[:2]
            return {f"failed in {part}": f"over {PATIENCE} s: {where}"}
    figures: dict[str, float | str] = json.loads(done.stdout or "{}")
    if done.returncode:
        figures["failed"] = done.stderr.strip().splitlines()[-1]
    return figures


def shown(label: str, value: float) -> str:
    if "iB" in label or "(count)" in label:
        return f"{value:.0f}"
    if "(share)" in label:
        return f"{value:.2f}"
    return f"{value * 1e6:.1f}" if value < 0.01 else f"{value * 1e3:.1f} ms"


def table(figures: Figures, clients: list[str]) -> str:
    """A Markdown table: µs (or as said) of CPU, and ratios of ChatNscale."""
    columns = ["work", *clients, "÷ ChatOpenAI", "÷ (floor + core)", "at most", "ok"]
    rows = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for label, by_client in figures.items():
        cells = [shown(label, by_client[c]) if c in by_client else "-" for c in clients]
        own = by_client.get("ChatNscale")
        peer = by_client.get("ChatOpenAI")
        plain = [value for name, value in by_client.items() if name in PLAIN]
        floor = min(plain, default=0) + by_client.get("core", 0)
        ratio = own / peer if own and peer else None
        bound = BOUNDS.get(label)
        best = own is not None and all(
            own <= value for name, value in by_client.items() if name.startswith("Chat")
        )
        verdict = "yes" if best else "not the fastest"
        if ratio is None or "(count)" in label:  # a client that waits opens fewer
            verdict = "-"
        if bound and ratio and ratio > bound:
            verdict = "NO"
        cells += [
            f"{ratio:.2f}" if ratio else "-",
            f"{own / floor:.2f}" if own and floor else "-",
            f"{bound}" if bound else "-",
            verdict,
        ]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def growth(figures: Figures) -> list[str]:
    """How each linear cost of ChatNscale grows when its size doubles."""
    lines = []
    for small, large, factor in LINEAR:
        once, twice = (figures[label].get("ChatNscale") for label in (small, large))
        if once and twice:
            grown = twice / once / factor
            lines.append(f"{large}: {grown:.2f} of linear (0.9 to 1.1 wanted)")
    return lines


def main() -> None:
    """Measure, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clients", nargs="*")
    parser.add_argument("--parts", nargs="*")
    parser.add_argument("--all", action="store_true", help="every client and part")
    parser.add_argument("--pairs", type=int, default=7, help="with the earlier commit")
    parser.add_argument("--rows", default=_ROWS, help="of the pairs; see pairs.py")
    parser.add_argument("--json", type=Path, default=Path("bench-result.json"))
    options = parser.parse_args()
    clients = options.clients or list(CLIENTS if options.all else USUAL)
    parts = options.parts or list(PARTS if options.all else SHORT)
    # As pip does for the other packages.
    compileall.compile_dir(Path(langchain_nscale.__file__).parent, quiet=1)
    figures, failed = measure(options.rounds, clients, parts)
    print(
        f"µs of CPU per call or chunk; {platform.python_version()}, {platform.machine()}"
    )
    print(table(figures, clients))
    print("\n".join(growth(figures)))
    for what, why in failed.items():
        print(f"{what}: {why}")
    pairs: Pairs = {}
    if options.pairs:
        pairs, _ = compare(BASE, options.pairs, batches=1, rows=options.rows)
    print(goals(figures, pairs), flush=True)
    result: dict[str, Any] = {"figures": figures, "failed": failed, "pairs": pairs}
    options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
