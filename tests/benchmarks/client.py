"""The clients, and work on a server that answers at once."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import resource
import subprocess
import sys
import threading
import time
from binascii import a2b_base64
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

CHUNKS = 2000
HELD = 1000
TEXTS = 10_000
# Enough chunks for several full garbage collections, which are a good part of the cost.
ROUNDS = 8


def history(count: int) -> list[Any]:
    return [("human" if i % 2 == 0 else "ai", "x" * 250) for i in range(count)]


def image() -> list[Any]:
    url = "data:image/png;base64," + "A" * 5_000_000
    block = {"type": "image_url", "image_url": {"url": url}}
    return [("human", [{"type": "text", "text": "What?"}, block])]


def fifty_tools() -> list[dict[str, Any]]:
    properties = {f"p{i}": {"type": "string", "description": "x" * 40} for i in range(5)}
    parameters = {"type": "object", "properties": properties}
    return [
        {
            "type": "function",
            "function": {"name": f"f{i}", "description": "y", "parameters": parameters},
        }
        for i in range(50)
    ]


# --- clients: a function that makes one from base URL and model ---------------------------


def chat(
    package: str, name: str, key: str = "api_key", url: str = "base_url", **more: Any
) -> Any:
    """A LangChain chat model by name: imported on use, which is measured too."""

    def make(address: str, model: str) -> Any:
        cls = getattr(import_module(package), name)
        return cls(**{"model": model, key: "t", url: address, **more})

    return make


def litellm(url: str, model: str) -> Any:
    return chat("langchain_litellm", "ChatLiteLLM", url="api_base")(
        url, f"nscale/{model}"
    )


def core(_: str, model: str) -> Any:
    """langchain-core alone: chunks that are there already, no network."""
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    kind, count, *rest = [*model.split("-"), "9"]
    if kind == "tools":
        call = {"name": None, "args": "token ", "id": None, "index": 0}
        message = AIMessageChunk(content="", tool_call_chunks=[call])
    elif kind == "reasoning":
        message = AIMessageChunk(
            content="", additional_kwargs={"reasoning_content": " token"}
        )
    else:
        message = AIMessageChunk(content=" token")
    prebuilt = [
        ChatGenerationChunk(message=message.model_copy()) for _ in range(int(count))
    ]

    def answer() -> AIMessage:
        if kind != "agent":
            return AIMessage("Hello")
        call = {"name": "look", "args": {"place": "x"}, "id": uuid4().hex}
        return AIMessage("", tool_calls=[call])

    model = _core_model(prebuilt, answer)
    return _holding(model, prebuilt, int(rest[1])) if rest[:1] == ["hold"] else model


def _core_model(prebuilt: list[Any], answer: Callable[[], Any]) -> Any:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.outputs import ChatGeneration, ChatResult

    def result() -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=answer())])

    class Core(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "core"

        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            return result()

        async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
            return result()

        def _stream(self, *_: Any, **__: Any) -> Iterator[Any]:
            yield from prebuilt

        async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
            for chunk in prebuilt:
                yield chunk

        def bind_tools(self, *_: Any, **__: Any) -> Any:
            return self

    return Core()


def _holding(model: Any, chunks: list[Any], count: int) -> Any:
    """Return a model whose streams end when so many of them have begun."""
    are_open = asyncio.Event()
    streams: list[None] = []

    class Holding(type(model)):  # type: ignore[misc]  # a class made for its instance
        async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
            for chunk in chunks:
                yield chunk.model_copy(deep=True)
            streams.append(None)
            if len(streams) == count:
                are_open.set()
            await are_open.wait()

    return Holding()


class Floor:
    """HTTP client, line split, JSON: no SDK and no framework."""

    def __init__(self, url: str, model: str) -> None:
        httpx2 = import_module("httpx2")

        self.url = url + "/chat/completions"
        self.model = model
        self.http = httpx2.Client(timeout=60)
        limits = httpx2.Limits(max_connections=None)
        self.make_async: Any = lambda: httpx2.AsyncClient(timeout=60, limits=limits)
        self.async_http: Any = None

    def body(self, messages: Any, *, stream: bool) -> bytes:
        made = {"model": self.model, "messages": messages, "stream": stream}
        return json.dumps(made).encode()

    def invoke(self, messages: Any, **_: Any) -> Any:
        import jiter

        return jiter.from_json(
            self.http.post(self.url, content=self.body(messages, stream=False)).content
        )

    async def ainvoke(self, messages: Any, **_: Any) -> Any:
        import jiter

        if self.async_http is None:
            self.async_http = self.make_async()
        body = self.body(messages, stream=False)
        return jiter.from_json(
            (await self.async_http.post(self.url, content=body)).content
        )

    def stream(self, messages: Any) -> Iterator[Any]:
        import jiter

        body = self.body(messages, stream=True)
        with self.http.stream("POST", self.url, content=body) as response:
            rest = b""
            for data in response.iter_bytes():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        yield jiter.from_json(line[6:])

    async def astream(self, messages: Any) -> AsyncIterator[Any]:
        import jiter

        if self.async_http is None:
            self.async_http = self.make_async()
        body = self.body(messages, stream=True)
        async with self.async_http.stream("POST", self.url, content=body) as response:
            rest = b""
            async for data in response.aiter_bytes():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        yield jiter.from_json(line[6:])

    async def abatch(self, many: Any, config: Any) -> Any:
        limit = asyncio.Semaphore(config["max_concurrency"])

        async def one(messages: Any) -> Any:
            async with limit:
                return await self.ainvoke(messages)

        return await asyncio.gather(*map(one, many))

    def bind_tools(self, _: Any) -> Any:
        return self


class FloorEmbeddings:
    """Embeddings with an HTTP client, JSON and base64: no SDK and no framework."""

    def __init__(self, url: str, model: str) -> None:
        self.http = import_module("httpx2").Client(timeout=60)
        self.url = url + "/embeddings"
        self.model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        import jiter

        vectors: list[list[float]] = []
        for start in range(0, len(texts), 256):
            asked = {"model": self.model, "input": texts[start : start + 256]}
            body = json.dumps({**asked, "encoding_format": "base64"}).encode()
            reply: Any = jiter.from_json(self.http.post(self.url, content=body).content)
            for entry in reply["data"]:
                raw: Any = memoryview(a2b_base64(entry["embedding"]))
                vectors.append(raw.cast("f").tolist())
        return vectors

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)  # as cheap as it gets


class Sdk(Floor):
    """The OpenAI SDK alone."""

    def __init__(self, url: str, model: str) -> None:
        sdk = import_module("openai")
        self.model = model
        self.sync = sdk.OpenAI(base_url=url, api_key="t").chat.completions
        self.aio = sdk.AsyncOpenAI(base_url=url, api_key="t").chat.completions

    def invoke(self, messages: Any, **_: Any) -> Any:
        return self.sync.create(model=self.model, messages=messages)

    async def ainvoke(self, messages: Any, **_: Any) -> Any:
        return await self.aio.create(model=self.model, messages=messages)

    def stream(self, messages: Any) -> Iterator[Any]:
        yield from self.sync.create(model=self.model, messages=messages, stream=True)

    async def astream(self, messages: Any) -> AsyncIterator[Any]:
        async for chunk in await self.aio.create(
            model=self.model, messages=messages, stream=True
        ):
            yield chunk


class Plain(Floor):
    """The fastest plain clients: http.client for sync calls, aiohttp for async ones."""

    def __init__(self, url: str, model: str) -> None:
        self.address = urlsplit(url)
        self.url = url + "/chat/completions"
        self.model = model
        self.kept = threading.local()
        self.session: Any = None

    def _sent(self, messages: Any, *, stream: bool) -> Any:
        if not hasattr(self.kept, "http"):
            tls = self.address.scheme == "https"
            cls = http.client.HTTPSConnection if tls else http.client.HTTPConnection
            self.kept.http = cls(self.address.netloc, timeout=60)
        path = self.address.path + "/chat/completions"
        self.kept.http.request("POST", path, self.body(messages, stream=stream))
        return self.kept.http.getresponse()

    def invoke(self, messages: Any, **_: Any) -> Any:
        import jiter

        return jiter.from_json(self._sent(messages, stream=False).read())

    def stream(self, messages: Any) -> Iterator[Any]:
        import jiter

        for line in self._sent(messages, stream=True):
            if line.startswith(b"data: {"):
                yield jiter.from_json(line[6:])

    def _posted(self, messages: Any, *, stream: bool) -> Any:
        if self.session is None:
            aiohttp = import_module("aiohttp")
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self.session.post(self.url, data=self.body(messages, stream=stream))

    async def ainvoke(self, messages: Any, **_: Any) -> Any:
        import jiter

        async with self._posted(messages, stream=False) as response:
            return jiter.from_json(await response.read())

    async def astream(self, messages: Any) -> AsyncIterator[Any]:
        import jiter

        async with self._posted(messages, stream=True) as response:
            rest = b""
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        yield jiter.from_json(line[6:])


class InferenceClient(Sdk):
    """huggingface_hub's client alone."""

    def __init__(self, url: str, model: str) -> None:
        hub = import_module("huggingface_hub")
        self.model = model
        self.sync = hub.InferenceClient(base_url=url, api_key="t").chat.completions
        self.aio = hub.AsyncInferenceClient(base_url=url, api_key="t").chat.completions


