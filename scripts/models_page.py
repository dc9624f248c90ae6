"""`python -m scripts.models_page`: writes docs/models.md from the profiles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from langchain_nscale.data._profiles import _PROFILES

PAGE = Path(__file__).parents[1] / "docs" / "models.md"

# US dollars per million input and output tokens, from `GET /v1/models` on that date.
DATE = "2026-09-14"
PRICES = {
    "openai/gpt-oss-120b": (0.10, 0.40),
    "openai/gpt-oss-20b": (0.05, 0.20),
    "moonshotai/Kimi-K2.5": (0.45, 2.20),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (0.05, 0.20),
    "meta-llama/Llama-3.1-8B-Instruct": (0.06, 0.06),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": (0.09, 0.29),
    "Qwen/Qwen3-235B-A22B": (0.20, 0.60),
    "Qwen/Qwen3-235B-A22B-Instruct-2507": (0.20, 0.60),
    "Qwen/Qwen3-32B": (0.08, 0.25),
    "Qwen/Qwen3-14B": (0.07, 0.20),
    "Qwen/Qwen3-8B": (0.07, 0.18),
    "Qwen/Qwen3-4B-Instruct-2507": (0.01, 0.03),
    "Qwen/Qwen3-4B-Thinking-2507": (0.01, 0.03),
    "Qwen/Qwen2.5-Coder-32B-Instruct": (0.06, 0.20),
    "Qwen/Qwen2.5-Coder-7B-Instruct": (0.01, 0.03),
    "Qwen/Qwen2.5-Coder-3B-Instruct": (0.01, 0.03),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": (0.05, 0.05),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (0.15, 0.15),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": (0.20, 0.20),
    "mistralai/Devstral-Small-2505": (0.10, 0.30),
    "mistralai/mixtral-8x22b-instruct-v0.1": (1.20, 1.20),
}

HEAD = f"""\
---
hide:
  - toc # leaves room for the table
---

# Models and prices

<!-- Generated from the source by `python -m scripts.models_page`; do not edit. -->

Nscale's chat models on {DATE}, with prices in US dollars per million input and output
tokens. Models come and go, and any other ID works too. The current list, with prices:

```bash
pip install "langchain-nscale[cli]"
langchain-nscale models
```

In Python, [`model.list_models()`](usage.md#the-model-list) returns it.

## Which model?

- **To begin with**, and for tool calls: `meta-llama/Llama-3.1-8B-Instruct`.
- **For agents** that reason: `openai/gpt-oss-120b`; `openai/gpt-oss-20b` costs half as
  much.
- **For images** (vision): `meta-llama/Llama-4-Scout-17B-16E-Instruct`.
- **For high volume** at the lowest price: `Qwen/Qwen3-4B-Instruct-2507`.
- **For retrieval**: `Qwen/Qwen3-Embedding-8B`, with `NscaleEmbeddings`.

## Chat models and their pricing

The price is for input / output. ✓ means yes, - means no; an empty cell means that public
sources contradict each other or say nothing, and the model may still be able to do it.
`model.profile` has the same facts.

"""
TAIL = """
## Embedding models

| ID | context | price |
| --- | --- | --- |
| `Qwen/Qwen3-Embedding-8B` | 32,768 | 0.04 |

Its vectors have up to 4,096 dimensions; see [Embeddings](embeddings.md).
"""
_COLUMNS = {
    "tools": "tool_calling",
    "schema": "structured_output",
    "reasoning": "reasoning_output",
    "images": "image_inputs",
}


def page() -> str:
    """Return the whole page."""
    names = ["ID", "price", "context", *_COLUMNS]
    lines = ["| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    for model, profile in _PROFILES.items():
        if model in PRICES:
            lines.append("| " + " | ".join(_cells(model, profile)) + " |")
    return HEAD + "\n".join(lines) + "\n" + TAIL


def _cells(model: str, profile: dict[str, Any]) -> list[str]:
    context = profile.get("max_input_tokens")
    facts = [profile.get(key) for key in _COLUMNS.values()]
    return [
        f"`{model}`",
        "\u00a0/\u00a0".join(f"{price:.2f}" for price in PRICES[model]),  # one line
        "" if context is None else f"{context:,}",
        *("" if fact is None else "✓" if fact else "-" for fact in facts),
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
