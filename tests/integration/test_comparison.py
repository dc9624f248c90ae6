"""ChatNscale passes every check of the comparison in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from langchain_nscale.testing import NscaleServer
from tests.compare.__main__ import CLIENTS, Maker
from tests.compare.features import ELSEWHERE, FEATURES, TOKEN

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("label", sorted(FEATURES.keys() - ELSEWHERE))
def test_a_row(label: str) -> None:
    with NscaleServer(token=TOKEN) as server:
        FEATURES[label](server, Maker("ChatNscale", server.base_url))


def test_the_page_has_every_row_and_client() -> None:
    page = Path("docs/comparison.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[2:]] == list(FEATURES)
    assert rows[0][1:] == [*list(CLIENTS)[:-1], f"{list(CLIENTS)[-1]} |"]
    own = [row[1] for row in rows[2:]]
    assert own == ["-" if label in ELSEWHERE else "yes" for label in FEATURES]
    alone = [row for row in rows[2:] if "yes" not in " ".join(row[2:])]
    assert len(alone) >= 8  # as the page claims