CLIENTS: dict[str, Callable[[str, str], Any]] = {
    "floor": Floor,
    "core": core,
    "plain": Plain,
    "InferenceClient": InferenceClient,
    "sdk": Sdk,
    "ChatNscale": chat("langchain_nscale", "ChatNscale"),
    "ChatOpenAI": chat("langchain_openai", "ChatOpenAI", stream_usage=True),
    "ChatDeepSeek": chat("langchain_deepseek", "ChatDeepSeek", url="api_base"),
    "ChatXAI": chat("langchain_xai", "ChatXAI"),
    "ChatOpenRouter": chat("langchain_openrouter", "ChatOpenRouter"),
    "ChatGroq": chat("langchain_groq", "ChatGroq"),
    "ChatFireworks": chat("langchain_fireworks", "ChatFireworks"),
    "ChatTogether": chat("langchain_together", "ChatTogether"),
    "ChatLiteLLM": litellm,
}
# The embeddings of a chat model's package.
EMBEDDINGS: dict[str, Callable[[str, str], Any]] = {
    "floor": FloorEmbeddings,
    "ChatNscale": chat("langchain_nscale", "NscaleEmbeddings"),
    "ChatOpenAI": chat(
        "langchain_openai", "OpenAIEmbeddings", check_embedding_ctx_length=False
    ),
}
PLAIN = {"floor", "plain", "InferenceClient", "sdk"}  # no LangChain interface


