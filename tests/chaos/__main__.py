"""`make chaos`: 1,000 calls to each of two servers that fail at random.

llmock (Python) and aimock (Node) are written by others and break replies in their own
ways. No answer may be truncated in silence, every error has to be an `NscaleError`, and
no call may fail before its first token, except for replies that were unusable twice.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langchain_nscale import ChatNscale, NscaleError

CALLS = 1000
AT_ONCE = 50
STARTUP_SECONDS = 60
TEXT = " ".join(f"word{number}" for number in range(60))
LLMOCK = [
    *("--error-rate", "503=0.05", "--error-rate", "429=0.03", "--error-rate", "500=0.03"),
    *("--stream-fault", "truncate=0.05", "--stream-fault", "disconnect=0.05"),
    *("--stream-fault", "malformed=0.03", "--stream-fault", "stall=0.01"),
    *("--stream-stall-seconds", "2", "--log-level", "error"),
]
_WRONG = ("UNTYPED", "TRUNCATED", "BEFORE")
AIMOCK = [
    *("--chaos-drop", "0.05", "--chaos-malformed", "0.05"),
    *("--chaos-disconnect", "0.05", "--chaos-ratelimit", "0.02"),
    *("--log-level", "silent"),
]


@contextmanager
def running(command: list[str]) -> Iterator[int]:
    """Run a server; yield its port once it accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, "--port", str(port)])  # noqa: S603  # our own
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > deadline:
                msg = f"{command[0]} did not start"
                raise RuntimeError(msg)
            time.sleep(0.2)  # it offers nothing to wait for
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def outcome(model: ChatNscale, expected: str, number: int) -> str:
    """Call the model, every other time with a stream; return what came of it."""
    question = f"Say it. ({number})"  # llmock tells calls apart by their text
    try:
        if number % 2:
            text = "".join([chunk.text async for chunk in model.astream(question)])
        else:
            text = (await model.ainvoke(question)).text
    except NscaleError as error:
        name = type(error).__name__
        if name == "NscaleMalformedResponseError" and error.retries and not number % 2:
            return f"{name} twice"  # each reply was paid for
        # Before the first token, a request is repeated until it succeeds.
        when = "after" if error.partial is not None else "BEFORE"
        return f"{name} {when} the first token"
    except Exception as error:  # noqa: BLE001  # this is what must not happen
        return f"UNTYPED {type(error).__name__}: {error}"
    return "complete" if text == expected else f"TRUNCATED to {len(text)} characters"


async def calls(port: int, expected: str | None) -> Counter[str]:
    """Make all calls; count the outcomes."""
    model = ChatNscale(
        model="gpt-4o",
        base_url=f"http://127.0.0.1:{port}/v1",
        service_token="any-token",
        max_retries=8,
        stream_chunk_timeout=1.0,
    )
    if expected is None:
        expected = await faultless(model)
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        async with semaphore:
            return await outcome(model, expected, number)

    return Counter(await asyncio.gather(*map(one, range(CALLS))))


async def faultless(model: ChatNscale) -> str:
    """Return the answer that the server always gives; whole replies are not cut."""
    return (await model.ainvoke("Say it.")).text


def report(name: str, counts: Counter[str]) -> bool:
    """Print the outcomes; return whether they are as they should be."""
    print(f"{name}: {dict(counts.most_common())}")
    return not any(word in key for key in counts for word in _WRONG)


def main() -> int:
    """Run both servers; return the exit code."""
    llmock = str(Path(sys.executable).with_name("llmock"))
    with running([llmock, "serve", "--response-style", "static", *LLMOCK]) as port:
        passed = report("llmock", asyncio.run(calls(port, None)))
        url = f"http://127.0.0.1:{port}"
        verdict = [llmock, "report", "--json", "--url", url]
        shown = subprocess.run(verdict, capture_output=True, text=True, check=False)  # noqa: S603
        findings = json.loads(shown.stdout)["findings"]
        kinds = Counter(finding["code"] for finding in findings)
        # It does not see that a client raises an error with what it has received.
        print(f"llmock's own findings: {dict(kinds)}")
    with tempfile.TemporaryDirectory() as folder:
        fixtures = Path(folder) / "fixtures.json"
        fixture = {"match": {"userMessage": "Say it."}, "response": {"content": TEXT}}
        fixtures.write_text(json.dumps({"fixtures": [fixture]}))
        command = ["node_modules/.bin/llmock", "--fixtures", str(fixtures), *AIMOCK]
        with running([sys.argv[1] + "/" + command[0], *command[1:]]) as port:
            passed &= report("aimock", asyncio.run(calls(port, TEXT)))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
