#!/usr/bin/env bash
# A server that refuses a large request from its headers alone (413, 401) and closes the
# connection while the body is still being sent: httpx2's `Client` returns the refusal, and its
# `AsyncClient` raises a ReadError without a word about it. aiohttp returns it, too.
#
# Guess: every client reports the refusal.
# Why it matters: sync code says "too large"; async code looks like a network failure, so it is
# repeated, and every repetition uploads the pictures again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    httpx2==2.16.2 anyio==4.16.0 aiohttp==3.14.5
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
import sys
import threading

import aiohttp
import httpx2

BODY = b"x" * 20_000_000
REFUSAL = (
    b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n"
    b"Connection: close\r\n\r\ntoo large"
)


def refuse(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            connection.sendall(REFUSAL)  # and close, with most of the body unread


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=refuse, args=(listener,), daemon=True).start()
url = f"http://127.0.0.1:{listener.getsockname()[1]}/"


def with_client():
    with httpx2.Client(trust_env=False, timeout=30) as client:
        return client.post(url, content=BODY).status_code


async def with_async_client():
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        return (await client.post(url, content=BODY)).status_code


async def with_aiohttp():
    async with aiohttp.ClientSession() as session, session.post(url, data=BODY) as reply:
        return reply.status


def outcome(call):
    try:
        return call()
    except httpx2.HTTPError as error:
        return f"{type(error).__name__}({str(error)!r})"


print(f"httpx2 {httpx2.__version__}, aiohttp {aiohttp.__version__}; 20 MB, refused early")
seen = {
    "httpx2.Client": [outcome(with_client) for _ in range(3)],
    "httpx2.AsyncClient": [outcome(lambda: asyncio.run(with_async_client())) for _ in range(3)],
    "aiohttp": [outcome(lambda: asyncio.run(with_aiohttp())) for _ in range(3)],
}
for name, outcomes in seen.items():
    print(f"{name}: {outcomes}")
holds = (
    seen["httpx2.Client"] == [413] * 3
    and seen["aiohttp"] == [413] * 3
    and seen["httpx2.AsyncClient"] == ["ReadError('')"] * 3
)
sys.exit(None if holds else "This no longer holds.")
PYTHON
