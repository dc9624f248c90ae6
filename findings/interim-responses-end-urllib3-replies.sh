#!/usr/bin/env bash
# A gateway that sends `102 Processing` (to keep a slow request alive) or `103 Early Hints`
# before its answer makes urllib3 and requests return that interim response, empty and without
# an error. aiohttp and httpx2 wait for the answer.
#
# Guess: HTTP clients skip interim responses (RFC 9110, 15.2), as all of them do with 100.
# Why it matters: `raise_for_status()` passes, and the answer that was paid for is thrown away.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    urllib3==2.8.0 requests==2.34.2 aiohttp==3.14.5 httpx2==2.16.2
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
import sys
import threading

import aiohttp
import httpx2
import requests
import urllib3

INTERIM = {
    100: b"HTTP/1.1 100 Continue\r\n\r\n",
    102: b"HTTP/1.1 102 Processing\r\n\r\n",
    103: b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nParis"


def serve(interim):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                while lines.readline() not in (b"\r\n", b""):
                    pass
                connection.sendall(interim + ANSWER)

    threading.Thread(target=answer, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def with_urllib3(url):
    reply = urllib3.PoolManager().request("GET", url, timeout=10, retries=False)
    return reply.status, reply.data


def with_requests(url):
    session = requests.Session()
    session.trust_env = False
    reply = session.get(url, timeout=10)
    reply.raise_for_status()
    return reply.status_code, reply.content


def with_httpx2(url):
    with httpx2.Client(trust_env=False) as client:
        reply = client.get(url)
        return reply.status_code, reply.content


def with_aiohttp(url):
    async def get():
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            return reply.status, await reply.read()

    return asyncio.run(get())


ANSWERED = (200, b"Paris")
modules = (urllib3, requests, httpx2, aiohttp)
print("versions:", {module.__name__: module.__version__ for module in modules})
holds = True
for status, interim in INTERIM.items():
    url = serve(interim)
    for module, get in zip(
        modules, (with_urllib3, with_requests, with_httpx2, with_aiohttp), strict=True
    ):
        seen = get(url)
        print(f"{status}, then 200 'Paris': {module.__name__} returns {seen}")
        taken = status != 100 and module in (urllib3, requests)
        holds &= seen == ((status, b"") if taken else ANSWERED)
sys.exit(None if holds else "This no longer holds.")
PYTHON
