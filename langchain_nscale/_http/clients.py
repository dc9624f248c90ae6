"""The shared HTTP clients: one per process for sync calls, one per event loop.

An SSL context takes 30 ms to create, so model instances share clients. Addresses of this
machine have clients of their own, which use no proxy.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

from langchain_nscale._http import environment
from langchain_nscale._http.address import is_local
from langchain_nscale._http.client import AsyncSharedClient, SharedClient


class _Clients:
    """The shared clients of this process for one kind of address."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sync: SharedClient | None = None
        self.by_loop: dict[
            asyncio.AbstractEventLoop,
            tuple[AsyncSharedClient, AsyncGenerator[None, None]],
        ] = {}


_clients = _Clients()
_local_clients = _Clients()


def _forget_clients() -> None:
    # A forked child must neither use nor close its parent's connections.
    global _clients, _local_clients  # noqa: PLW0603  # process-wide state
    _clients = _Clients()
    _local_clients = _Clients()


def _clients_for(base_url: str) -> _Clients:
    return _local_clients if is_local(base_url) else _clients


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_clients)


def shared_client(base_url: str = "") -> SharedClient:
    """Return the process's client, creating it on first use."""
    clients = _clients_for(base_url)
    client = clients.sync
    if client is None or client.is_closed:
        with clients.lock:
            client = clients.sync
            if client is None or client.is_closed:
                client = clients.sync = environment.make_client(base_url)
    return client


async def shared_async_client(base_url: str = "") -> AsyncSharedClient:
    """Return the running loop's client; a client is never used on another loop."""
    loop = asyncio.get_running_loop()
    clients = _clients_for(base_url)
    if not environment.is_prepared(base_url):
        await asyncio.to_thread(environment.prepare, base_url)
    entry = clients.by_loop.get(loop)
    if entry is None or entry[0].is_closed:
        for other in list(clients.by_loop):
            if other.is_closed():  # a loop that was stopped without being shut down
                clients.by_loop.pop(other, None)
        client = environment.make_async_client(base_url)
        closer = _close_with_loop(client, clients)
        clients.by_loop[loop] = entry = (client, closer)
        await anext(closer)
    return entry[0]


async def _close_with_loop(
    client: AsyncSharedClient, clients: _Clients
) -> AsyncGenerator[None, None]:
    """Close a client when its loop ends: `asyncio.run` finalizes open generators."""
    try:
        yield
    finally:
        with suppress(RuntimeError):  # a loop that is gone
            clients.by_loop.pop(asyncio.get_running_loop(), None)
            await client.aclose()


def close_connections() -> None:
    """Close the connections shared by sync calls; the next call opens new ones.

    This happens automatically when the process exits.
    """
    for clients in (_clients, _local_clients):
        if clients.sync is not None:
            clients.sync.close()


async def aclose_connections() -> None:
    """Close the connections shared by async calls on the running event loop.

    This happens automatically when the loop ends.
    """
    for clients in (_clients, _local_clients):
        entry = clients.by_loop.get(asyncio.get_running_loop())
        if entry is not None:
            await entry[1].aclose()


def _close_all() -> None:
    """Close all clients at exit, including those of loops that were never closed."""
    close_connections()
    entries = [*_clients.by_loop.items(), *_local_clients.by_loop.items()]
    for loop, (client, _) in entries:
        if not loop.is_closed() and not loop.is_running():
            with suppress(Exception):
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(client.aclose())


atexit.register(_close_all)
