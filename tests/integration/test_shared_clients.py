"""The clients that all models share: what they send, where to, and when they end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_nscale import NscaleError, aclose_connections, close_connections
from langchain_nscale.testing import NscaleServer
from tests.integration.test_chat import WAYS, consume
from tests.integration.test_connections import ANSWERED, model, raw_server, read_request

pytestmark = pytest.mark.usefixtures("fresh_clients")


class Server:
    """Answers all requests; counts connections, and those that have ended."""

    def __init__(self) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.ended = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.open = self.most_open = 0

    def __call__(self, connection: Any) -> None:
        with self._lock:
            self.connections += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        with suppress(OSError):
            while head := read_request(connection):
                self.heads.append(head)
                connection.sendall(ANSWERED)
        with self._lock:
            self.open -= 1
        self.ended.release()


NAMES = st.text("abcXYZ-", min_size=1, max_size=4).map("X-{}".format)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5)
QUERIES = st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text()))


def test_the_shared_client_sends_what_a_client_of_ones_own_sends() -> None:
    """Requests of the shared client are built without it, because that is faster."""
    server = Server()
    with raw_server(server) as base_url, httpx2.Client() as own:

        @settings(max_examples=50)
        @given(
            st.dictionaries(NAMES | st.sampled_from(["Accept", "user-agent"]), VALUES),
            QUERIES,
            st.sampled_from(["", "/a b", "/%2F", "/ü"]),
        )
        def check(headers: dict[str, str], query: dict[str, Any], path: str) -> None:
            server.heads.clear()
            sent = {"default_headers": headers, "default_query": query}
            for client in (own, None):
                model(base_url + path, http_client=client, **sent).invoke("Hi")
            expected, shared = server.heads
            first, *lines = expected.split(b"\r\n")
            shared_first, *shared_lines = shared.split(b"\r\n")
            assert shared_first == first
            assert lowered(shared_lines) == lowered(lines)

        check()


def lowered(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = [line.partition(b": ") for line in lines if line]
    return sorted((name.lower(), value) for name, _, value in pairs)


def test_models_share_the_sync_client_until_it_is_closed() -> None:
    server = Server()
    with raw_server(server) as base_url:
        for _ in range(3):
            model(base_url).invoke("Hi")
        assert server.connections == 1
        close_connections()
        assert server.ended.acquire(timeout=10)
        model(base_url).invoke("Hi")
        assert server.connections == 2


def test_each_event_loop_has_its_client_and_closes_it() -> None:
    server = Server()

    async def use() -> None:
        for _ in range(2):
            await model(base_url).ainvoke("Hi")

    with raw_server(server) as base_url:
        for number in (1, 2):
            asyncio.run(use())
            assert server.connections == number
            assert server.ended.acquire(timeout=10)


async def test_the_async_client_can_be_closed_by_hand() -> None:
    server = Server()
    with raw_server(server) as base_url:
        await model(base_url).ainvoke("Hi")
        await aclose_connections()
        assert await asyncio.to_thread(server.ended.acquire, timeout=10)
        await aclose_connections()
        await model(base_url).ainvoke("Hi")
        assert server.connections == 2


@pytest.mark.filterwarnings("ignore:unclosed")
def test_a_loop_that_is_gone_leaves_nothing_behind() -> None:
    with raw_server(Server()) as base_url:
        stopped = asyncio.new_event_loop()
        stopped.run_until_complete(model(base_url).ainvoke("Hi"))
        stopped.close()  # without shutdown_asyncgens
        left = weakref.ref(stopped)
        del stopped
        asyncio.run(model(base_url).ainvoke("Hi"))
        gc.collect()
        assert left() is None


@pytest.mark.parametrize("files", [8, None], ids=["few", "unlimited"])
def test_connections_are_bounded_by_the_limit_on_open_files(
    files: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource: Any = pytest.importorskip("resource", reason="there is no such limit")
    limit = resource.RLIM_INFINITY if files is None else files
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, 4096))
    server = Server()
    with raw_server(server) as base_url, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(model(base_url).invoke, map(str, range(60))))
    assert len(answers) == 60
    assert server.most_open <= (20 if files is None else 6)


# --- proxies, and platforms without httptools -------------------------------------------


@WAYS
async def test_requests_to_this_machine_use_no_proxy(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = Server()
    with raw_server(server) as base_url:
        # A whole reply in place of a stream is read, too.
        assert (await consume(model(base_url), "Hi", way)).text == "yes"
        with pytest.raises(NscaleError, match="proxy"):
            await consume(model("https://service.example/v1"), "Hi", way)


WITHOUT_HTTPTOOLS = """
import asyncio, sys
sys.modules["httptools"] = None
from langchain_nscale import ChatNscale
model = ChatNscale(model=sys.argv[1], base_url=sys.argv[2], service_token=sys.argv[3])

async def main():
    print((await model.ainvoke("one")).text)
    print("".join([chunk.text async for chunk in model.astream("two")]))

asyncio.run(main())
print(model.invoke("three").text)
print("".join(chunk.text for chunk in model.stream("four")))
print("langchain_nscale._http.looped" in sys.modules)
"""


def test_httpx2_sends_where_there_is_no_wheel_of_httptools(server: NscaleServer) -> None:
    arguments = ["meta-llama/Llama-3.1-8B-Instruct", server.base_url, server.token]
    command = [sys.executable, "-c", WITHOUT_HTTPTOOLS, *arguments]
    output = subprocess.check_output(command, text=True, timeout=100)  # noqa: S603  # our own code
    *texts, has_own_client = output.splitlines()
    assert texts == [f"You said: {said}" for said in ("one", "two", "three", "four")]
    assert has_own_client == "False"


async def test_one_ssl_context_serves_all_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    create = httpx2.create_ssl_context

    def counted() -> Any:
        made.append(1)
        return create()

    monkeypatch.setattr("httpx2.create_ssl_context", counted)
    chat = model("https://127.0.0.1:1/v1")
    for _ in range(2):
        with pytest.raises(NscaleError):
            await asyncio.to_thread(asyncio.run, chat.ainvoke("Hi"))
        with pytest.raises(NscaleError):
            chat.invoke("Hi")
    assert len(made) <= 1
