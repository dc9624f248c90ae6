#!/usr/bin/env bash
# Celery: an exception whose class can't be made from its `args` alone arrives at `task.get()` as the
# nearest base class for which that works. The OpenAI SDK's RateLimitError arrives as OpenAIError,
# without status, headers and body. An exception with a plain constructor keeps its class.
#
# Guess: `except openai.RateLimitError` works around `task.get()`.
# Why it matters: that clause is never reached, and what
# tells a 429 from a wrong key is gone.
# Celery runs with its file system broker: no server is needed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    celery==5.7.0 openai==3.57.0 httpx2==2.16.2
cat >"$folder/finding.py" <<'PYTHON'
import subprocess
import sys
from pathlib import Path

import celery
import httpx2
import openai

FOLDER = Path(__file__).parent
QUEUE, RESULTS = FOLDER / "queue", FOLDER / "results"
for folder in (QUEUE, RESULTS):
    folder.mkdir(exist_ok=True)
app = celery.Celery("finding", broker="filesystem://", backend=f"file://{RESULTS}")
app.conf.broker_transport_options = {
    "data_folder_in": str(QUEUE), "data_folder_out": str(QUEUE), "control_folder": str(QUEUE)
}


@app.task(name="ask")
def ask():
    request = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")
    response = httpx2.Response(429, headers={"retry-after": "7"}, request=request)
    raise openai.RateLimitError("slow down", response=response, body=None)


@app.task(name="connect")
def connect():
    raise ConnectionRefusedError("nobody listens")


def raised(task):
    try:
        task.delay().get(timeout=90)
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "status_code", None)
    return None


def main():
    print(f"celery {celery.__version__}, openai {openai.__version__}")
    command = [sys.executable, "-m", "celery", "-A", "finding", "worker", "-P", "solo"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "CRITICAL"]
    worker = subprocess.Popen(
        [*command, *quiet], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        plain, refused = raised(connect), raised(ask)
    finally:
        worker.terminate()
        worker.wait()
    print("raised ConnectionRefusedError('nobody listens'), arrived (class, text, status):", plain)
    print("raised RateLimitError('slow down') with 429, arrived:", refused)
    holds = plain == ("ConnectionRefusedError", "nobody listens", None)
    holds &= refused == ("OpenAIError", "slow down", None)
    return None if holds else "This no longer holds."


if __name__ == "__main__":
    sys.exit(main())
PYTHON
cd "$folder"
"$folder/venv/bin/python" finding.py
