"""`serve`: the stand-in server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NoReturn

import click

from langchain_nscale.testing import NscaleServer
from langchain_nscale.testing._play import documentation_answers, read_script

_VARIABLE = '$env:{} = "{}"' if os.name == "nt" else "export {}={}"


def main(port: int, script: Path | None, *, any_model: bool) -> NoReturn:
    """Run the stand-in server until Ctrl-C."""
    replies, responder = read_script(script) if script else ([], documentation_answers())
    with NscaleServer(port=port, responder=responder, any_model=any_model) as server:
        server.add(*replies)
        click.echo(_VARIABLE.format("NSCALE_BASE_URL", server.base_url))
        click.echo(_VARIABLE.format("NSCALE_SERVICE_TOKEN", server.token))
        how = f"plays {script}, then answers" if script else "answers"
        click.echo(f"The stand-in server {how} by rule. Ctrl-C stops it.", err=True)
        while True:  # unlike an Event, Ctrl-C interrupts it on Windows too
            time.sleep(3600)
