"""`python -m tests.vllm.overhead`: CPU per token streamed by the real engine.

Streams of 200 tokens, the clients in turns; medians and the least.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from langchain_openai import ChatOpenAI

from tests.vllm.engine import KEY, Engine, running

ROUNDS = 9
TOKENS = 200
PROMPT = "[[say: " + "word " * (TOKENS - 1) + "]]"


def raw(engine: Engine) -> Callable[[], None]:
    """Return the least that a client can do: read lines and decode them."""
    body = {
        "model": "smol",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", engine.port)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        path = "/v1/chat/completions"
        connection.request("POST", path, json.dumps(body), headers)
        reply = connection.getresponse()
        while line := reply.readline():
            if line.startswith(b"data: {"):
                json.loads(line[6:])

    return run


def streamed(model: Any) -> Callable[[], None]:
    """Return a stream that is read to its end."""

    def run() -> None:
        for _ in model.stream(PROMPT):
            pass

    return run


def main() -> None:
    """Measure and print a table."""
    with running() as engine:
        openai = ChatOpenAI(
            model="smol",
            base_url=engine.base_url,
            api_key=KEY,
            max_tokens=TOKENS,
            stream_usage=True,
        )
        runs = {
            "http.client and json": raw(engine),
            "ChatNscale": streamed(engine.chat(max_tokens=TOKENS)),
            "ChatOpenAI": streamed(openai),
        }
        seen: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(ROUNDS + 2):
            for name, run in runs.items():
                start = time.process_time()
                run()
                if turn > 1:  # the first ones import and connect
                    seen[name].append((time.process_time() - start) / TOKENS * 1e6)
    for name, costs in seen.items():
        median, least = statistics.median(costs), min(costs)
        print(f"{name:22} {median:6.0f} µs per token (least {least:.0f})")


if __name__ == "__main__":
    main()
