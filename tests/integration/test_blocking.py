"""Nothing blocks an event loop: no import, no file, no wait.

Each program runs in an interpreter of its own: what has happened once in a process does
not happen again.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from langchain_nscale.testing import NscaleServer, ServerReply

pytest.importorskip("blockbuster")

HEAD = """
import asyncio, sys, threading, time
from blockbuster import blockbuster_ctx
OURS = ("langchain_nscale", "httpx2", "httpcore2", "h11", "h2", "anyio", "ssl", "certifi",
        "truststore", "openai", "langchain_openai")
loop_thread, late = [], []
def note(event, args):
    if event == "import" and threading.get_ident() in loop_thread:
        if args[0].partition(".")[0] in OURS:
            late.append(args[0])
sys.addaudithook(note)
def run(main):
    async def watched():
        loop_thread.append(threading.get_ident())
        with blockbuster_ctx():
            await main()
        loop_thread.clear()
    asyncio.run(watched())
    assert late == [], late
"""
MODELS = """
from langchain_nscale import ChatNscale, NscaleEmbeddings, NscaleError
settings = {"model": "m", "base_url": sys.argv[1], "service_token": sys.argv[2],
            "max_retries": 0}
model, embeddings = ChatNscale(**settings), NscaleEmbeddings(**settings)
"""
CALLS = {
    "call": "await model.ainvoke('Hi')",
    "stream": "assert [chunk async for chunk in model.astream('Hi')]",
    "events": """
        stream = await model.astream_events('Hi', version='v3')
        assert [event async for event in stream]""",
    "structured output": """
        chain = model.with_structured_output({"title": "t", "type": "object"})
        await chain.ainvoke('{}')""",
    "tools": "await model.bind_tools([{'name': 'f'}]).ainvoke('Hi')",
    "tokens": "model.get_num_tokens('Hi')",
    "embeddings": "await embeddings.aembed_documents(['a', 'b'])",
    "models": "await model.alist_models()",
    "error": """
        try:
            await model.ainvoke('fail')
        except NscaleError as error:
            assert error.status_code == 429
        else:
            raise AssertionError""",
    "unknown model": """
        try:
            await model.ainvoke('Hi', model='unknown')
        except NscaleError as error:
            assert error.status_code == 404
        else:
            raise AssertionError""",
    "lost connection": """
        model.base_url = 'http://127.0.0.1:9/v1'
        try:
            await model.ainvoke('Hi')
        except NscaleError as error:
            assert error.status_code is None
        else:
            raise AssertionError""",
}
IMPORT = """
import httpcore2, httpx2, langchain_core.language_models.chat_models
async def main():
    from langchain_nscale import ChatNscale, NscaleEmbeddings, list_models
OURS = ()
run(main)
"""
FIRST_ERROR = """
from langchain_core.messages import HumanMessage
async def main():
    await model.ainvoke("Hi")
    costs = []
    for _ in range(2):
        start = time.thread_time()
        try:
            await model.ainvoke("fail")
        except NscaleError:
            costs.append(time.thread_time() - start)
    assert costs[0] < 5 * costs[1], costs  # 2 or 3 times as much, on any machine
asyncio.run(main())
"""


def respond(request: object) -> ServerReply:
    text = str(request)
    if "unknown" in text:
        return ServerReply.error(404, "no such model")
    return ServerReply.error(429, "busy") if "fail" in text else ServerReply(text="{}")


def run(program: str) -> str:
    with NscaleServer(responder=respond) as server:
        command = [sys.executable, "-c", HEAD + program, server.base_url, server.token]
        done = subprocess.run(  # noqa: S603  # our own program
            command, capture_output=True, text=True, timeout=60, check=False
        )
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_first_call_does_not_block(call: str) -> None:
    assert (
        run(f"{MODELS}\nasync def main():\n    if True:\n        {call}\nrun(main)") == ""
    )


def test_the_import_does_not_block() -> None:
    assert run(IMPORT) == ""


def test_the_first_error_costs_no_more_than_the_second() -> None:
    # A busy machine may interrupt one of the two, but not the same one each time.
    assert "" in (run(MODELS + FIRST_ERROR) for _ in range(3))
