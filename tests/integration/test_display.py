"""Each part of an answer is shown once, on terminals of any size and on busy machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.terminal import Terminal

pytestmark = pytest.mark.usefixtures("to_server")

# Stands for a busy machine: importing pygments, which the first code block needs, takes a
# second, in which rich's refresh thread used to draw.
SLOW_IMPORT = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "pygments":
            time.sleep(1)

sys.meta_path.insert(0, Slow())
"""
CODE = "```python\nprint('code')\n```\n"
LIST = "Intro:\n\n- apples\n- pears\n- plums\n\n"
TABLE = "| fruit | price |\n|---|---|\n| apples | 1 |\n| pears | 2 |\n\n"
ANSWERS = {
    "a list": LIST + CODE,
    "a table": TABLE + CODE,
    "a paragraph": "These are apples and pears.\n\n" + CODE,
    "more than the screen": LIST + "\n\n".join(map(str, range(60))) + "\n\n" + CODE,
    "code in the middle": f"{LIST}{CODE}\nThe end of it.",
}
SIZES = [(80, 24), (40, 10), (200, 40)]


@pytest.fixture
def slow_import(tmp_path: Path) -> str:
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT)
    return os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])


@pytest.mark.parametrize(("columns", "height"), SIZES)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_every_part_is_shown_once(
    server: NscaleServer, slow_import: str, answer: str, columns: int, height: int
) -> None:
    server.add(ServerReply(text=answer))
    size = {"columns": columns, "height": height}
    with Terminal("chat", "--no-log", "Hi", **size, PYTHONPATH=slow_import) as terminal:  # type: ignore[arg-type]  # sizes
        assert terminal.end() == 0
        shown = terminal.lines()
    for part in ("apples", "pears", "code"):
        assert sum(part in line for line in shown) == answer.count(part), shown


def test_what_has_arrived_is_shown_before_the_rest_arrives(server: NscaleServer) -> None:
    server.add(ServerReply(text="one two three four", stall_after=4))
    with Terminal("chat", "--no-log", "Hi") as terminal:
        terminal.expect("one two three")
