"""`chat -i`: an interactive session."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from langchain_core.messages import (
    BaseMessage,
    SystemMessage,
)

from langchain_nscale import ChatNscale, errors
from langchain_nscale._cli.answer import Answer, ask
from langchain_nscale._cli.display import display_for
from langchain_nscale._cli.exits import error_text
from langchain_nscale._cli.files import (
    PRIVATE,
    conversation_text,
    history_file,
    read_conversation,
)
from langchain_nscale._cli.inputs import ChatOptions, image_block, user_message
from langchain_nscale._cli.terminal import echo

HELP = """\
/model [ID]        show or change the model
/system [TEXT]     show or change the system prompt
/image PATH|URL    send an image with the next question
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
        model: ChatNscale,
        messages: Sequence[BaseMessage],
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
        if self.messages and self.messages[-1].type == "human":
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
            if line.strip().lower() in ("/exit", "/quit", "exit", "quit"):
                return 0
            self.handle(line.strip())

    def handle(self, line: str) -> None:
        """Execute a command, or answer a question."""
        if not line:
            return
        name, _, argument = line.partition(" ")
        if not line.startswith("/"):
            self._answer(user_message(line, self.images))
            return
        command = self._commands.get(name)
        if command is None:
            _print(f"There is no command {name}; /help lists them.")
            return
        try:
            text = command(argument.strip())
        except (ValueError, OSError, errors.NscaleError, click.ClickException) as error:
            text = f"Error: {error_text(error)}"
        if text:
            _print(text)

    def _answer(self, question: BaseMessage) -> None:
        display = display_for(reasoning=self._options.reasoning)
        stream = not self._options.no_stream
        try:
            answer = ask(
                self.model,
                [*self.messages, question],
                display,
                stream=stream,
                schema=self._schema,
            )
        except (errors.NscaleError, ValueError) as error:
            _print(f"Error: {error_text(error)}")
            return
        self.images = []
        self._last = answer
        if answer.text or not answer.interrupted:
            self.messages += [question, answer.message()]
        if answer.interrupted:
            _print("Stopped.")
        if self._options.stats:
            _print(self._stats())

    # --- commands -------------------------------------------------------------------

    def _change_model(self, name: str) -> str:
        if name:
            self.model = self.model.model_copy(update={"model_name": name})
        return f"Model: {self.model.model_name}"

    def _change_system(self, text: str) -> str:
        rest = [message for message in self.messages if message.type != "system"]
        if text:
            self.messages = [SystemMessage(text), *rest]
        texts = [message.text for message in self.messages if message.type == "system"]
        return f"System: {' '.join(texts) or '(none)'}"

    def _add_image(self, location: str) -> str:
        image_block(location)  # raises now if the image is unusable
        self.images.append(location)
        return f"Images with the next question: {len(self.images)}"

    def _reset(self, _: str) -> str:
        self.messages = [message for message in self.messages if message.type == "system"]
        self.images = []
        return "Conversation reset."

    def _save(self, name: str) -> str:
        text = conversation_text(self.model.model_name, self.messages)
        path = Path(name).expanduser()
        path.touch(mode=PRIVATE)
        path.write_text(text, encoding="utf-8")
        return f"Saved to {name}."

    def _load(self, name: str) -> str:
        model, messages = read_conversation(Path(name).expanduser())
        self.messages = messages
        self._change_model(model)
        return f"Loaded {len(self.messages)} messages from {name}."

    def _stats(self) -> str:
        if self._last is None:
            return "There is no answer yet."
        return json.dumps(self._last.stats(self.model))


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
