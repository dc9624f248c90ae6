"""Servers of the benchmarks and the soak test: a process and a free port for each."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("integration") / "localhost.pem"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def serve(handler: Handler) -> None:
    """Serve until the process is killed, over TLS if it has the argument `--tls`.

    The first line of standard output is the port.
    """
    asyncio.run(_serve(handler))


async def _serve(handler: Handler) -> None:
    tls = None
    if "--tls" in sys.argv:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(
        handler, "127.0.0.1", 0, limit=2**24, backlog=4096, ssl=tls
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


@contextmanager
def running(module: str, *, tls: bool) -> Iterator[str]:
    """Run a module that calls `serve`; yield the `base_url` of its server."""
    command = [sys.executable, "-m", module, *(["--tls"] if tls else [])]
    process = subprocess.Popen(  # noqa: S603  # our own code
        command, stdout=subprocess.PIPE, text=True
    )
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
