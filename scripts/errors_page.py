"""`python -m scripts.errors_page`: writes docs/errors.md from the error classes."""

from __future__ import annotations

import sys
from pathlib import Path

import langchain_core.exceptions

from langchain_nscale import NscaleError
from tests.conditions import CONDITIONS

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
HEAD = """\
---
hide:
  - toc # leaves room for the table
---

# Errors

<!-- Generated from the source by `python -m scripts.errors_page`; do not edit. -->

Every failed call raises an `NscaleError`. Its class is also langchain-core's class for
the same condition, as it is with other providers, so `except ModelRateLimitError`,
`with_fallbacks` and `ModelRetryMiddleware` need no change. None is a class of the OpenAI
SDK; see [migrating](migrating.md#errors).

```python
from langchain_nscale import ChatNscale, NscaleAuthenticationError, NscaleError

model = ChatNscale(model="meta-llama/Llama-3.1-8B-Instruct", service_token="expired")
try:
    model.invoke("Why is the sky blue?")
except NscaleAuthenticationError as error:
    print(error.status_code, error.error_type, error.is_retryable)
except NscaleError as error:  # any other failure of a call
    print(error)
```

```text
401 INVALID_TOKEN False
```

An invalid setting or message raises a `ValueError` (or `TypeError`) before anything is
sent; it names the field or the variable.

## What an error contains

An error has `status_code`, `code`, `error_type`, `param`, `request_id`, `retry_after`
(seconds), `retries`, `body` and, for streams, `partial`: the message received so far. It
never contains the service token.

## Retries

"Retryable" means the same request may succeed later. ChatNscale retries HTTP, connection
and timeout errors up to `max_retries` times (2 by default), with exponential backoff or
the server's Retry-After plus some random time, but never after the first token has been
delivered. "Retried" names these errors. `timeout` limits each phase of each attempt;
`total_timeout` limits the whole call. A request that failed for lack of credit is never
retried: the service receives it once, where an integration built on the OpenAI SDK sends
it three times. For retries elsewhere, such as LangGraph's `RetryPolicy` and `with_retry`,
`should_retry` is the condition; see [agents](agents.md#errors-in-agents).

## All errors

"""


def caught_as(kind: type[NscaleError]) -> list[str]:
    """Return langchain-core's classes that catch an error too."""
    bases = {
        value: name
        for name, value in vars(langchain_core.exceptions).items()
        if isinstance(value, type) and value in kind.__mro__ and "Error" in name
    }
    return [
        f"`{name}`"
        for base, name in bases.items()
        if not any(other is not base and issubclass(other, base) for other in bases)
    ]


def page() -> str:
    """Return the whole page."""
    rows = [
        "| What happens | Class | In langchain-core | Retryable | Retried | What to do |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in CONDITIONS:
        cells = (
            row.what,
            f"`{row.kind.__name__}`",
            ", ".join(caught_as(row.kind)),
            "yes" if row.kind.is_retryable else "no",
            "yes" if row.kind.is_retried else "no",
            row.kind.advice,
        )
        rows.append("| " + " | ".join(cells) + " |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
