"""Finds error objects in response bodies, wherever services and proxies put them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import jiter

from langchain_nscale._json import to_json_text

_EXCERPT = 500  # characters of a body that a message shows
_READ = 50_000  # characters of a message to search

# Patterns are compiled when they are first used: most programs never need them, and
# compiling all of the package's would take 3 ms of its import. The one exception is that
# of every error, whose compilation would make the first one block its event loop.

# An entry of a validation error, as Python or JSON: its location and its message. All
# repetitions are bounded, so that a hostile text costs linear time.
_PROBLEM = (
    r"""['"]loc['"]:\s{0,9}[(\['"](.{0,2000}?)[)\]'"],\s{0,9}"""
    r"""['"]msg['"]:\s{0,9}"""
    r"""(?:'((?:[^'\\]|\\.){0,2000})'|"((?:[^"\\]|\\.){0,2000})")"""
)
_TRACEBACK = r'(?s)File "[^"\n]*", line \d{1,9}, in .*'

# Phrases with which vLLM, SGLang, TGI, llama.cpp, TensorRT, LM Studio, Ollama and common
# proxies report an overlong prompt.
_OVERFLOW = re.compile(
    r"""(?ix)
    maximum\ (context|model|input)\ length
    | context_length_exceeded | exceed_context_size
    | max_model_len
    | exceeds?\ (the\ )?(model's\ |available\ )?(maximum\ )?(context|input\ length)
    | (longer|greater|larger)\ than\ the\ (model's\ )?(maximum\ )?context
    | model's\ context\ length\ is\ only
    | max_tokens\ must\ be\ at\ least\ 1,\ got\ -\d\d
    | inputs?`?\ (tokens\ )?\+\ `?max_new_tokens | must\ have\ less\ than\ \d+\ tokens
    | (prompt|input|request)\ (is\ )?too\ (long|large|many\ tokens)
    | (prompt|input)\ exceeds | context\ (size|window|length)\ (is\ )?exceeded
    | (exceeds|exceeded|overflows?)\ (the\ )?(\w+\ )?context\ (window|size|length)
    | greater\ than\ the\ context\ length | context\ the\ overflows"""
)


MAX_TOKENS_TOO_HIGH = r"parameter=max_tokens\b|max_tokens=\d+ cannot be greater than"


def decode_body(content: bytes) -> object:
    """Decode a body: JSON to Python objects, anything else to text, nothing to `None`."""
    if not content.strip():
        return None
    try:
        return jiter.from_json(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def error_object(body: object) -> Mapping[str, Any] | None:
    """Return the error object of a body, or `None` if it has none.

    Accepts Nscale's `{"error": {...}}`, a string in its place, vLLM's flat
    `{"object": "error", "message": ...}` and FastAPI's `{"detail": ...}`.
    """
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    if isinstance(error, Mapping):
        return error
    if isinstance(error, str):
        return {**body, "message": error}
    message = body.get("message") if "choices" not in body else None
    if body.get("object") == "error" or isinstance(message, str):
        return body
    if "choices" not in body and "detail" in body:
        return {"message": body["detail"]}
    return None


def error_message(error: Mapping[str, Any]) -> str | None:
    """Return what an error object says is wrong, in about 500 characters."""
    # Validation errors repeat the rejected request, which is the user's conversation, and
    # name files of the server. Only their locations and messages are returned.
    message = error.get("message")
    if message is None:
        return None
    text = message if isinstance(message, str) else to_json_text(message)
    text = text[:_READ]
    problems = []
    for found in re.finditer(_PROBLEM, text):
        location = ".".join(part.strip(" '\"") for part in (found[1] or "").split(","))
        location = location.removeprefix("body").strip(".")
        problem = (found[3] or found[2] or "").removeprefix("Value error, ")
        problems.append(f"{location}: {problem}" if location else problem)
    if problems:
        shown = list(dict.fromkeys(problems))
        more = f" (and {len(shown) - 3} more)" if len(shown) > 3 else ""  # noqa: PLR2004  # enough to act on
        return excerpt("; ".join(shown[:3]) + more)
    return excerpt(re.sub(_TRACEBACK, "", text))


def error_kind(error: Mapping[str, Any]) -> str | None:
    """Return the service's own name for the kind of an error, if it is not a number."""
    for key in ("error_type", "type", "code"):
        kind = text_or_none(error.get(key))
        if kind and not kind.isdigit():
            return kind
    return None


def reports_error(body: Mapping[str, Any]) -> bool:
    """Return whether a body says that it is an error, even next to choices or data."""
    return bool(body.get("error")) or body.get("object") == "error"


def is_missing_path(body: object) -> bool:
    """Return whether the body of a 404 says that the path does not exist."""
    # FastAPI has its own form; a body that is not JSON is a web server's page.
    return isinstance(body, str) or (
        isinstance(body, Mapping) and body.get("detail") == "Not Found"
    )


def error_kinds(error: Mapping[str, Any]) -> set[str]:
    """Return the codes and types by which an error object names itself, in upper case."""
    return {str(error.get(key)).upper() for key in ("error_type", "type", "code")}


def is_overflow(error: Mapping[str, Any], message: str) -> bool:
    """Return whether an error reports a prompt that is too long for the model."""
    # A `max_tokens` that exceeds it is another error: a shorter prompt would not help.
    if error.get("param") == "max_tokens" or re.search(MAX_TOKENS_TOO_HIGH, message):
        return False
    found = _OVERFLOW.search(message)
    return found is not None or "CONTEXT_LENGTH_EXCEEDED" in error_kinds(error)


def error_status(error: Mapping[str, Any], message: str) -> int | None:
    """Return the HTTP status that an error object inside a 2xx response stands for."""
    code = str(error.get("status") or error.get("status_code") or error.get("code"))
    if re.fullmatch(r"[1-5]\d\d", code, re.ASCII):
        return int(code)
    if error_kinds(error) & {"INSUFFICIENT_CREDIT", "TOO_MANY_REQUESTS"}:
        return 429
    return 400 if is_overflow(error, message) else None


# LiteLLM's proxy (1.108) renames the headers of the service behind it.
_RETRY_AFTER = (
    ("retry-after-ms", 1000.0),
    ("retry-after", 1.0),
    ("llm_provider-retry-after-ms", 1000.0),
    ("llm_provider-retry-after", 1.0),
)


def is_unknown_model(message: str) -> bool:
    """Return whether a rejected request names a model that LiteLLM's proxy lacks."""
    # Its status is 400 (1.108); a service has 404.
    return "Invalid model name passed in model=" in message


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the wait in seconds requested by `retry-after-ms` or `retry-after`.

    `retry-after` can be a number of seconds or an HTTP date; a date in the past is 0.
    """
    for name, unit in _RETRY_AFTER:
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                date = parsedate_to_datetime(value)
                if date.tzinfo is None:  # obsolete forms, which mean UTC
                    date = date.replace(tzinfo=timezone.utc)
                seconds = date.timestamp() - time()
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds < float("inf"):  # which NaN isn't, either
            return max(seconds, 0.0)
    return None


def text_or_none(value: object) -> str | None:
    """Return a value as text; `None` stays `None`."""
    return None if value is None else str(value)


def excerpt(text: str) -> str:
    """Return the beginning of a text on one line."""
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
