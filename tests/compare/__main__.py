"""`make compare`: which integration does what, seen on the stand-in server."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from langchain_nscale.testing import NscaleServer
from tests.compare.features import FEATURES, TOKEN

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PAGE = Path("docs/comparison.md")
# Package, class, the setting for the address, the beginning of the model's name.
CLIENTS = {
    "ChatNscale": ("langchain_nscale", "base_url", ""),
    "ChatOpenAI": ("langchain_openai", "base_url", ""),
    "ChatDeepSeek": ("langchain_deepseek", "api_base", ""),
    "ChatXAI": ("langchain_xai", "base_url", ""),
    "ChatGroq": ("langchain_groq", "base_url", ""),
    "ChatOpenRouter": ("langchain_openrouter", "base_url", ""),
    "ChatLiteLLM": ("langchain_litellm", "api_base", "nscale/"),
}


def groq_clients(url: str) -> dict[str, Any]:
    """Clients that undo the beginning which Groq's SDK gives to every path."""
    httpx = import_module("httpx")

    def right_path(request: Any) -> None:
        path = request.url.path.replace("/v1/openai/v1", "/v1")
        request.url = request.url.copy_with(path=path)

    async def aright_path(request: Any) -> None:
        right_path(request)

    return {
        "http_client": httpx.Client(base_url=url, event_hooks={"request": [right_path]}),
        "http_async_client": httpx.AsyncClient(
            base_url=url, event_hooks={"request": [aright_path]}
        ),
    }


class Maker:
    """Makes models of one client, for one server."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        package, self._address, self._prefix = CLIENTS[name]
        self._class = getattr(import_module(package), name)
        self._url = url
        self.fields: Mapping[str, object] = self._class.model_fields

    def __call__(self, model: str = MODEL, **settings: Any) -> Any:
        named = {"model": self._prefix + model, "api_key": TOKEN}
        if self.name == "ChatGroq":
            named |= groq_clients(self._url)
        return self._class(
            **{**named, self._address: self._url, "max_retries": 0, **settings}
        )


def check(name: str) -> dict[str, bool]:
    """Put one client to every check."""
    warnings.simplefilter("ignore")
    logging.disable()
    found = {}
    with NscaleServer(token=TOKEN) as server:
        for label, test in FEATURES.items():
            server.reset()
            try:
                test(server, Maker(name, server.settings["base_url"]))
                found[label] = True
            except (Exception, pytest.fail.Exception) as error:  # whatever comes
                found[label] = False
                print(f"{name}, {label}: {error!r}"[:300], file=sys.stderr)
    return found


def in_its_own_process(name: str) -> dict[str, bool]:
    environment = {k: v for k, v in os.environ.items() if "LANGSMITH" not in k}
    command = [sys.executable, "-m", "tests.compare", name]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env=environment, timeout=300
    )
    result: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Compare all, print the table and write it into the documentation."""
    if len(sys.argv) > 1:
        print(json.dumps(check(sys.argv[1])))
        return
    found = {name: in_its_own_process(name) for name in CLIENTS}
    lines = [
        "| What | " + " | ".join(CLIENTS) + " |",
        "| --- |" + " --- |" * len(CLIENTS),
    ]
    for label in FEATURES:
        marks = ["yes" if found[name][label] else "-" for name in CLIENTS]
        lines.append(f"| {label} | " + " | ".join(marks) + " |")
    alone = sum(
        found["ChatNscale"][label]
        and not any(found[name][label] for name in CLIENTS if name != "ChatNscale")
        for label in FEATURES
    )
    table = "\n".join(lines)
    print(table)
    print(f"{alone} rows that only ChatNscale has")
    before, mark, _ = PAGE.read_text().partition("<!-- table -->\n")
    PAGE.write_text(f"{before}{mark}\n{table}\n")


if __name__ == "__main__":
    main()
