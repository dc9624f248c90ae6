"""`serve`: the stand-in server."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from langchain_nscale.testing import NscaleServer
from langchain_nscale.testing._play import read_script


def main(port: int, script: Path | None) -> int:
    """Run the stand-in server until Ctrl-C."""
    replies, responder = ([], None) if script is None else read_script(script)
    with NscaleServer(port=port, responder=responder) as server:
        server.add(*replies)
        click.echo(f"export NSCALE_BASE_URL={server.base_url}")
        click.echo(f"export NSCALE_SERVICE_TOKEN={server.token}")
        how = f"plays {script}, then answers" if script else "answers"
        click.echo(f"The stand-in server {how} by rule. Ctrl-C stops it.", err=True)
        threading.Event().wait()
    return 0
