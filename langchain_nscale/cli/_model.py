"""From options to a model and messages."""

from __future__ import annotations

import json
import mimetypes
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)

_ROLES: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


@contextmanager
def connection(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Settings of the connection that options ask for, without those that they leave."""
    settings = {
        "service_token": options.get("token"),
        "base_url": options.get("base_url"),
        "timeout": options.get("timeout"),
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if not options.get("local"):
        yield given
        return
    from langchain_nscale.testing import NscaleServer  # noqa: PLC0415  # only here

    with NscaleServer() as server:
        yield {**given, **server.settings}


def sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling settings that are given."""
    names = ("max_tokens", "temperature", "seed")
    given = {name: options[name] for name in names if options.get(name) is not None}
    if options.get("stop"):
        given["stop"] = list(options["stop"])
    return given


def parse_message(text: str) -> BaseMessage:
    """A message from `role:text`; the text may have colons too.

    Raises:
        click.BadParameter: There is no such role.
    """
    role, colon, content = text.partition(":")
    kind = _ROLES.get(role.strip().lower())
    if not colon or kind is None:
        msg = f"{text!r} isn't of the form role:text with role {', '.join(_ROLES)}."
        raise click.BadParameter(msg, param_hint="--message")
    return kind(content=content.strip())


def user_message(prompt: str, images: Sequence[str] = ()) -> HumanMessage:
    """A prompt with its images."""
    if not images:
        return HumanMessage(prompt)
    blocks = [{"type": "text", "text": prompt}] if prompt else []
    return HumanMessage([*blocks, *map(image_block, images)])


def image_block(place: str) -> dict[str, Any]:
    """A content block of an image, by its address or from a file.

    Raises:
        click.BadParameter: The file isn't there, or isn't an image by its name.
    """
    if place.startswith(("http://", "https://", "data:")):
        return {"type": "image", "url": place}
    kind = mimetypes.guess_type(place)[0] or ""
    if not kind.startswith("image/"):
        msg = f"{place!r} isn't an image by its name."
        raise click.BadParameter(msg, param_hint="--image")
    try:
        data = Path(place).read_bytes()
    except OSError as error:
        msg = f"{place!r} can't be read: {error.strerror}."
        raise click.BadParameter(msg, param_hint="--image") from None
    return {"type": "image", "base64": b64encode(data).decode(), "mime_type": kind}


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON Schema from a file.

    Raises:
        click.BadParameter: It isn't one.
    """
    try:
        schema = json.loads(path.read_text())
    except ValueError as error:
        msg = f"{path} isn't JSON: {error}"
        raise click.BadParameter(msg, param_hint="--json-schema") from None
    if not isinstance(schema, dict):
        msg = f"{path} isn't a JSON object."
        raise click.BadParameter(msg, param_hint="--json-schema")
    return schema
