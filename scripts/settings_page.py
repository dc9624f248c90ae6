"""`python -m scripts.settings_page`: writes docs/configuration.md from the classes."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from langchain_nscale import ChatNscale, NscaleEmbeddings
from langchain_nscale._settings.connection import NscaleSettings
from langchain_nscale._settings.fields import ChatFields

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """\
# Settings

<!-- Generated from the source by `python -m scripts.settings_page`; do not edit. -->

All settings are keyword arguments. Unknown arguments are rejected with a suggestion. To
send the API a field that is not listed here, pass it in `extra_body`.

The token is read from `NSCALE_SERVICE_TOKEN`, then `NSCALE_API_KEY`; the address from
`NSCALE_BASE_URL`, then `NSCALE_API_BASE`. `HTTPS_PROXY`, `NO_PROXY` and `SSL_CERT_FILE`
are respected. `OPENAI_*` variables are ignored.

"""
# Settings inherited from langchain-core whose docstrings say little or nothing.
_CORE = {
    "cache": "Whether to use LangChain's global cache, or a cache for this model.",
    "callbacks": "Callbacks for every call of this model.",
    "custom_get_token_ids": "A function that returns the token IDs of a text.",
    "disable_streaming": "Whether `stream` makes a single call; `'tool_calling'`: only "
    "with tools.",
    "metadata": "Metadata to add to traces.",
    "name": "Name of the model in traces.",
    "output_version": "`'v1'` for content as a list of LangChain's content blocks.",
    "profile": "The model's capabilities. Defaults to what is known about the model.",
    "rate_limiter": "LangChain's rate limiter for requests.",
    "tags": "Tags to add to traces.",
    "verbose": "Whether to print every call.",
}


def docstrings(cls: type) -> dict[str, str]:
    """Return the docstrings below a class's fields."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            texts[field.target.id] = inspect.cleandoc(str(text.value.value))
    return texts


@dataclass
class Setting:
    """A setting as a reader sees it; the default is empty if there is none to show."""

    name: str
    type: str
    default: str
    text: str


def settings_of(cls: type[BaseModel]) -> list[Setting]:
    """Return all settings of a class: its own, the connection's and inherited ones."""
    texts: dict[str, str] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("langchain_nscale"):
            texts |= docstrings(base)
    if issubclass(cls, BaseChatModel):
        texts |= _inherited()
    return _settings(cls, texts)


def _settings(cls: type[BaseModel], texts: dict[str, str]) -> list[Setting]:
    fields = [(name, cls.model_fields[name], text) for name, text in texts.items()]
    return [
        Setting(field.alias or name, _type(field), _default(field), text)
        for name, field, text in fields
    ]


def _inherited() -> dict[str, str]:
    return {name: _CORE[name] for name in sorted(BaseChatModel.model_fields)}


def _sections(cls: type[BaseModel], texts: dict[str, str]) -> str:
    sections = []
    for setting in _settings(cls, texts):
        default = f", default `{setting.default}`" if setting.default else ""
        facts = f"`{setting.type}`{default}"
        sections.append(f"### `{setting.name}`\n\n{facts}\n\n{setting.text}\n")
    return "\n".join(sections)


def _default(field: FieldInfo) -> str:
    if field.default_factory is dict:
        return "{}"
    if field.default_factory is list:
        return "[]"
    return "" if field.default in (PydanticUndefined, "") else repr(field.default)


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    text = re.sub(r"Optional\[(.*)\]$", r"\1 | None", str(annotation))
    text = re.sub(r"\b(?:[a-z_0-9]+\.)+", "", text).replace("NoneType", "None")
    return text.replace("UsageCounts", "NscaleUsageCallbackHandler")


def page() -> str:
    """Return the whole page."""
    return (
        HEAD
        + "## Connection\n\nFor `ChatNscale`, `NscaleEmbeddings` and `list_models`.\n\n"
        + _sections(NscaleSettings, docstrings(NscaleSettings))
        + "\n## `ChatNscale`\n\n"
        + _sections(ChatNscale, docstrings(ChatFields))
        + "\n## `ChatNscale`, inherited\n\nFrom LangChain's `BaseChatModel`.\n\n"
        + _sections(ChatNscale, _inherited())
        + "\n## `NscaleEmbeddings`\n\n"
        + _sections(NscaleEmbeddings, docstrings(NscaleEmbeddings))
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
