"""The command line: options here, what they do in the modules beside.

Nothing but click is imported before a command needs it: the first token of an answer is
to come hardly later than in a script that does nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
API_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130

_IN_PROCESS_LISTS = (
    "Service token. Other users of this machine see it in the list of processes: prefer "
    "the variable NSCALE_SERVICE_TOKEN."
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0, or 1 for an error of the API, 2 for a mistake in the command, 130 for Ctrl-C.
    """
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="langchain-nscale",
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # as by `| head`; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return API_ERROR
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        click.echo(f"Error: {what_is_wrong(error)}", err=True)
        return code
    return result if isinstance(result, int) else 0


def _code_of(error: Exception) -> int | None:
    """The exit code for an error; `None` for a bug."""
    from langchain_core.exceptions import OutputParserException  # noqa: PLC0415  # slow

    from langchain_nscale.errors import NscaleError  # noqa: PLC0415  # likewise

    if isinstance(error, (NscaleError, OutputParserException)):
        return API_ERROR
    return USAGE_ERROR if isinstance(error, (ValueError, OSError)) else None


def what_is_wrong(error: BaseException) -> str:
    """An error in a line, without what pydantic adds to it."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        said = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            if one["loc"]
            else one["msg"]
            for one in errors()
        )
        return said.replace("Value error, ", "")
    return str(error) or type(error).__name__


# --- options that several commands share ------------------------------------------------


def _options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_connection = _options(
    click.option("-t", "--token", metavar="TOKEN", help=_IN_PROCESS_LISTS),
    click.option("--base-url", metavar="URL", help="Address of the API."),
    click.option("--local", is_flag=True, help="Ask a stand-in server; needs no token."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Time for an answer."),
)
_model = click.option(
    "-m",
    "--model",
    metavar="ID",
    envvar="NSCALE_MODEL",
    default=DEFAULT_MODEL,
    show_default=True,
    show_envvar=True,
    help="Model to ask.",
)
_sampling = _options(
    click.option("--max-tokens", type=int, metavar="N", help="Longest answer."),
    click.option("--temperature", type=float, metavar="T"),
    click.option("--seed", type=int, metavar="N"),
    click.option("--stop", multiple=True, metavar="TEXT", help="End there; repeatable."),
)
_schema = click.option(
    "--json-schema",
    "schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON Schema that the answer has to follow.",
)


# --- commands ---------------------------------------------------------------------------


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from langchain_nscale import __version__  # noqa: PLC0415  # like all imports here

        click.echo(__version__)
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version
)
def cli() -> None:
    """Nscale's models on the command line.

    The token is taken from NSCALE_SERVICE_TOKEN, the address from NSCALE_BASE_URL.
    """


@cli.command()
@click.argument("prompt", required=False)
@_connection
@_model
@click.option("-i", "--interactive", is_flag=True, help="Go on asking.")
@click.option(
    "--message",
    "messages",
    multiple=True,
    metavar="ROLE:TEXT",
    help="Earlier turn (system, user or assistant); repeatable.",
)
@click.option("--system", metavar="TEXT", help="What the model is to do.")
@_sampling
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="PATH|URL",
    help="Image to go with the prompt; repeatable.",
)
@_schema
@click.option(
    "--reasoning/--no-reasoning",
    default=None,
    help="Show the model's reasoning (on standard error). Default: on a terminal.",
)
@click.option("--stats", is_flag=True, help="Use, times and cost as JSON.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each answer.")
@click.option("--no-stream", is_flag=True, help="Show the answer when it is whole.")
def chat(**options: Any) -> int:
    """Ask a model; PROMPT may be - for standard input.

    \b
    langchain-nscale chat "Why is the sky blue?"
    langchain-nscale chat -i --message "system:Answer in rhymes."
    git diff | langchain-nscale chat --system "Write a commit message." -
    """  # noqa: D301  # click's mark for lines to leave as they are
    from langchain_nscale.cli._chat import main  # noqa: PLC0415

    return main(**options)


@cli.command()
@click.argument("part", required=False)
@_connection
@click.option("--kind", type=click.Choice(["chat", "embedding", "image"]))
@click.option("--json", "as_json", is_flag=True, help="A list of JSON objects.")
def models(**options: Any) -> int:
    """List the models with their prices; those with PART in their id.

    Prices are US dollars per million tokens (images: per megapixel).
    """
    from langchain_nscale.cli._lists import show_models  # noqa: PLC0415

    return show_models(**options)


@cli.command()
@click.argument("texts", nargs=-1)
@_connection
@click.option(
    "-m", "--model", metavar="ID", default="Qwen/Qwen3-Embedding-8B", show_default=True
)
@click.option("--file", "-f", type=click.File(), help="A text in each line; - for input.")
@click.option("--dimensions", type=int, metavar="N")
@click.option("--query", is_flag=True, help="Embed as queries, not as documents.")
def embed(**options: Any) -> int:
    """Embed TEXTS, or the lines of a file; print a JSON object for each."""
    from langchain_nscale.cli._lists import embed_texts  # noqa: PLC0415

    return embed_texts(**options)


@cli.command()
@_connection
@_model
def doctor(**options: Any) -> int:
    """Say whether everything is in order, a line for each thing."""
    from langchain_nscale.cli._doctor import examine  # noqa: PLC0415

    return examine(**options)


@cli.command()
@click.option("--port", type=int, default=0, help="By default a free one.")
def serve(port: int) -> int:
    """Run the stand-in server until Ctrl-C."""
    from langchain_nscale.cli._lists import serve_stand_in  # noqa: PLC0415

    return serve_stand_in(port)


@cli.command()
@click.argument(
    "source",
    metavar="IN.jsonl",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.argument(
    "target", metavar="OUT.jsonl", type=click.Path(dir_okay=False, path_type=Path)
)
@_connection
@_model
@click.option("--system", metavar="TEXT", help="What the model is to do.")
@_sampling
@_schema
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True)
@click.option("--max-retries", type=click.IntRange(0), default=2, show_default=True)
@click.option("--as-completed", is_flag=True, help="Don't keep the order of the lines.")
@click.option(
    "--max-spend", type=float, metavar="DOLLARS", help="Stop after so many US dollars."
)
@click.option("--retry-failed", is_flag=True, help="Try the lines again that failed.")
def batch(**options: Any) -> int:
    """Send each line of a file through a model.

    A line is {"prompt": "..."} or {"messages": [...]}, with `id` and `metadata` of your
    own and with `model`, `system`, `temperature`, `max_tokens`, `stop`, `seed` where they
    differ. Failed lines go to OUT.jsonl.failed. Stopped in any way and started again, it
    goes on where it was.
    """
    from langchain_nscale.cli._batch import main  # noqa: PLC0415

    return main(**options)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a completion script, e.g. for `eval "$(… completion bash)"`."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    if cls := get_completion_class(shell):
        script = cls(cli, {}, "langchain-nscale", "_LANGCHAIN_NSCALE_COMPLETE")
        click.echo(script.source())
    return 0
