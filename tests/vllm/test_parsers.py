"""Tool calls in the forms of other models, each with the engine's own parser for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_chat import WAYS, consume
from tests.unit.recordings import FOLDER
from tests.vllm.engine import Engine, running
from tests.vllm.environment import VERSION
from tests.vllm.record import request_of
from tests.vllm.test_tools import TOOLS, calls_of

RECORDED = FOLDER / "0.21.0-parsers"
PARSERS = sorted(folder.name for folder in RECORDED.iterdir())
PARIS = ("get_weather", {"city": "Paris"})
EXPECTED = {
    "one": [PARIS],
    "two": [PARIS, ("get_time", {"zone": "UTC"})],
    "no_arguments": [("get_weather", {})],
}
LONGEST = 60  # tokens of one call, in the wordiest form


@pytest.fixture(scope="module", params=PARSERS)
def parser(request: pytest.FixtureRequest) -> Iterator[tuple[str, Engine]]:
    """A parser, and an engine that uses it."""
    options = ("--enable-auto-tool-choice", "--tool-call-parser", request.param)
    with running(*options) as engine:
        yield request.param, engine


def question(parser: str, name: str) -> str:
    """Return what makes the engine say a call in the form of a parser."""
    request = request_of(RECORDED / parser / f"{name}.txt")
    assert request is not None
    text = str(json.loads(request[2])["messages"][0]["content"])
    if parser == "glm45" and VERSION != "0.21.0":
        # 0.32.0 has a grammar for these calls, in which no line breaks are allowed.
        text = text.replace("\n", "")
    return text


@WAYS
@pytest.mark.parametrize("name", EXPECTED)
async def test_calls(parser: tuple[str, Engine], way: str, name: str) -> None:
    kind, engine = parser
    model = engine.chat(max_tokens=200).bind_tools(TOOLS)
    message = await consume(model, question(kind, name), way)
    assert calls_of(message) == EXPECTED[name]
    assert message.invalid_tool_calls == []
    ids = [call["id"] for call in message.tool_calls]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("way", ["invoke", "stream"])
async def test_a_call_that_is_cut_is_never_executable(
    parser: tuple[str, Engine], way: str
) -> None:
    """Cut at every token, from the first to the last."""
    kind, engine = parser
    seen: Any = None
    for limit in range(1, LONGEST):
        model = engine.chat(max_tokens=limit).bind_tools(TOOLS)
        message = await consume(model, question(kind, "one"), way)
        assert message.usage_metadata is not None
        if message.usage_metadata["output_tokens"] < limit:
            seen = calls_of(message)
            break
        assert message.tool_calls == []
    assert seen == [PARIS]
