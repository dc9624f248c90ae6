"""The command line: commands and their options. The modules of this package run them.

Each command imports what it needs when it runs, so that start-up adds almost nothing to
the time to first token.
"""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn, TypeVar

import click

from langchain_nscale._cli.exits import (
    API_ERROR,
    INTERRUPTED,
    exit_code,
    full_error_text,
)
from langchain_nscale._cli.files import default_model, store_default_model
from langchain_nscale._cli.terminal import echo

F = TypeVar("F", bound=Callable[..., Any])

BEGAN = monotonic()  # before the imports that take most of the start
DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
EMBEDDING_MODEL = "Qwen/Qwen3-Embedding-8B"
_COMPLETION_VARIABLE = "_LANGCHAIN_NSCALE_COMPLETE"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0 for success, 1 for an error of the API, 2 for a mistake in the command, 130 for
    Ctrl-C.
    """
    _use_lenient_streams()
    if os.environ.get(_COMPLETION_VARIABLE, "").startswith("fish"):
        _use_whole_help_in_fish()
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="langchain-nscale",
            standalone_mode=False,
            color=False if os.environ.get("NO_COLOR") else None,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except (
        BrokenPipeError
    ):  # the reader is gone (`| head`), so there is nowhere to report to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return API_ERROR
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        echo(f"Error: {full_error_text(error)}", err=True)
        return code
    return result if isinstance(result, int) else 0


def _use_lenient_streams() -> None:
    """Replace characters that the terminal's encoding lacks, and skip a BOM in input.

    Closed streams (`>&-`) are replaced, since Python has `None` for them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  # stays
            setattr(sys, name, null)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.encoding.lower() == "utf-8":
        sys.stdin.reconfigure(encoding="utf-8-sig")


# --- shared options ---------------------------------------------------------------------


