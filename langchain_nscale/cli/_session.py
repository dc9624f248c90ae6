"""`chat -i`: a conversation."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from langchain_core.messages import (
    BaseMessage,
    SystemMessage,
    convert_to_messages,
    convert_to_openai_messages,
)

from langchain_nscale import ChatNscale, NscaleError
from langchain_nscale.cli import what_is_wrong
from langchain_nscale.cli._answer import Answer, ask
from langchain_nscale.cli._display import display_for
from langchain_nscale.cli._model import image_block, user_message

HELP = """\
/model [ID]        show or change the model
/system [TEXT]     show or change what the model is to do
/image PATH|URL    send an image with the next question
/reset             begin anew
/save FILE         save the conversation as JSON
/load FILE         go on with a saved one
/stats             use, times and cost of the last answer
/help              this
/exit              leave, as Ctrl-D does
Esc, then Enter begins a new line. Ctrl-C stops an answer."""


class Session:
    """Questions and answers until the user leaves. No error ends it or loses a turn."""

    def __init__(
        self,
        model: ChatNscale,
        messages: Sequence[BaseMessage],
        options: dict[str, Any],
        schema: dict[str, Any] | None,
    ) -> None:
        """Begin with some turns; a question among them is answered first."""
        self.model = model
        self.messages = list(messages)
        self.images: list[str] = []
        self._options = options
        self._schema = schema
        self._last: Answer | None = None
        self._commands: dict[str, Callable[[str], str | None]] = {
            "/help": lambda _: HELP,
            "/model": self._change_model,
            "/system": self._change_system,
            "/image": self._add_image,
            "/reset": self._reset,
            "/save": self._save,
            "/load": self._load,
            "/stats": lambda _: self._stats(),
        }

    def run(self) -> int:
        """Converse; return the exit code."""
        if self.messages and self.messages[-1].type == "human":
            question = self.messages.pop()
            self._answer(question)
        read = _reader(list(self._commands))
        while True:
            try:
                line = read()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if line.strip() in ("/exit", "/quit"):
                return 0
            self.take(line.strip())

    def take(self, line: str) -> None:
        """A command, or a question."""
        if not line:
            return
        name, _, argument = line.partition(" ")
        if not line.startswith("/"):
            self._answer(user_message(line, self.images))
            return
        command = self._commands.get(name)
        if command is None:
            _tell(f"There is no command {name}; /help lists them.")
            return
        try:
            said = command(argument.strip())
        except (ValueError, OSError, NscaleError, click.ClickException) as error:
            said = f"Error: {what_is_wrong(error)}"
        if said:
            _tell(said)

    def _answer(self, question: BaseMessage) -> None:
        display = display_for(reasoning=self._options["reasoning"])
        stream = not self._options["no_stream"]
        try:
            answer = ask(
                self.model,
                [*self.messages, question],
                display,
                stream=stream,
                schema=self._schema,
            )
        except (NscaleError, ValueError) as error:
            _tell(f"Error: {what_is_wrong(error)}")
            return
        self.images = []
        self._last = answer
        if answer.text or not answer.interrupted:
            self.messages += [question, answer.message()]
        if answer.interrupted:
            _tell("Stopped.")
        if self._options["stats"]:
            _tell(self._stats())

    # --- commands -------------------------------------------------------------------

    def _change_model(self, name: str) -> str:
        if name:
            self.model = self.model.model_copy(update={"model_name": name})
        return f"Model: {self.model.model_name}"

    def _change_system(self, text: str) -> str:
        rest = [message for message in self.messages if message.type != "system"]
        if text:
            self.messages = [SystemMessage(text), *rest]
        found = [message.text for message in self.messages if message.type == "system"]
        return f"System: {' '.join(found) or '(nothing)'}"

    def _add_image(self, place: str) -> str:
        image_block(place)  # says now what is wrong with it
        self.images.append(place)
        return f"Images with the next question: {len(self.images)}"

    def _reset(self, _: str) -> str:
        self.messages = [message for message in self.messages if message.type == "system"]
        self.images = []
        return "Begun anew."

    def _save(self, name: str) -> str:
        saved = {
            "model": self.model.model_name,
            "messages": convert_to_openai_messages(self.messages),
        }
        Path(name).expanduser().write_text(
            json.dumps(saved, ensure_ascii=False, indent=1)
        )
        return f"Saved to {name}."

    def _load(self, name: str) -> str:
        saved = json.loads(Path(name).expanduser().read_text())
        try:
            self.messages = convert_to_messages(saved["messages"])
            self._change_model(saved["model"])
        except (KeyError, TypeError, NotImplementedError) as error:
            msg = f"{name} isn't a saved conversation: {error!r}"
            raise ValueError(msg) from None
        return f"Loaded {len(self.messages)} messages from {name}."

    def _stats(self) -> str:
        if self._last is None:
            return "There is no answer yet."
        return json.dumps(self._last.stats(self.model))


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _reader(commands: list[str]) -> Callable[[], str]:
    """What reads the next line: with editing and history on a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _read_plain
    from prompt_toolkit import PromptSession  # noqa: PLC0415  # slow, and not for pipes
    from prompt_toolkit.completion import WordCompleter  # noqa: PLC0415  # likewise
    from prompt_toolkit.history import FileHistory  # noqa: PLC0415  # likewise
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415  # likewise

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(_history_file())),
        completer=WordCompleter([*commands, "/exit"], sentence=True),
        complete_while_typing=False,
        multiline=True,  # a paste of many lines is one question
        key_bindings=keys,
    )
    return lambda: session.prompt("> ")


def _read_plain() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _history_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) / "langchain-nscale"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "history"
