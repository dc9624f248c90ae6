"""Work under the conditions of production: TLS, cold starts, threads, long agents."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.client import (
    EMBEDDINGS,
    PLAIN,
    Bench,
    adrain,
    drain,
    fifty_tools,
    hidden,
    import_line,
    per_unit,
)

TEXTS = 100_000
ROUNDS = 100  # of an agent
ROUNDS_WITH_TOOLS = 30  # of an agent with 20 tools
FIELDS = 40  # of a structured answer, 50 characters each
LARGE = {"8 KB": 160, "32 KB": 640}
LLM = str(Path(__file__).parents[2] / ".venv-bench-llm" / "bin")
# Clients whose processes are measured from their start.
STARTED = {"ChatNscale", "ChatOpenAI", "ChatOpenRouter", "ChatGroq", "ChatFireworks"}
SCRIPT = """
import os
{hidden}
{line}
model = {name}(model="text-50", api_key="t", base_url="{url}")
{body}
os._exit(0)
"""
CORE = """
import os
{hidden}
{line}
import httpx2
body = {{"model": "text-50", "messages": [], "stream": {stream}}}
with httpx2.stream("POST", "{url}/chat/completions", json=body) as response:
    {body}
os._exit(0)
"""
# What a script does, and what langchain-core with a bare client does.
STARTS = {
    "cold start, first token": (
        "next(iter(model.stream('Hi')))",
        "next(response.iter_lines())",
    ),
    "cold start, streamed answer": (
        "for chunk in model.stream('Hi'): pass",
        "response.read()",
    ),
    "cold start, answer": ("model.invoke('Hi')", "response.read()"),
}
COMMAND = "import sys; from langchain_nscale._cli.commands import run; run(sys.argv[1:])"


class Conditions(Bench):
    """What `Bench` leaves out, because it needs another server or more time."""

    def tls(self) -> Iterator[tuple[str, float]]:
        """Calls and streams over TLS, new connections with their handshakes included."""
        yield "TLS, ainvoke", self._one_after_the_other(200)
        for count in (500, 1000):
            yield f"TLS, {count:,} calls at once", self._at_once("text-9", count, 1)
        yield "TLS, handshakes until then (count)", self._connections()
        yield "TLS, a token of a paced stream", self._at_once("text-200-pace", 1, 200)
        label = "TLS, a token of 500 paced streams"
        yield label, self._at_once("text-50-pace", 500, 50)

    def _connections(self) -> int:
        context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
        with urllib.request.urlopen(self.url, context=context) as response:  # noqa: S310  # loopback
            return int(response.read())

    def _one_after_the_other(self, count: int) -> float:
        async def work() -> float:
            model = self.make()
            await model.ainvoke(self.hi)
            return await self._cpu(count, lambda: self._repeat(model, count))

        return self.loop.run_until_complete(work())

    async def _repeat(self, model: Any, count: int) -> None:
        for _ in range(count):
            await model.ainvoke(self.hi)

    def _at_once(self, kind: str, count: int, tokens: int) -> float:
        async def work() -> float:
            model = self.make(kind)
            await model.ainvoke(self.hi)
            calls: Callable[[], Any] = (
                (lambda: model.ainvoke(self.hi))
                if tokens == 1
                else (lambda: adrain(model.astream(self.hi)))
            )
            return await self._cpu(
                count * tokens, lambda: asyncio.gather(*[calls() for _ in range(count)])
            )

        return self.loop.run_until_complete(work())

    async def _cpu(self, units: int, work: Callable[[], Awaitable[Any]]) -> float:
        gc.collect()
        start = time.process_time()
        await work()
        return (time.process_time() - start) / units

    def threads(self) -> Iterator[tuple[str, float]]:
        """Sync calls in many threads, as `batch` makes them."""
        model = self.make()
        many = [self.hi] * 1000

        def work() -> None:
            if self.name in PLAIN:
                with ThreadPoolExecutor(64) as pool:
                    list(pool.map(model.invoke, many))
            else:
                model.batch(many, {"max_concurrency": 64})

        model.invoke(self.hi)
        yield "batch of 1,000 in 64 threads", per_unit(1000, work)

    def agents(self) -> Iterator[tuple[str, float]]:
        """Rounds of an agent whose history grows."""
        if self.name in PLAIN:
            return
        from langchain.agents import create_agent
        from langchain_core.tools import StructuredTool
        from langgraph.errors import GraphRecursionError

        times: list[float] = []

        def look(place: str) -> str:
            """Look around."""
            times.append(time.process_time())
            return f"nothing in {place}"

        def run(tools: list[Any], count: int) -> list[float]:
            agent = create_agent(self.make("agent"), tools)
            question: Any = {"messages": self.hi}
            with suppress(GraphRecursionError):
                agent.invoke(question, {"recursion_limit": 2 * count + 1})
            taken = [later - earlier for earlier, later in pairwise(times)]
            times.clear()
            return taken

        others = [StructuredTool.from_function(look, name=f"f{n}") for n in range(19)]
        with_tools = [run([look, *others], ROUNDS_WITH_TOOLS) for _ in range(3)][1:]
        each = [seconds for rounds in with_tools for seconds in rounds]
        yield "agent with 20 tools, a round", sum(each) / len(each)
        rounds = run([look], ROUNDS)
        yield f"agent of {ROUNDS} rounds, a round", sum(rounds) / len(rounds)
        tenth = ROUNDS // 10
        grown = sum(rounds[-tenth:]) - sum(rounds[tenth : 2 * tenth])
        yield (
            "agent, a round more per round before it",
            grown / tenth / (ROUNDS - 2 * tenth),
        )

    def structured(self) -> Iterator[tuple[str, float]]:
        """An object of 2 KB, streamed."""
        if self.name in PLAIN or self.name == "core":
            return
        yield "object of 2 KB, streamed", self._object(FIELDS, 5)
        if self.name == "ChatNscale":
            for size, count in LARGE.items():
                yield f"object of {size}, streamed", self._object(count, 3)
            gc.disable()
            for size, count in LARGE.items():
                yield f"object of {size}, without collection", self._object(count, 3)

    def _object(self, fields: int, times: int) -> float:
        names = [f"field{number}" for number in range(fields)]
        schema = {
            "title": "Report",
            "description": "A report.",
            "type": "object",
            "properties": {name: {"type": "string"} for name in names},
            "required": names,
        }
        model = self.make(f"json-{fields}")
        chain = model.with_structured_output(schema, method="json_mode")
        if drain(chain.stream(self.hi)) < fields:
            msg = "its parts are not streamed"
            raise ValueError(msg)
        return per_unit(
            times, lambda: [drain(chain.stream(self.hi)) for _ in range(times)]
        )

    def binding(self) -> Iterator[tuple[str, float]]:
        """What an agent does in each round, and structured output in each call."""
        if self.name in PLAIN or self.name == "core":
            return
        from langchain_core.tools import StructuredTool
        from pydantic import BaseModel

        class Pair(BaseModel):
            """Two texts."""

            field0: str
            field1: str

        def function(number: int) -> Any:
            def look(place: str, days: int = 1, unit: str = "celsius") -> str:
                """Look up the weather."""
                return f"{place} {days} {unit}"

            look.__name__ = f"look_{number}"
            return look

        functions = [function(number) for number in range(20)]
        kinds: dict[str, list[Any]] = {
            "20 tools": list(map(StructuredTool.from_function, functions)),
            "20 functions": functions,
            "20 dicts": fifty_tools()[:20],
            "a class": [Pair],
        }
        model = self.make("object")
        for label, tools in kinds.items():
            model.bind_tools(tools)
            work = partial(_repeat, 20, partial(model.bind_tools, tools))
            yield f"bind_tools of {label}", per_unit(20, work)
        structured = partial(model.with_structured_output, Pair)
        structured()
        work = partial(_repeat, 50, structured)
        yield "with_structured_output()", per_unit(50, work)
        chain = structured(include_raw=True)
        assert chain.invoke(self.hi)["parsed"].field1 == "y"
        work = partial(_repeat, 100, partial(chain.invoke, self.hi))
        yield "include_raw, a call", per_unit(100, work)

    def collector(self) -> Iterator[tuple[str, float]]:
        """The share of a token that garbage collection is, in a program with LangGraph."""
        if self.name != "ChatNscale":
            return
        for package in ("langgraph.graph", "langchain_openai"):
            import_module(package)
        with_it = [self.stream("text-2000") for _ in range(3)]
        gc.disable()
        without = [self.stream("text-2000") for _ in range(3)]
        yield "collection in a token (share)", 1 - min(without) / min(with_it)

    def arrays(self) -> Iterator[tuple[str, float]]:
        """Vectors of very many texts, as an array."""
        if self.name not in EMBEDDINGS:
            return
        import numpy as np

        texts = [f"The text of number {number}." for number in range(TEXTS)]
        model = EMBEDDINGS[self.name](self.url, "e")
        model.embed_documents(texts[:10])
        label = f"embed {TEXTS:,} texts into numpy"
        if embed := getattr(model, "embed_documents_as_array", None):
            yield label, per_unit(1, lambda: embed(texts))
        else:
            yield label, per_unit(1, lambda: np.array(model.embed_documents(texts)))

    def held(self) -> Iterator[tuple[str, float]]:
        """Memory of open streams, on top of what the process has without them."""
        for count in (1000, 5000):
            yield f"memory per open stream, {count:,} (KiB)", self._memory(count)

    def _memory(self, count: int) -> float:
        async def work() -> float:
            warm = self.make()
            await asyncio.gather(*[adrain(warm.astream(self.hi)) for _ in range(5)])
            gc.collect()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            model = self.make(f"text-50-hold-{count}")
            await asyncio.gather(*[adrain(model.astream(self.hi)) for _ in range(count)])
            return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / count

        return self.loop.run_until_complete(work())

    def cold(self) -> Iterator[tuple[str, float]]:
        """CPU time of whole processes, from their start."""
        known = {"line": import_line(self.name), "name": self.name, "url": self.url}
        known["hidden"] = hidden(self.name)
        if self.name == "core":  # what no chat model can do without
            for label, (_, body) in STARTS.items():
                stream = label != "cold start, answer"
                script = CORE.format(**known, body=body, stream=stream)
                yield label, _process([sys.executable, "-c", script])
        if self.name not in STARTED:
            return
        for label, (body, _) in STARTS.items():
            script = SCRIPT.format(**known, body=body)
            yield label, _process([sys.executable, "-c", script])
        if self.name == "ChatNscale":
            chat = ["chat", "Hi", "-m", "text-50", "-t", "t", "--base-url", self.url]
            command = [sys.executable, "-c", COMMAND, *chat]
            yield "cold start, command line", _process(command)
        if self.name == "ChatNscale" and (llm := shutil.which("llm", path=LLM)):
            yield "cold start, llm -n", self._llm(llm)

    def _llm(self, llm: str) -> float:
        """What a user of another command line waits for, in an environment of its own."""
        with TemporaryDirectory() as folder:
            entry = f"- {{model_id: m, model_name: text-50, api_base: {self.url}}}\n"
            (Path(folder) / "extra-openai-models.yaml").write_text(entry)
            env = {"LLM_USER_PATH": folder, "OPENAI_API_KEY": "t"}
            return _process([llm, "-n", "-m", "m", "Hi"], env=env)


def _repeat(count: int, work: Callable[[], object]) -> None:
    for _ in range(count):
        work()


def _process(
    command: list[str], rounds: int = 3, env: Mapping[str, str] | None = None
) -> float:
    """Return the median CPU time of a process, after one that warms the disk's cache."""
    seen = []
    for _ in range(rounds + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        seen.append(used)
    return sorted(seen[1:])[rounds // 2]
