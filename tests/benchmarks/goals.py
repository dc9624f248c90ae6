"""What the rows of `make bench` have to reach, as one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.pairs import interval

Figures = dict[str, dict[str, float]]  # work -> client -> median
Pairs = dict[str, list[tuple[float, float]]]  # row -> CPU seconds of base and of now

OPENAI = "ChatOpenAI"
BASE = "cad9ec6"  # the commit before the clients that send without httpx2


@dataclass(frozen=True)
class Goal:
    """A row of ChatNscale divided by something else.

    Attributes:
        work: The row.
        than: The client whose same row it is divided by.
        row: The other row that it is divided by.
        at_most: The goal.
    """

    work: str
    at_most: float
    than: str = OPENAI
    row: str = ""


def _beside_plain_clients() -> Iterator[Goal]:
    names = ("floor", "InferenceClient", "sdk")
    for work in ("invoke", "ainvoke", "ainvoke, 200 at once"):
        yield from (Goal(work, 1.0, than=name) for name in names)


PEERS = (
    Goal("bind_tools of 20 tools", 0.5),
    Goal("bind_tools of 20 functions", 0.5),
    Goal("bind_tools of 20 dicts", 2.0),
    Goal("bind_tools of a class", 0.5),
    Goal("agent with 20 tools, a round", 0.3),
    Goal("with_structured_output()", 0.5),
    Goal("include_raw, a call", 0.3),
    Goal("object of 32 KB, streamed", 4.2, row="object of 8 KB, streamed"),
    Goal(
        "object of 32 KB, without collection",
        4.2,
        row="object of 8 KB, without collection",
    ),
    Goal("collection in a token (share)", 0.25, than=""),
    Goal("cold start, command line", 0.25, row="cold start, llm -n"),
    Goal("embed 100,000 texts into numpy", 0.35),
    *_beside_plain_clients(),
)
# Divided by the same row of the commit `BASE`.
EARLIER = {
    "import": 1.05,
    "construction": 1.05,
    "start of batch": 0.6,
    "first stream after the import": 0.65,
    "invoke": 0.55,
    "ainvoke": 0.45,
    "ainvoke, 200 at once": 0.32,
    "64 threads": 0.5,
    "stream, a token": 1.05,
    "astream, a token": 1.05,
    "stream, a token alone": 0.55,
    "astream, a token alone": 0.55,
    "TLS, ainvoke": 1.0,
    "TLS, streams in a row": 1.0,
    "100 paced streams, a token": 0.45,
    "TLS, 100 paced streams, a token": 0.45,
    "1,000 paced streams, a token": 0.45,
    "TLS, 1,000 paced streams, a token": 0.45,
    "an open stream of 1,000 (KiB)": 0.92,
    "TLS, an open stream of 1,000 (KiB)": 0.92,
}


def _ratio(goal: Goal, figures: Figures) -> tuple[str, float | None]:
    own = figures.get(goal.work, {}).get("ChatNscale")
    if goal.row:
        beside = goal.row
        other = figures.get(goal.row, {}).get("ChatNscale")
    else:
        beside = {"floor": "httpx2 alone", "sdk": "the OpenAI SDK"}.get(
            goal.than, goal.than
        )
        other = figures.get(goal.work, {}).get(goal.than) if goal.than else 1.0
    return beside or "-", own / other if own and other else None


def goals(figures: Figures, pairs: Pairs) -> str:
    """Return a Markdown table of all rows with a goal."""
    rows = ["| row | divided by | ratio | goal | ok |", "|" + " --- |" * 5]
    for goal in PEERS:
        beside, ratio = _ratio(goal, figures)
        shown = "-" if ratio is None else f"{ratio:.2f}"
        ok = "-" if ratio is None else "yes" if round(ratio, 2) <= goal.at_most else "NO"
        rows.append(f"| {goal.work} | {beside} | {shown} | {goal.at_most} | {ok} |")
    for row, at_most in EARLIER.items():
        ratios = [now / base for base, now in pairs.get(row, [])]
        shown, ok = "-", "-"
        if ratios:
            low, high = interval(ratios)
            shown = f"{median(ratios):.3f} ({low:.3f} to {high:.3f})"
            ok = "yes" if round(median(ratios), 2) <= at_most else "NO"
        rows.append(f"| {row} | {BASE} | {shown} | {at_most} | {ok} |")
    return "\n".join(rows)