def _options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_connection = _options(
    click.option(
        "-t",
        "--token",
        metavar="TOKEN",
        help="Service token. Other users of this machine can see it in the process "
        "list: prefer the variable NSCALE_SERVICE_TOKEN.",
    ),
    click.option("--base-url", metavar="URL", help="Address of the API."),
    click.option("--local", is_flag=True, help="Use a stand-in server; no token needed."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Timeout in seconds."),
)


def _model_ids(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Complete the ID of a known model from any part of it."""
    from langchain_nscale.data._profiles import _PROFILES  # noqa: PLC0415

    if context.command.name == "embed":
        return [EMBEDDING_MODEL]
    return [name for name in _PROFILES if begun.lower() in name.lower()]


def _effort_levels(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Complete the levels of the model, if one is given, or the usual ones."""
    from langchain_nscale.data._profiles import _PROFILES  # noqa: PLC0415

    profile = _PROFILES.get(context.params.get("model") or "", {})
    levels = profile.get("reasoning_effort_levels") or ["low", "medium", "high"]
    return [level for level in levels if level.startswith(begun)]


_model = click.option(
    "-m",
    "--model",
    metavar="ID",
    shell_complete=_model_ids,
    envvar="NSCALE_MODEL",
    default=lambda: default_model(DEFAULT_MODEL),
    show_default=DEFAULT_MODEL,
    show_envvar=True,
    help="ID of the model.",
)
# A new sampling option also needs a field in `_inputs.SamplingOptions`.
_sampling = _options(
    click.option(
        "--max-tokens", type=int, metavar="N", help="Maximum number of generated tokens."
    ),
    click.option("--temperature", type=float, metavar="T", help="From 0 to 2."),
    click.option("--top-p", type=float, metavar="P", help="From 0 to 1."),
    click.option("--seed", type=int, metavar="N", help="For reproducible sampling."),
    click.option(
        "--stop", multiple=True, metavar="TEXT", help="Stop sequence; can be repeated."
    ),
    click.option(
        "--reasoning-effort",
        metavar="LEVEL",
        shell_complete=_effort_levels,
        help="Such as low, medium or high.",
    ),
    click.option(
        "-o",
        "fields",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other field of the request, in JSON or as text; can be repeated.",
    ),
)
_system = click.option("-s", "--system", metavar="TEXT", help="System prompt.")
_schema = click.option(
    "--json-schema",
    "schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a JSON Schema for the answer.",
)


def _limit(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Check an amount of money: `nan` would never be reached, 0 allows no request."""
    if value is not None and not 0 < value < math.inf:
        msg = f"{value} is not an amount of US dollars that could be spent."
        raise click.BadParameter(msg)
    return value


# --- commands ---------------------------------------------------------------------------


def _version(context: click.Context, _: click.Parameter, requested: bool) -> None:
    if requested:
        from langchain_nscale import __version__  # noqa: PLC0415  # imported on demand

        click.echo(__version__)
        context.exit()


class _Group(click.Group):
    """Asks a model if a question is given in place of a command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return the command, or raise a usage error.

        Only text that contains white space counts as a question: a mistyped command must
        never become a paid request.
        """
        if len(args[0].split()) > 1:
            args = ["chat", *args]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if args[0].startswith("-"):
                raise
            similar = get_close_matches(args[0], self.commands, n=1)
            msg = f"No such command {args[0]!r}."
            if similar:
                msg += f" Did you mean {similar[0]!r}?"
            else:
                msg += (
                    f" The commands are {', '.join(self.commands)}. To ask a model: "
                    f"langchain-nscale chat {args[0]!r}"
                )
            raise click.UsageError(msg, ctx) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Use Nscale's models from the command line.

    A question in quotes, in place of a command, is answered as by `chat`. The token is
    read from NSCALE_SERVICE_TOKEN, the address from NSCALE_BASE_URL.
    """


@cli.command()
@click.argument("prompt", required=False)
@_connection
@_model
@click.option("-i", "--interactive", is_flag=True, help="Start an interactive session.")
@click.option(
    "--message",
    "messages",
    multiple=True,
    metavar="ROLE:TEXT",
    help="Earlier turn (system, user or assistant); can be repeated.",
)
@_system
@_sampling
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="PATH|URL",
    help="Image to send with the prompt, - for standard input; can be repeated.",
)
@_schema
@click.option(
    "--reasoning/--no-reasoning",
    default=None,
    help="Show the model's reasoning (on standard error). Default: on a terminal.",
)
@click.option("--stats", is_flag=True, help="Print usage, times and cost as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per answer.")
@click.option("--no-stream", is_flag=True, help="Print the answer once it is complete.")
@click.option(
    "-x", "--extract", is_flag=True, help="Print only the first code block of the answer."
)
@click.option(
    "-c", "--continue", "resume", is_flag=True, help="Continue the last conversation."
)
@click.option(
    "-n",
    "--no-stdin",
    is_flag=True,
    help="Ignore standard input, as in a loop over its lines.",
)
@click.option(
    "--log/--no-log",
    default=True,
    help="Keep the conversation for -c, in a file that only you can read. Default: yes.",
)
def chat(**options: Any) -> int:
    """Ask a model. Text that is piped in follows PROMPT.

    \b
    langchain-nscale chat "Why is the sky blue?"
    langchain-nscale chat -i --message "system:Answer in rhymes."
    git diff | langchain-nscale chat "Write a commit message."
    """  # noqa: D301  # click's marker for lines that are not rewrapped
    from langchain_nscale._cli.chat import main  # noqa: PLC0415
    from langchain_nscale._cli.inputs import ChatOptions  # noqa: PLC0415

    return main(ChatOptions(**options))


@cli.command("help")
@click.argument("command", required=False)
@click.pass_context
def show_help(context: click.Context, command: str | None) -> None:
    """Show the help of a command."""
    parent = context.parent or context
    if command is None:
        click.echo(parent.get_help())
        return
    name, found, _ = cli.resolve_command(parent, [command])
    click.echo(found.get_help(click.Context(found, parent=parent, info_name=name)))


@cli.command()
@click.argument("model", metavar="[ID]", required=False, shell_complete=_model_ids)
@click.option("--unset", is_flag=True, help="Forget the stored model.")
def default(model: str | None, unset: bool) -> int:
    """Show, or store, the default model. NSCALE_MODEL and -m take precedence."""
    from langchain_nscale.data._profiles import _PROFILES  # noqa: PLC0415

    if unset or model:
        path = store_default_model(None if unset else model)
        echo("Forgotten." if unset else f"Stored in {path}.", err=True)
    else:
        echo(os.environ.get("NSCALE_MODEL") or default_model(DEFAULT_MODEL))
    if model and not unset and model not in _PROFILES:
        similar = get_close_matches(model, _PROFILES, n=1)
        hint = f" Did you mean {similar[0]}?" if similar else ""
        echo(f"{model} is none of the known models.{hint}", err=True)
    return 0


@cli.command()
@click.argument("part", required=False, shell_complete=_model_ids)
@_connection
@click.option("--kind", type=click.Choice(["chat", "embedding", "image"]))
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def models(**options: Any) -> int:
    """List models with their prices; only those with PART in their ID.

    Prices are US dollars per million tokens (for image models, per megapixel).
    """
    from langchain_nscale._cli.inputs import ModelsOptions  # noqa: PLC0415
    from langchain_nscale._cli.models import main  # noqa: PLC0415

    return main(ModelsOptions(**options))


@cli.command()
@click.argument("texts", nargs=-1)
@_connection
@click.option(
    "-m",
    "--model",
    metavar="ID",
    default=EMBEDDING_MODEL,
    show_default=True,
    shell_complete=_model_ids,
)
@click.option(
    "--file",
    "-f",
    type=click.File("rb"),
    help="File with one text per line; - for input.",
)
@click.option("--dimensions", type=int, metavar="N", help="Length of the vectors.")
@click.option("--query", is_flag=True, help="Embed as queries, not as documents.")
def embed(**options: Any) -> int:
    """Embed TEXTS, or the lines of a file; print a JSON object for each."""
    from langchain_nscale._cli.embed import main  # noqa: PLC0415
    from langchain_nscale._cli.inputs import EmbedOptions  # noqa: PLC0415

    return main(EmbedOptions(**options))


@cli.command()
@_connection
@_model
def doctor(**options: Any) -> int:
    """Check the installation, token and API."""
    from langchain_nscale._cli.doctor import main  # noqa: PLC0415
    from langchain_nscale._cli.inputs import DoctorOptions  # noqa: PLC0415

    return main(DoctorOptions(**options))


@cli.command()
@click.option("--port", type=int, default=0, help="Port; a free one by default.")
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with replies: texts or objects, as JSON or one per line. Without one, the "
    "documentation's questions are answered.",
)
@click.option("--any-model", is_flag=True, help="Accept unknown model IDs too.")
def serve(port: int, script: Path | None, any_model: bool) -> NoReturn:
    """Run the stand-in server until Ctrl-C. It rejects unknown models, as Nscale does."""
    from langchain_nscale._cli.serve import main  # noqa: PLC0415

    main(port, script, any_model=any_model)


@cli.command()
@click.argument(
    "source",
    metavar="IN.jsonl",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True),
)
@click.argument(
    "target", metavar="OUT.jsonl", type=click.Path(dir_okay=False, path_type=Path)
)
@_connection
@_model
@_system
@_sampling
@_schema
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Maximum number of concurrent requests.",
)
@click.option(
    "--max-retries",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Maximum number of retries per request.",
)
@click.option(
    "--as-completed", is_flag=True, help="Write results in order of completion."
)
@click.option(
    "--max-spend",
    type=float,
    callback=_limit,
    metavar="DOLLARS",
    help="Stop at this cost in US dollars.",
)
@click.option(
    "--max-wait",
    type=click.FloatRange(0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a service that is down before stopping.",
)
@click.option("--retry-failed", is_flag=True, help="Retry the lines that failed.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "lines", "none"]),
    default="auto",
    show_default=True,
    help="Report progress: a bar in a terminal, otherwise lines from time to time.",
)
def batch(**options: Any) -> int:
    """Send each line of a file to a model.

    A line is {"prompt": "..."} or {"messages": [...]}, optionally with your own `id` and
    `metadata`, and with `model`, `system`, `temperature`, `max_tokens`, `stop` or `seed`
    where they differ; or it has OpenAI's batch format. Failed lines are written to
    OUT.jsonl.failed. If a run stops for any reason, run the command again to continue.
    """
    from langchain_nscale._cli.batch.run import main  # noqa: PLC0415
    from langchain_nscale._cli.inputs import BatchOptions  # noqa: PLC0415

    source = click.get_current_context().get_parameter_source("model")
    is_given = source is click.core.ParameterSource.COMMANDLINE
    return main(BatchOptions(**options, replaces_model=is_given))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a completion script, e.g. for `eval "$(… completion bash)"`."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    if cls := get_completion_class(shell):
        script = cls(cli, {}, "langchain-nscale", _COMPLETION_VARIABLE)
        click.echo(script.source())
    return 0


def _use_whole_help_in_fish() -> None:
    """Write help without commas, at which click's script for fish cuts it (click 8.5)."""
    from click import shell_completion as click_completion  # noqa: PLC0415

    class Fish(click_completion.FishComplete):
        def format_completion(self, item: click_completion.CompletionItem) -> str:
            item.help = (item.help or "").replace(",", ";") or None
            return super().format_completion(item)

    click_completion.add_completion_class(Fish)


for _command in cli.commands.values():
    _command.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            hidden=True,
        )
    )
