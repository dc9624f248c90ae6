#!/usr/bin/env bash
# pyreqwest's streamed response isn't handed out as it arrives: entering the block waits until
# 64 kB are there or the body has ended. The first token of an answer arrives with the last.
# Setting `streamed_read_buffer_limit(0)` cures it.
#
# Guess: a request built with `build_streamed()` yields what has arrived, and the limit is an
# upper bound for what is read ahead.
# Why it matters: "Max bytes buffered" reads like a bound, and a test with a finished answer
# passes; with a model that writes for a minute, the screen stays empty for a minute.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyreqwest==0.15.1
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import os
import socket
import sys
import threading
from importlib.metadata import version

from pyreqwest.client import ClientBuilder

first_was_read = threading.Event()
prompt = []


def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            while lines.readline() not in (b"\r\n", b""):
                pass
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                b"c\r\ndata: one\n\n\n\r\n"
            )
            # The second event leaves once the first was read, or after five seconds.
            prompt.append(first_was_read.wait(5))
            connection.sendall(b"c\r\ndata: two\n\n\n\r\n0\r\n\r\n")


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
url = f"http://127.0.0.1:{listener.getsockname()[1]}/"


async def read(limit):
    first_was_read.clear()
    pieces = []
    async with ClientBuilder().build() as client:
        request = client.get(url)
        if limit is not None:
            request = request.streamed_read_buffer_limit(limit)
        async with request.build_streamed() as response:
            while piece := await response.body_reader.read_chunk():
                pieces.append(bytes(piece))
                first_was_read.set()
    return pieces, prompt.pop()


print("pyreqwest", version("pyreqwest"))
default, without = asyncio.run(read(None)), asyncio.run(read(0))
for name, (pieces, was_prompt) in {"by default": default, "limit 0": without}.items():
    when = "before the second was sent" if was_prompt else "only after the second was sent"
    print(f"{name}: {pieces}, the first event was handed out {when}")
holds = not default[1] and without[1]
print("" if holds else "This no longer holds.", flush=True)
os._exit(0 if holds else 1)  # its threads may still run while the interpreter ends
PYTHON
