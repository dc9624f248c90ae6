"""Exit codes, and errors as one line of text."""

from __future__ import annotations

from typing import Any

API_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130


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
    if callable(errors):
        problems: Any = errors()
        text = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            if one["loc"]
            else one["msg"]
            for one in problems
        )
        return text.replace("Value error, ", "")
    return str(error) or type(error).__name__
