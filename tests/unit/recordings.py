"""Replies recorded from the real vLLM engine: tests/unit/wire/<version>/<name>.txt.

Each file has the request (lines with `> `), the status and headers (`< `), an empty line
and the body. Content lengths are not exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2

FOLDER = Path(__file__).parent / "wire"
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Recording:
    """A request and its reply."""

    name: str
    path: str
    request: Any
    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> httpx2.Response:
        return httpx2.Response(
            self.status,
            content=self.body,
            headers=self.headers,
            request=httpx2.Request("POST", f"http://localhost{self.path}"),
        )


def read(path: Path) -> Recording:
    """Parse a recording."""
    lines = path.read_bytes().split(b"\n")
    request = []
    headers = {}
    status = 0
    end = len(lines)
    for number, line in enumerate(lines):
        if line.startswith(b"> "):
            request.append(line[2:].decode())
        elif line.startswith(b"< HTTP"):
            status = int(line.split()[2])
        elif line.startswith(b"< "):
            name, _, value = line[2:].decode().partition(": ")
            headers[name.lower()] = value.strip()
        elif line.strip(b"\r> ") == b"" and status:
            end = number + 1
            break
    content = "".join(request[1:])
    for name in ("content-length", "transfer-encoding"):
        headers.pop(name, None)
    return Recording(
        name=str(path.relative_to(FOLDER).with_suffix("")),
        path=request[0].split()[1],
        request=_decoded(content),
        status=status,
        headers=headers,
        body=b"\n".join(lines[end:]),
    )


def _decoded(content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


@cache
def recordings() -> dict[str, Recording]:
    """All recordings by name."""
    found = (read(path) for path in sorted(FOLDER.rglob("*.txt")))
    return {recording.name: recording for recording in found}
