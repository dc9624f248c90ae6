"""`python -m scripts.templates_page`: writes docs/templates.md from the rules."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from langchain_nscale.data._profiles import _PROFILES
from langchain_nscale.templates import FAMILIES, TemplateFamily, TemplateRules, family_of

PAGE = Path(__file__).parents[1] / "docs" / "templates.md"

# Templates of llama-cpp-python 0.3.36 that don't carry the strict form whole, and why;
# `make test-templates` checks both lists.
NOT_WHOLE = {
    "CohereForAI-c4ai-command-r-plus-tool_use": "raises without tools",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "raises without tools",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "raises without tools",
    "fireworks-ai-llama-3-firefunction-v2": "wants a variable `functions`",
}
_SHOWS_NONE = "shows no tools"
NOT_WHOLE_WITH_TOOLS = {
    "CohereForAI-c4ai-command-r-plus-tool_use": "wants a description for each argument",
    "HuggingFaceTB-SmolLM3-3B": "shows only tools in its own variables",
    "Kimi-K2-Instruct": "raises at every call: transformers forbids `append`",
    "Kimi-K2-Thinking": "raises at every call: transformers forbids `append`",
    "LFM2-8B-A1B": "leaves out calls",
    "LFM2.5-Instruct": "leaves out calls",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": _SHOWS_NONE,
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": _SHOWS_NONE,
    "deepseek-ai-DeepSeek-V3.1": _SHOWS_NONE,
    "fireworks-ai-llama-3-firefunction-v2": "wants a variable `functions`",
    "google-gemma-2-2b-it": _SHOWS_NONE,
    "ibm-granite-granite-3.3-2B-Instruct": "leaves out calls",
    "llama-cpp-deepseek-r1": "raises with tools",
    "llama-cpp-rwkv-world": _SHOWS_NONE,
    "meetkai-functionary-medium-v3.2": "wants arguments as a text, not as an object",
    "microsoft-Phi-3.5-mini-instruct": _SHOWS_NONE,
}

HEAD = """\
# What the model reads

<!-- Generated from the source by `python -m scripts.templates_page`; do not edit. -->

A model never sees the messages of a request. The server renders them with the model's
own chat template, and what the template has no place for is rejected, or left out of
the prompt without a word. Llama 3.1 rejects two tool calls in one message, and leaves
out the text beside a call. `ChatNscale` knows the templates of Nscale's models, and
sends every conversation in a form that arrives whole: histories that another model has
written, trimmed histories, tool calls made at the same time.

- Nothing is lost, and a conversation that fits is sent unchanged, byte for byte.
- Your messages are never modified; only the request is. Tool call IDs in it can differ.
- The request of a longer conversation begins with that of the shorter one, so prompt
  caches keep working. There are two exceptions: a conversation that ends with the
  assistant's message, for Mistral's models, and one that has no user message.
- Fine-tunes profit, because families are recognized by a part of the model's ID.

`request_body` returns a request without sending it:

```python
from langchain_nscale import ChatNscale

model = ChatNscale(model="meta-llama/Llama-3.1-8B-Instruct", service_token="any")
calls = [
    {"name": "weather", "args": {"city": city}, "id": city} for city in ("Oslo", "Rome")
]
history = [
    ("user", "Compare Oslo and Rome."),
    {"role": "assistant", "content": "I'll look.", "tool_calls": calls},
    {"role": "tool", "tool_call_id": "Oslo", "content": "rain"},
    {"role": "tool", "tool_call_id": "Rome", "content": "sun"},
]
for message in model.request_body(history)["messages"]:
    names = [call["id"] for call in message.get("tool_calls", [])]
    print(message["role"], message["content"], *names)
```

```text
user Compare Oslo and Rome.
assistant I'll look.
assistant None Oslo
tool rain
assistant None Rome
tool sun
```

Pass bound arguments too: `model.request_body(history, **bound.kwargs)` for `bound =
model.bind_tools(tools)`.

## The families

"""
FORMS = """
## Rewriting

| not supported by the template | sent instead |
| --- | --- |
| several system messages at the beginning | one, joined by an empty line |
| a later system message | a user message there, marked `[Message of the system:]` |
| any system message | the beginning of the first user message |
| several calls in a message | each call, followed by its result |
| text beside a call | a separate message |
| text beside a call, where roles alternate | also the user's `[Continue.]` after it |
| calls and results | text, marked `[Called the tool …]` and `[Result of the tool …]` |
| neighbors of the same role | one message |
| a user's message after a result | the assistant's `[No answer.]` between them |
| an assistant's message that is empty | `[No answer.]` |
| no user message at the beginning | the user's `[The assistant speaks first.]` |
| a last message of the assistant | the user's `[Continue.]` |
| other roles | a user message, marked `[Message of the …:]` |
| tool call IDs | nine letters or digits: a hash of the ID |

