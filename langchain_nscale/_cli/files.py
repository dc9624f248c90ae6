"""The command line's own files: the default model, the last conversation, the history."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from langchain_nscale._cli.terminal import echo

ROLES = ("system", "user", "assistant")
_PRIVATE = 0o600  # conversations are for the user alone
_FOLDER = "langchain-nscale"


def _folder(variable: str, *default: str) -> Path:
    base = os.environ.get(variable) or Path.home().joinpath(*default)
    return Path(base) / _FOLDER


def write_private(path: Path, text: str) -> None:
    """Replace a file at once by one that only its owner can read.

    Raises:
        OSError: It can't be written; then it is as it was.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        msg = f"{path} is not a file."
        raise OSError(msg)
    with NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as new:
        temporary = Path(new.name)
        try:
            new.write(text)
            new.flush()
        except BaseException:
            temporary.unlink()
            raise
    temporary.replace(path)


def _store(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, text)


def history_file() -> Path:
    """Return the file with the questions of interactive sessions, creating it."""
    history = _folder("XDG_STATE_HOME", ".local", "state") / "history"
    history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    history.touch(mode=_PRIVATE)
    history.chmod(_PRIVATE)  # it may have been there with another mode
    return history


# --- the default model ------------------------------------------------------------------


def _settings_file() -> Path:
    return _folder("XDG_CONFIG_HOME", ".config") / "settings.json"


def default_model(fallback: str) -> str:
    """Return the stored default model, if there is one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(_settings_file().read_text(encoding="utf-8"))["model"]
        if isinstance(stored, str) and stored:
            return stored
    return fallback


def store_default_model(model: str | None) -> Path:
    """Store a default model, or forget the stored one; return the file."""
    path = _settings_file()
    if model is None:
        path.unlink(missing_ok=True)
        return path
    _store(path, json.dumps({"model": model}) + "\n")
    return path


# --- the last conversation ------------------------------------------------------------


def _conversation_file() -> Path:
    return _folder("XDG_STATE_HOME", ".local", "state") / "conversation.json"


def conversation_text(model: str, messages: Sequence[dict[str, Any]]) -> str:
    """Return a conversation in the form that `read_conversation` reads."""
    saved = {"model": model, "messages": messages}
    return json.dumps(saved, ensure_ascii=False, indent=1)


def store_conversation(model: str, messages: Sequence[dict[str, Any]]) -> None:
    """Store a conversation, unless its folder is read-only."""
    try:
        _store(_conversation_file(), conversation_text(model, messages))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            echo(f"-c won't continue this conversation: {error}", err=True)


def last_conversation() -> tuple[str, list[dict[str, Any]]]:
    """Return the model and the messages of the last conversation.

    Raises:
        ValueError: There is none.
    """
    path = _conversation_file()
    if not path.exists():
        msg = "There is no conversation to continue."
        raise ValueError(msg)
    return read_conversation(path)


def read_conversation(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return the model and the messages of a saved conversation.

    Raises:
        OSError: The file can't be read.
        ValueError: It has something else.
    """
    data = path.read_bytes()
    try:
        saved = json.loads(data)
        model, messages = saved["model"], saved["messages"]
        kinds = {(each["role"], type(each["content"])) for each in messages}
        known = {(role, kind) for role in ROLES for kind in (str, list)}
        if not isinstance(model, str) or not isinstance(messages, list) or kinds - known:
            raise TypeError(saved.keys())  # noqa: TRY301  # one message for all problems
    except Exception as error:  # noqa: BLE001  # a file can contain anything
        msg = f"{path} is not a saved conversation: {error!r}"
        raise ValueError(msg) from None
    return model, messages
