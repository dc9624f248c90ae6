#!/usr/bin/env bash
# The OpenAI SDK keeps cookies: the "sticky session" cookie of a load balancer comes back with
# every later call of the client, so that a process's calls, however many, all go to one replica.
# Copies made by `with_options(api_key=…)` share the cookies of the first key.
#
# Guess: an API client that authenticates with a header has no cookies.
# Why it matters: three replicas behind an ingress with session affinity, one of them at 100 %.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    openai==3.57.0 httpx2==2.16.2
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

REPLICAS = ("a", "b", "c")
asked = []


class Balancer(BaseHTTPRequestHandler):
    """Take turns, unless the client brings the cookie that names a replica."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        cookie = (self.headers["Cookie"] or "").removeprefix("replica=")
        replica = cookie or REPLICAS[len(asked) % len(REPLICAS)]
        asked.append((self.headers["Authorization"].split()[1], replica))
        message = {"role": "assistant", "content": replica}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps({**reply, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", f"replica={replica}; Path=/; HttpOnly")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Balancer)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(
    # pragma: allowlist nextline secret
    api_key="first", base_url=f"http://127.0.0.1:{server.server_port}/v1"
)
second = client.with_options(api_key="second")
for one in [client] * 6 + [second] * 3:
    one.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
counts = Counter(asked)
print("openai", openai.__version__, "- nine calls, three replicas that take turns:")
for (key, replica), count in counts.items():
    print(f"key {key!r}: {count} calls at replica {replica}")
holds = counts == {("first", "a"): 6, ("second", "a"): 3}
sys.exit(None if holds else "This no longer holds.")
PYTHON