Text beside a call of a Mistral model could also be joined to the answer that follows
later. But then the request would no longer begin with that of the step before, and
mistral-common's tokenizer V3 rejects text and call next to each other.

Mistral's models are served in two ways, with a chat template or with mistral-common,
and gpt-oss by vLLM's own code or with a template. The requests work with both.

Reasoning is never rewritten. `reasoning_history` decides whether it is sent; the table
says whether the template shows it.

## Tools

The templates of the DeepSeek R1 distills show no tools, so binding tools to them is an
error that says so when the model is called, and for other models of the family a
warning. Fallbacks work: the error is a `ValueError` and costs nothing. A history with
tool calls is sent as text. If your server has a template that shows tools, pass
`profile={"tool_calling": True}`.

## Your own rules

`template_rules` overrides what is known: `TemplateRules(…)` for your own template, and
`"as_is"` to send messages unchanged. Every rule and its values are in the
[reference](api.md#langchain_nscale.TemplateRules).

```python
from dataclasses import replace

from langchain_nscale import TemplateRules

rules = replace(TemplateRules.for_model(model.model), parallel_calls=True)
mine = ChatNscale(model=model.model, service_token="any", template_rules=rules)
print(len(mine.request_body(history)["messages"]))
```

```text
5
```

"""
UNKNOWN = """\
## Unknown models

Of unknown models only neighboring system messages at the beginning are joined. If the
service rejects a conversation in the words of a chat template, it is sent once more in
the strict form, which arrives nearly everywhere: the system's message as part of the
first user message, one call at a time, alternating roles, short tool call IDs. It
counts as a retry in the usage report. If it succeeds, the model object keeps to this
form.

Of the 70 templates in the package llama-cpp-python 0.3.36, {whole} carry the strict
form whole without tools, and of those that show tools {with_tools} of 60 with tools.
The others, on 2026-11-29:

| template | without tools | with tools |
| --- | --- | --- |
"""
TAIL = """
## See a prompt on your own vLLM

vLLM shows the tokens of a conversation, and turns them back into text:

```bash
curl -s $URL/tokenize -H "Content-Type: application/json" \\
  -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}' |
  jq '{model: "MODEL", tokens}' |
  curl -s $URL/detokenize -H "Content-Type: application/json" -d @-
```

`$URL` is the server's address without `/v1`. Add `"tools"` as in the request. For
models that vLLM serves with mistral-common or its own code for gpt-oss, `/tokenize`
shows what those make of it.
"""


def page() -> str:
    """Return the whole page."""
    models: dict[str, list[str]] = {family.name: [] for family in FAMILIES}
    for model in _PROFILES:
        family = family_of(model)
        models[family.name if family else ""].append(model.rpartition("/")[2])
    sections = [_section(family, models[family.name]) for family in FAMILIES]
    without = 70 - len(NOT_WHOLE)
    shown = len([name for name, why in NOT_WHOLE_WITH_TOOLS.items() if why in _SILENT])
    unknown = UNKNOWN.format(whole=without, with_tools=60 - shown)
    return HEAD + "\n".join(sections) + FORMS + unknown + _others() + TAIL


# Why a template that shows tools does not carry calls.
_SILENT = {
    "leaves out calls",
    "raises at every call: transformers forbids `append`",
    "wants arguments as a text, not as an object",
}


def _section(family: TemplateFamily, models: list[str]) -> str:
    ids = ", ".join(f"`{part}`" for part in family.parts)
    lines = [f"### {family.name}", "", f"IDs with {ids}."]
    if models:
        lines[-1] += f" In Nscale's catalog: {', '.join(models)}."
    lines += ["", "| rule | value | why |", "| --- | --- | --- |"]
    for each in fields(TemplateRules):
        value = getattr(family.rules, each.name)
        fact = family.facts.get(each.name)
        if fact or value != each.default:
            lines.append(f"| `{each.name}` | `{value!r}` | {fact or ''} |")
    templates = ", ".join(f"`{name}`" for name in family.templates)
    known = f"Templates: {templates}; {family.checked}." if templates else family.checked
    return "\n".join([*lines, "", known[0].upper() + known[1:].rstrip(".") + ".", ""])


def _others() -> str:
    names = sorted(NOT_WHOLE | NOT_WHOLE_WITH_TOOLS, key=str.lower)
    return "".join(
        f"| {name} | {NOT_WHOLE.get(name, 'whole')} | "
        f"{NOT_WHOLE_WITH_TOOLS.get(name, 'whole')} |\n"
        for name in names
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
