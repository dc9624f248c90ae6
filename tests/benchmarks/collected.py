"""`python -m tests.benchmarks.collected`: what garbage collection costs in long streams.

LangChain keeps the chunks of a stream until its end. Each is ten objects that the collector
counts: message and generation, the `__dict__` of both, three lists and three dicts, which
users can change, so that none of them can be shared. After 84,700 of them that are still
there (the thresholds of CPython 3.11 multiplied), it visits all objects of the process. So
its cost per token follows from the ten objects and from the size of the program, and not
from what the package does. Streams that are four times as long are also more than four
times as expensive: a short one ends before the collector gets that far.

Prints µs of CPU per token, with the collector and without it: ChatNscale, a model of
langchain-core that makes its chunks in the plain way, and the bare objects alone.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from tests.benchmarks.client import Bench, drain
from tests.loopback import running

ROUNDS = 6
SIZES = (2_000, 8_000)


class Bare:
    """An object with a `__dict__` that is given to it, as pydantic does."""


def bare(count: int) -> list[Any]:
    """Return as many objects as chunks consist of, kept until the end."""
    kept = []
    for _ in range(count):
        message, generation = Bare(), Bare()
        extra: dict[str, Any] = {}
        message.__dict__ = {"text": " token", "a": [], "b": [], "c": [], "d": {}, "e": {}}
        generation.__dict__ = {"message": message, "extra": extra}
        kept.append(generation)
    return kept


def plain_model() -> Any:
    """Return a model that makes chunks with langchain-core's own constructors."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk, ChatResult

    class Model(BaseChatModel):
        length: int = 0

        @property
        def _llm_type(self) -> str:
            return "plain"

        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            return ChatResult(generations=[])

        def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
            yield from (
                ChatGenerationChunk(message=AIMessageChunk(content=" token"))
                for _ in range(self.length)
            )

    return Model


def cost(work: Callable[[], object], tokens: int) -> tuple[float, float]:
    """Return the CPU seconds of a token with the collector, and without it."""
    seconds = []
    for is_on in (True, False):
        gc.collect()
        (gc.enable if is_on else gc.disable)()
        start = time.process_time()
        for _ in range(ROUNDS * SIZES[-1] // tokens):
            work()
        seconds.append((time.process_time() - start) / (ROUNDS * SIZES[-1]))
    gc.enable()
    return seconds[0], seconds[1]


def main() -> None:
    for package in ("langgraph.graph", "langchain_openai"):  # as a real program has them
        import_module(package)
    with running("tests.benchmarks.server", tls=False) as url:
        bench = Bench("ChatNscale", url)
        plain = plain_model()
        for size in SIZES:
            ours, theirs = bench.make(f"text-{size}"), plain(length=size)
            rows: dict[str, Callable[[], object]] = {
                "ChatNscale": lambda: drain(ours.stream("Hi")),  # noqa: B023
                "langchain-core's own chunks": lambda: drain(theirs.stream("Hi")),  # noqa: B023
                "bare objects": lambda: bare(size),  # noqa: B023
            }
            for name, work in rows.items():
                work()
                with_it, without = (seconds * 1e6 for seconds in cost(work, size))
                print(
                    f"{name}, streams of {size:,}: {with_it:.1f} µs a token, "
                    f"{without:.1f} without collection: {with_it - without:.1f} of it"
                )


if __name__ == "__main__":
    main()
