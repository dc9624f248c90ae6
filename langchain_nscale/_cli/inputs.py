"""The options of each command, and their conversion to settings and messages."""

from __future__ import annotations

import json
import mimetypes
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import click

from langchain_nscale._cli.files import ROLES
from langchain_nscale._cli.stdin import decoded

Message = dict[str, Any]  # in the API's form


# --- options ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """Where to send requests."""

    token: str | None
    base_url: str | None
    local: bool
    timeout: float | None

    @contextmanager
    def settings(self) -> Iterator[dict[str, Any]]:
        """Yield the settings of the connection; runs the stand-in server if requested."""
        settings = _without_none(
            service_token=self.token, base_url=self.base_url, timeout=self.timeout
        )
        if not self.local:
            yield settings
            return
        from langchain_nscale.testing import NscaleServer  # noqa: PLC0415  # only here
        from langchain_nscale.testing._play import (  # noqa: PLC0415
            documentation_answers,
        )

        with NscaleServer(responder=documentation_answers()) as server:
            yield {**settings, **server.settings}


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Sampling settings of a chat model, under their own names."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: Sequence[str]
    reasoning_effort: str | None
    fields: Sequence[str]

    def sampling(self) -> dict[str, Any]:
        """Return the sampling settings that are set."""
        values = {name: getattr(self, name) for name in SAMPLING}
        extra = dict(map(parse_field, self.fields))
        return _without_none(
            **{**values, "stop": list(self.stop) or None, "extra_body": extra or None}
        )


SAMPLING = {field.name for field in fields(SamplingOptions)} - {"fields"}


def parse_field(text: str) -> tuple[str, Any]:
    """Parse a request field from `name=value`; the value is JSON, or else a text.

    Raises:
        click.BadParameter: There is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        msg = f"{text!r} is not of the form name=value."
        raise click.BadParameter(msg, param_hint="-o")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@dataclass(frozen=True, kw_only=True)
class ChatOptions(ConnectionOptions, SamplingOptions):
    """Options of `chat`."""

    prompt: str | None
    model: str
    interactive: bool
    messages: Sequence[str]
    system: str | None
    images: Sequence[str]
    schema: Path | None
    reasoning: bool | None
    stats: bool
    as_json: bool
    no_stream: bool
    extract: bool
    resume: bool
    log: bool
    no_stdin: bool


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(ConnectionOptions):
    """Options of `models`."""

    part: str | None
    kind: str | None
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(ConnectionOptions):
    """Options of `embed`."""

    texts: Sequence[str]
    model: str
    file: BinaryIO | None
    dimensions: int | None
    query: bool


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(ConnectionOptions):
    """Options of `doctor`."""

    model: str


@dataclass(frozen=True, kw_only=True)
class BatchOptions(ConnectionOptions, SamplingOptions):
    """Options of `batch`."""

    source: Path
    target: Path
    model: str
    replaces_model: bool
    system: str | None
    schema: Path | None
    concurrency: int
    max_retries: int
    as_completed: bool
    max_spend: float | None
    max_wait: float
    retry_failed: bool
    progress: str


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# --- messages and schemas ---------------------------------------------------------------


def parse_message(text: str) -> Message:
    """Parse a message from `role:text`; the text can contain colons too.

    Raises:
        click.BadParameter: The role is unknown.
    """
    role, colon, content = text.partition(":")
    role = role.strip().lower()
    if not colon or role not in ROLES:
        msg = f"{text!r} is not of the form role:text with role {', '.join(ROLES)}."
        raise click.BadParameter(msg, param_hint="--message")
    return {"role": role, "content": content.strip()}


def user_message(prompt: str, images: Sequence[str] = ()) -> Message:
    """Return a prompt with its images as one message."""
    if not images:
        return {"role": "user", "content": prompt}
    blocks = [{"type": "text", "text": prompt}] if prompt else []
    return {"role": "user", "content": [*blocks, *map(image_block, images)]}


def image_block(location: str) -> dict[str, Any]:
    """Return the content block of an image, from a URL or a file.

    Raises:
        click.BadParameter: The file does not exist, or its name is not that of an image.
    """
    if location.startswith(("http://", "https://", "data:")):
        return _image(location)
    if location == "-":
        return _image_of(sys.stdin.buffer.read(), "standard input")
    kind = mimetypes.guess_type(location)[0] or ""
    if not kind.startswith("image/"):
        msg = f"{location!r} does not have the file extension of an image."
        raise click.BadParameter(msg, param_hint="--image")
    try:
        data = Path(location).read_bytes()
    except OSError as error:
        msg = f"{location!r} can't be read: {error.strerror}."
        raise click.BadParameter(msg, param_hint="--image") from None
    return _image(f"data:{kind};base64,{b64encode(data).decode()}")


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


_SIGNATURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


def _image_of(data: bytes, source: str) -> dict[str, Any]:
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return _image(f"data:{kind};base64,{b64encode(data).decode()}")
    msg = f"{source} has no PNG, JPEG, GIF or WebP image."
    raise click.BadParameter(msg, param_hint="--image")


def read_schema(path: Path) -> dict[str, Any]:
    """Read a JSON Schema from a file.

    Raises:
        click.BadParameter: The file does not contain a JSON object.
    """
    try:
        schema = json.loads(decoded(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not JSON: {error}"
        raise click.BadParameter(msg, param_hint="--json-schema") from None
    if not isinstance(schema, dict):
        msg = f"{path} is not a JSON object."
        raise click.BadParameter(msg, param_hint="--json-schema")
    return schema
