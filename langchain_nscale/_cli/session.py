"""`chat -i`: an interactive session."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from langchain_core.exceptions import OutputParserException

from langchain_nscale import errors
from langchain_nscale._cli.answer import Answer, ask, print_answer, print_error
from langchain_nscale._cli.display import display_for
from langchain_nscale._cli.exits import full_error_text
from langchain_nscale._cli.files import (
    conversation_text,
    history_file,
    read_conversation,
    write_private,
)
from langchain_nscale._cli.inputs import ChatOptions, Message, image_block, user_message
from langchain_nscale._cli.model import Model
from langchain_nscale._cli.terminal import echo
from langchain_nscale._model_facts import known_profile

HELP = """\
/model [ID]        show or change the model
/system [TEXT]     show or change the system prompt
/image PATH|URL    send an image with the next question (/image clear: none)
/reset             start a new conversation
/save FILE         save the conversation as JSON
/load FILE         continue a saved conversation
/stats             show usage, times and cost of the last answer
/help              show this help
/exit              leave (or press Ctrl-D)
Esc, then Enter starts a new line. Ctrl-C stops an answer."""


class Session:
    """Questions and answers until the user leaves. No error ends it or loses a turn."""

    def __init__(
        self,
        model: Model,
        messages: Sequence[Message],
        options: ChatOptions,
        schema: dict[str, Any] | None,
    ) -> None:
        """Start with earlier turns; if the last one is a question, answer it first."""
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
        """Run the session; return the exit code."""
        if self.messages and self.messages[-1]["role"] == "user":
            question = self.messages.pop()
            self._answer(question)
        _print(f"{self.model.model_name}. /help lists the commands, /exit leaves.")
        read = _reader(list(self._commands))
        while True:
            try:
                line = read()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if _is_farewell(line):
                return 0
            self.handle(line.strip())

    def handle(self, line: str) -> None:
        """Execute a command, or answer a question."""
        if not line:
            return
        name, _, argument = line.partition(" ")
        command = self._commands.get(name)
        try:
            if not line.startswith("/"):
                self._answer(user_message(line, self.images))
                return
            if command is None:
                msg = f"There is no command {name}; /help lists them."
                raise ValueError(msg)  # noqa: TRY301  # one place that prints errors
            text = command(argument.strip())
        except (ValueError, OSError, errors.NscaleError, click.ClickException) as error:
            text = f"Error: {full_error_text(error)}"
        if text:
            _print(text)

    def _answer(self, question: Message) -> None:
        options = self._options
        try:
            answer = ask(
                self.model,
                [*self.messages, question],
                display_for(options),
                stream=not options.no_stream,
                schema=self._schema,
            )
        except (errors.NscaleError, OutputParserException, ValueError) as error:
            print_error(error, as_json=options.as_json)
            if self.images and not getattr(error, "is_retryable", False):
                self.images = []  # else they could fail every later question
                _print("The images were dropped.")
            return
        self.images = []
        self._last = answer
        if answer.text or not answer.interrupted:
            self.messages += [question, answer.message()]
        if answer.interrupted:
            _print("Stopped.")
        print_answer(answer, self.model, options)

    # --- commands -------------------------------------------------------------------

    def _change_model(self, name: str) -> str:
        if name:
            self.model = self.model.model_copy(update={"model_name": name})
        return f"Model: {self.model.model_name}"

    def _change_system(self, text: str) -> str:
        rest = [message for message in self.messages if message["role"] != "system"]
        if text:
            self.messages = [{"role": "system", "content": text}, *rest]
        texts = [message["content"] for message in self._system()]
        return f"System: {' '.join(texts) or '(none)'}"

    def _system(self) -> list[Message]:
        return [message for message in self.messages if message["role"] == "system"]

    def _add_image(self, location: str) -> str:
        if location == "clear":
            self.images = []
        elif location:
            if known_profile(self.model.model_name).get("image_inputs") is False:
                msg = f"{self.model.model_name} only reads text: choose another /model."
                raise ValueError(msg)
            image_block(location)  # raises now if the image is unusable
            self.images.append(location)
        return f"Images with the next question: {', '.join(self.images) or '(none)'}"

    def _reset(self, _: str) -> str:
        self.messages = self._system()
        self.images = []
        return "Conversation reset."

    def _save(self, name: str) -> str:
        text = conversation_text(self.model.model_name, self.messages)
        write_private(_file(name, "/save"), text)
        return f"Saved to {name}."

    def _load(self, name: str) -> str:
        model, messages = read_conversation(_file(name, "/load"))
        self.messages = messages
        self._change_model(model)
        return f"Loaded {len(self.messages)} messages from {name}."

    def _stats(self) -> str:
        if self._last is None:
            return "There is no answer yet."
        return json.dumps(self._last.stats(self.model))


def _file(name: str, command: str) -> Path:
    if not name:
        msg = f"{command} needs the name of a file."
        raise ValueError(msg)
    return Path(name).expanduser()


def _is_farewell(line: str) -> bool:
    words = line.lower().split()
    return words in (["exit"], ["quit"]) or words[:1] in (["/exit"], ["/quit"])


def _print(text: str) -> None:
    echo(text, err=True)


def _reader(commands: list[str]) -> Callable[[], str]:
    """Return a function that reads a line, with editing and history on a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _read_plain
    from prompt_toolkit import PromptSession  # noqa: PLC0415  # slow to import
    from prompt_toolkit.completion import WordCompleter  # noqa: PLC0415  # slow to import
    from prompt_toolkit.history import FileHistory  # noqa: PLC0415  # slow to import
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415  # slow to import

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history_file())),
        completer=WordCompleter([*commands, "/exit"], sentence=True),
        complete_while_typing=False,
        multiline=True,  # pasted lines form one question
        key_bindings=keys,
    )
    return lambda: session.prompt("> ")


def _read_plain() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
