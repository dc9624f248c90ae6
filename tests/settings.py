"""`python -m tests.settings`: writes docs/configuration.md from the classes."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from langchain_nscale import ChatNscale, NscaleEmbeddings
from langchain_nscale._connection import Connection

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """\
# Settings

This page is written by `python -m tests.settings` from the classes. All settings are
keyword arguments; what isn't a setting is refused, with the name that is meant. To send
the API a field that isn't here, put it in `extra_body`.

Variables: `NSCALE_SERVICE_TOKEN`, else `NSCALE_API_KEY`, has the token;
`NSCALE_BASE_URL`, else `NSCALE_API_BASE`, the address. `HTTPS_PROXY`, `NO_PROXY` and
`SSL_CERT_FILE` are respected. No `OPENAI_*` variable is.

"""
# Of the base class, in our words where its own are about OpenAI.
_WORDS = {
    "cache": "Whether to use LangChain's cache; or a cache of its own.",
    "disable_streaming": "Whether `stream` is one chunk; `'tool_calling'`: with tools.",
    "extra_body": "Further fields of every request, such as vLLM's `top_k`.",
    "frequency_penalty": "Penalises tokens by how often they have come.",
    "include_response_headers": "Whether `response_metadata` has the response's headers.",
    "logit_bias": "Token ids and what to add to their likelihood.",
    "logprobs": "Whether to return log probabilities.",
    "max_tokens": "Longest answer; also given as `max_completion_tokens`.",
    "model_kwargs": "Likewise further fields, which a call's own override.",
    "n": "Number of answers, for `invoke` only.",
    "output_version": "`'v1'`: content as a list of LangChain's blocks.",
    "presence_penalty": "Penalises tokens that have come.",
    "profile": "What the model can do; by default what is known of it.",
    "rate_limiter": "LangChain's limiter of requests.",
    "reasoning_effort": "`'low'`, `'medium'`, `'high'`, for some models `'none'`.",
    "seed": "For answers that can be had again, as far as the service can.",
    "stop": "Texts at which the answer ends.",
    "streaming": "Whether `invoke` streams too.",
    "temperature": "0 to 2; how free the answer is.",
    "top_logprobs": "How many alternatives log probabilities have.",
    "top_p": "Only the likeliest tokens, up to this share.",
}


def docstrings(cls: type) -> dict[str, str]:
    """The texts below a class's fields."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def rows(cls: type[BaseModel], names: list[str], words: dict[str, str]) -> str:
    """A table of settings."""
    lines = ["| setting | type | default | |", "| --- | --- | --- | --- |"]
    for name in names:
        field = cls.model_fields[name]
        shown = field.alias or name
        default = "" if field.default is PydanticUndefined else f"`{field.default!r}`"
        text = " ".join(words[name].split())
        cells = (f"`{shown}`", f"`{_type(field.annotation)}`", default, text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    text = re.sub(r"Optional\[(.*)\]$", r"\1 | None", str(annotation))
    return re.sub(r"\b(?:[a-z_0-9]+\.)+", "", text).replace("NoneType", "None")


def page() -> str:
    """The whole page."""
    shared = docstrings(Connection)
    own = docstrings(ChatNscale)
    own = {name: text for name, text in own.items() if name not in _WORDS}
    embeddings = docstrings(NscaleEmbeddings)
    return (
        HEAD
        + "## How the API is reached\n\n`ChatNscale`, `NscaleEmbeddings` and "
        + "`list_models` alike.\n\n"
        + rows(Connection, list(shared), shared)
        + "\n## `ChatNscale`\n\n"
        + rows(ChatNscale, list(own), own)
        + "\nFields of the request, and what LangChain's models have in common:\n\n"
        + rows(ChatNscale, sorted(_WORDS), _WORDS)
        + "\n## `NscaleEmbeddings`\n\n"
        + rows(NscaleEmbeddings, list(embeddings), embeddings)
    )


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}\n")
