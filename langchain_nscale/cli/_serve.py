"""`serve`: the stand-in server."""

from __future__ import annotations

import threading

import click

from langchain_nscale.testing import NscaleServer


def main(port: int) -> int:
    """Run the stand-in server until Ctrl-C."""
    with NscaleServer(port=port) as server:
        click.echo(f"export NSCALE_BASE_URL={server.base_url}")
        click.echo(f"export NSCALE_SERVICE_TOKEN={server.token}")
        click.echo("The stand-in server answers by rule. Ctrl-C stops it.", err=True)
        threading.Event().wait()
    return 0
