"""Programs that end with something unfinished say nothing about it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from langchain_nscale.testing import NscaleServer, ServerReply

HEAD = """
import asyncio, sys
from langchain_nscale import ChatNscale
model = ChatNscale(model="m", base_url=sys.argv[1], service_token=sys.argv[2])
"""
PROGRAMS = {
    "a stream": "stream = model.stream('Hi'); next(stream)",
    "events": "events = iter(model.stream_events('Hi', version='v3')); next(events)",
    "an async stream": """
async def main():
    global stream
    stream = model.astream("Hi")
    await anext(stream)
asyncio.run(main())
""",
    "an async stream, on a loop that nobody closes": """
async def main():
    global stream
    stream = model.astream("Hi")
    await anext(stream)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
""",
    "async events": """
async def main():
    global stream
    stream = await model.astream_events("Hi", version="v3")
    async for _ in stream:
        break
asyncio.run(main())
""",
    "loops in loops": """
import nest_asyncio2
nest_asyncio2.apply()
async def main():
    model.invoke("Hi")
    asyncio.get_running_loop().run_until_complete(model.ainvoke("Hi"))
    assert [chunk async for chunk in model.astream("Hi")]
for _ in range(2):
    asyncio.run(main())
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_nothing_is_said_at_the_end(server: NscaleServer, program: str) -> None:
    if "nest_asyncio2" in program:
        pytest.importorskip("nest_asyncio2", reason="it is not installed")
    server.add(*[ServerReply(text="a b c d e f", pause=0.01)] * 6)
    # Python itself warns about a loop that is not closed.
    flags = [] if "new_event_loop" in program else ["-X", "dev", "-W", "error"]
    command = [sys.executable, *flags, "-c", HEAD + program]
    run = subprocess.run(  # noqa: S603  # our own program
        [*command, server.base_url, server.token],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [
        line
        for line in (run.stdout + run.stderr).splitlines()
        # asyncio's remarks on a slow machine, and langchain-core's on its own methods.
        if not line.startswith(("Executing <", "  ")) and "is in beta" not in line
    ]
    assert said == []
