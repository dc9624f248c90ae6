"""Runs the real vLLM server for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_nscale import ChatNscale, NscaleEmbeddings
from tests.vllm.environment import FOLDER, HERE, MODELS, PYTHON

KEY = "test-key"
STARTUP_SECONDS = 300  # almost all of it imports
HERMES = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@dataclass(frozen=True)
class Engine:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a model or of embeddings for this server."""
        return {"base_url": self.base_url, "service_token": KEY, "max_retries": 0}

    def chat(self, **settings: Any) -> ChatNscale:
        defaults = {"model": "smol", "max_tokens": 150, "temperature": 0, "seed": 7}
        return ChatNscale(**{**defaults, **self.settings, **settings})

    def embeddings(self, **settings: Any) -> NscaleEmbeddings:
        return NscaleEmbeddings(**{"model": "emb", **self.settings, **settings})

    def metric(self, name: str) -> float:
        """The value of a metric of the engine."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:  # loopback
            for line in page.read().decode().splitlines():
                if line.startswith(f"vllm:{name}{{"):
                    return float(line.rpartition(" ")[2])
        raise AssertionError(name)

    def engine_process(self) -> int:
        """The ID of the process that runs the model, apart from the server's."""
        output = subprocess.check_output(  # noqa: S603  # our own
            ["/usr/bin/pgrep", "-P", str(self.process.pid), "-f", "EngineCore"], text=True
        )
        return int(output.split()[0])


@contextmanager
def running(
    *options: str, model: str = "tiny", script: Path | None = None
) -> Iterator[Engine]:
    """Start a server; yield once it answers.

    Args:
        options: Further options of the server.
        model: `"tiny"` says what the script tells, `"smol"` has SmolLM2's weights, and
            `"minilm"` embeds.
        script: The rules for `"tiny"`.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *(str(PYTHON), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(MODELS / model), "--host", "127.0.0.1", "--port", str(port)),
        *("--api-key", KEY, "--max-num-seqs", "64", "--enforce-eager"),
        *(
            "--served-model-name",
            *(["emb"] if model == "minilm" else ["smol", "smol-too"]),
        ),
    ]
    if model == "minilm":
        command += ["--runner", "pooling", "--dtype", "float32"]
    else:
        command += ["--served-model-name", "smol", "smol-too"]
        command += ["--max-model-len", "4096", "--dtype", "bfloat16"]
        command += ["--enable-request-id-headers"]
        command += ["--chat-template", str(HERE / "template.jinja")]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1" if model == "tiny" else "2",
        "PYTHONPATH": str(HERE),
    }
    if model == "tiny":
        command += ["--load-format", "dummy", "--logits-processors", "scripted:Scripted"]
        environment["VLLM_SCRIPT"] = str(script or HERE / "rules.json")
    log = FOLDER / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own
            [*command, *options],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that its workers can be ended with it
        )
    try:
        _wait(port, process, log)
        yield Engine(port, process)
    finally:
        _stop(process)
        log.unlink(missing_ok=True)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _is_healthy(port):
            return
        time.sleep(0.5)  # the server offers nothing to wait for
    msg = "vLLM did not start:\n" + log.read_text(errors="replace")[-3000:]
    raise RuntimeError(msg)


def _is_healthy(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/health"
        with urllib.request.urlopen(url, timeout=2):  # loopback
            return True
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
    with suppress(ProcessLookupError):  # a start that was given up leaves workers behind
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
