"""Exit codes, and errors as one line of text in the words of the command line."""

from __future__ import annotations

import re
from typing import Any

API_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130

# Settings of the package and the options that set them.
OPTIONS = {
    "api_key": "--token",
    "base_url": "--base-url",
    "dimensions": "--dimensions",
    "extra_body": "-o",
    "max_retries": "--max-retries",
    "max_tokens": "--max-tokens",
    "model": "--model",
    "model_name": "--model",
    "reasoning_effort": "--reasoning-effort",
    "request_timeout": "--timeout",
    "seed": "--seed",
    "service_token": "--token",
    "stop": "--stop",
    "temperature": "--temperature",
    "timeout": "--timeout",
    "top_p": "--top-p",
}
# Names that only exist in Python. Advice that mentions one of them is left out.
PYTHON_ONLY = (
    "allow_insecure_http",
    "chunk_size",
    "default_headers",
    "default_query",
    "disable_streaming",
    "document_instruction",
    "empty_text",
    "extra_headers",
    "http_async_client",
    "http_client",
    "include_response_headers",
    "invoke",
    "max_chunk_bytes",
    "max_concurrency",
    "max_response_bytes",
    "merge_system_messages",
    "method",
    "output_version",
    "partial",
    "profile",
    "query_instruction",
    "reasoning_history",
    "schema_with_tools",
    "show_progress_bar",
    "stream_chunk_timeout",
    "stream_usage",
    "template_rules",
    "think_tags",
    "tiktoken_model_name",
    "tokenizer",
    "total_timeout",
)
_NAME = re.compile(rf"(?:argument )?`({'|'.join(OPTIONS)})`")
_LOCATION = re.compile(rf"(^|(?<=: )|(?<=; ))({'|'.join(OPTIONS)}): ")
_TEXT = re.compile(r"`texts\[(\d+)\]`")
_UNUSABLE = re.compile(rf"`({'|'.join(PYTHON_ONLY)})\b|\b({'|'.join(PYTHON_ONLY)})=")
_SENTENCES = re.compile(r"(?<=[.!?]) (?=[A-Z`-])")
_CLAUSES = re.compile(r"(; |, or |: (?=remove|use|check|set|pass))")


def exit_code(error: Exception) -> int | None:
    """Return the exit code for an error, or `None` if the error is a bug."""
    from langchain_core.exceptions import OutputParserException  # noqa: PLC0415  # slow

    from langchain_nscale.errors import NscaleError  # noqa: PLC0415  # slow

    if isinstance(error, (NscaleError, OutputParserException)):
        return API_ERROR
    return USAGE_ERROR if isinstance(error, (ValueError, OSError)) else None


def error_text(error: BaseException) -> str:
    """Return an error as one line, without pydantic's additions."""
    errors: Any = getattr(error, "errors", None)
    if isinstance(error, UnicodeDecodeError):
        return f"The input is not {error.encoding}. Store or send it as UTF-8."
    if callable(errors):
        problems: Any = errors()
        text = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            if one["loc"]
            else one["msg"]
            for one in problems
        )
        return in_options(text.replace("Value error, ", ""))
    return in_options(str(error)) or type(error).__name__


def full_error_text(error: BaseException) -> str:
    """Return an error as one line, with the ID of its request if it has one."""
    text = error_text(error)
    request_id = getattr(error, "request_id", None)
    return text if request_id is None else f"{text} (request {request_id})"


def in_options(text: str) -> str:
    """Name options of the command line in place of settings of the package."""
    text = _TEXT.sub(lambda found: f"text {int(found[1]) + 1}", text)
    text = _NAME.sub(lambda found: OPTIONS[found[1]], text)
    text = _LOCATION.sub(lambda found: f"{OPTIONS[found[2]]}: ", text)
    if _UNUSABLE.search(text):
        usable = map(_usable_part, _SENTENCES.split(text))
        text = " ".join(sentence for sentence in usable if sentence)
    return text


def _usable_part(sentence: str) -> str:
    """Leave out the clauses of a sentence that only help in Python."""
    if not _UNUSABLE.search(sentence):
        return sentence
    clauses = _CLAUSES.split(sentence)
    kept = ""
    before = ""
    for joint, clause in zip(["", *clauses[1::2]], clauses[::2], strict=True):
        if _UNUSABLE.search(clause):
            before = before or joint
        else:
            kept += ((before or joint) if kept else "") + clause
            before = ""
    return kept[:1].upper() + kept[1:].rstrip(".") + "." if kept else ""