def prompt(name: str, messages: Any) -> Any:
    if name not in PLAIN:
        return messages
    roles = {"human": "user", "ai": "assistant"}
    return [{"role": roles[role], "content": content} for role, content in messages]


def per_unit(units: int, work: Callable[[], Any]) -> float:
    gc.collect()  # what other work has left is not on this one's bill
    start = time.process_time()
    work()
    return (time.process_time() - start) / units


def import_line(name: str) -> str:
    """Return what a user writes to import a client."""
    others = {
        "floor": "import httpx2",
        "core": "from langchain_core.language_models.chat_models import BaseChatModel",
        "plain": "import http.client",
        "InferenceClient": "from huggingface_hub import InferenceClient",
        "sdk": "import openai",
    }
    package = "langchain_" + name.removeprefix("Chat").lower()
    return others.get(name, f"from {package} import {name}")


def fresh_import(name: str) -> float:
    """Return the seconds of CPU that the import takes in an interpreter of its own.

    Modules that this process has already imported would make it cheaper for some
    clients, and so would the depth of the call: CPython 3.11 maps and unmaps part of its
    stack up to 10,000 times if an import keeps crossing a boundary.
    """
    code = f"start = time.process_time()\n{import_line(name)}\n"
    code += "print(time.process_time() - start)"
    command = [sys.executable, "-c", f"import time\n{hidden(name)}\n{code}"]
    done = subprocess.run(  # our own code
        command, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def hidden(name: str) -> str:
    """Return a line that hides what is only installed for other clients.

    langsmith imports aiohttp and httpx_aiohttp if they are there, which would be a tenth
    of the import of each LangChain client.
    """
    is_needed = name in ("plain", "InferenceClient", "ChatFireworks", "ChatLiteLLM")
    line = "import sys; sys.modules.update(aiohttp=None, httpx_aiohttp=None)"
    return "" if is_needed else line


def drain(stream: Iterator[Any]) -> int:
    return sum(1 for _ in stream)


async def adrain(stream: AsyncIterator[Any]) -> int:
    return sum([1 async for _ in stream])


class Bench:
    """All work for one client."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.hi = prompt(name, [("human", "Hi")])
        # One for all work: several clients break on a second event loop.
        self.loop = asyncio.new_event_loop()

    def make(self, model: str = "text-9") -> Any:
        return CLIENTS[self.name](self.url, model)

    def setup(self) -> Iterator[tuple[str, float]]:
        """Import and construction; has to come first in the process."""
        yield "import", fresh_import(self.name)
        exec(import_line(self.name), {})  # noqa: S102  # our own code
        yield "first construction", per_unit(1, self.make)
        self.make()
        yield (
            "hundredth construction",
            per_unit(20, lambda: [self.make() for _ in range(20)]),
        )

    def calls(self) -> Iterator[tuple[str, float]]:
        model = self.make()
        for _ in range(5):
            model.invoke(self.hi)
        yield "invoke", per_unit(300, lambda: [model.invoke(self.hi) for _ in range(300)])
        yield "ainvoke", self.in_turn(300)
        for count, label in (
            (200, "ainvoke, 200 at once"),
            (400, "ainvoke, 400 at once"),
        ):
            yield label, self.at_once(count)
            if self.name == "sdk":
                return  # it hangs when more calls are made at once
        many = [self.hi] * 1000
        yield "abatch of 1,000", self.batch(many)
        for count in (200, 400):
            said = prompt(self.name, history(count))
            model.invoke(said)
            work = per_unit(30, lambda said=said: [model.invoke(said) for _ in range(30)])  # type: ignore[misc]
            yield f"history of {count} messages", work
        if self.name not in PLAIN:
            bound = model.bind_tools(fifty_tools())
            yield (
                "50 bound tools",
                per_unit(50, lambda: [bound.invoke(self.hi) for _ in range(50)]),
            )
        picture = prompt(self.name, image())
        yield (
            "image of 5 MB",
            per_unit(3, lambda: [model.invoke(picture) for _ in range(3)]),
        )

    def in_turn(self, count: int) -> float:
        async def work() -> float:
            model = self.make()
            for _ in range(5):
                await model.ainvoke(self.hi)
            gc.collect()
            start = time.process_time()
            for _ in range(count):
                await model.ainvoke(self.hi)
            return (time.process_time() - start) / count

        return self.loop.run_until_complete(work())

    def at_once(self, count: int) -> float:
        async def work() -> float:
            model = self.make()
            await asyncio.gather(*[model.ainvoke(self.hi) for _ in range(20)])
            start = time.process_time()
            for _ in range(3):
                await asyncio.gather(*[model.ainvoke(self.hi) for _ in range(count)])
            return (time.process_time() - start) / (3 * count)

        return self.loop.run_until_complete(work())

    def batch(self, many: list[Any]) -> float:
        async def work() -> float:
            model = self.make()
            await model.abatch(many[:50], {"max_concurrency": 100})
            start = time.process_time()
            await model.abatch(many, {"max_concurrency": 100})
            return (time.process_time() - start) / len(many)

        return self.loop.run_until_complete(work())

    def streams(self) -> Iterator[tuple[str, float]]:
        for kind in ("text", "reasoning", "tools"):
            yield f"stream, {kind}", self.stream(f"{kind}-{CHUNKS}")
            yield f"astream, {kind}", self.astream(f"{kind}-{CHUNKS}")
        yield "stream, text, twice as long", self.long()
        model = self.make(f"text-{CHUNKS}-seg")
        yield (
            "stream, by segments",
            per_unit(CHUNKS, lambda: drain(model.stream(self.hi))),
        )
        yield "astream, by segments", self.astream(f"text-{CHUNKS}-seg", rounds=1)
        if self.name not in PLAIN:
            yield "events v2", self.events("v2")
            yield "events v3", self.events("v3")
            yield "events v3, sync", self.sync_events()

    def stream(self, name: str, rounds: int = ROUNDS) -> float:
        model = self.make(name)
        drain(model.stream(self.hi))
        gc.collect()
        start = time.process_time()
        for _ in range(rounds):
            drain(model.stream(self.hi))
        return (time.process_time() - start) / (CHUNKS * rounds)

    def long(self) -> float:
        model = self.make(f"text-{2 * CHUNKS}")
        drain(model.stream(self.hi))
        rounds = ROUNDS // 2
        return per_unit(
            CHUNKS * 2 * rounds,
            lambda: [drain(model.stream(self.hi)) for _ in range(rounds)],
        )

    def astream(self, name: str, rounds: int = ROUNDS) -> float:
        async def work() -> float:
            model = self.make(name)
            await adrain(model.astream(self.hi))
            gc.collect()
            start = time.process_time()
            for _ in range(rounds):
                await adrain(model.astream(self.hi))
            return (time.process_time() - start) / (CHUNKS * rounds)

        return self.loop.run_until_complete(work())

    def events(self, version: str) -> float:
        async def work() -> float:
            model = self.make(f"text-{CHUNKS}")

            async def once() -> None:
                events = model.astream_events(self.hi, version=version)
                if not hasattr(events, "__aiter__"):
                    events = await events
                await adrain(events)

            await once()
            gc.collect()
            start = time.process_time()
            for _ in range(ROUNDS // 2):
                await once()
            return (time.process_time() - start) / (CHUNKS * ROUNDS // 2)

        return self.loop.run_until_complete(work())

    def sync_events(self) -> float:
        model = self.make(f"text-{CHUNKS}")
        drain(model.stream_events(self.hi, version="v3"))
        rounds = ROUNDS // 2
        return per_unit(
            CHUNKS * rounds,
            lambda: [
                drain(model.stream_events(self.hi, version="v3")) for _ in range(rounds)
            ],
        )

    def embeddings(self) -> Iterator[tuple[str, float]]:
        """Documents of a few words, as many as an index of some books has."""
        if self.name not in EMBEDDINGS:
            return
        texts = [f"The text of number {number}." for number in range(TEXTS)]
        model = EMBEDDINGS[self.name](self.url, "e")
        model.embed_documents(texts[:10])
        label = f"embed {TEXTS:,} texts"
        yield label, per_unit(1, lambda: model.embed_documents(texts))

        async def work() -> float:
            await model.aembed_documents(texts[:10])
            gc.collect()
            start = time.process_time()
            await model.aembed_documents(texts)
            return time.process_time() - start

        yield f"a{label}", self.loop.run_until_complete(work())

    def memory(self) -> Iterator[tuple[str, float]]:
        async def work() -> None:
            model = self.make(f"text-50-hold-{HELD}")
            await asyncio.gather(*[adrain(model.astream(self.hi)) for _ in range(HELD)])

        self.loop.run_until_complete(work())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield "peak memory, 1,000 streams (MiB)", peak
