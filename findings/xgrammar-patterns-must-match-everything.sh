#!/usr/bin/env bash
# xgrammar (what vLLM constrains JSON with unless told otherwise): `pattern` must match the whole
# string, as if it began with `^` and ended with `$`. In JSON Schema, and in Pydantic, which checks
# the same field afterwards, it may match anywhere. llguidance has it right.
#
# Guess: "may match anywhere", as the specification of `pattern` says.
# Why it matters: `Field(pattern="[0-9]{4}")` ("mention a year") leaves the model nothing to write but four
# digits; the answer is valid, and useless. Write `^.*[0-9]{4}.*$`.
# FINDINGS_VENV may name a virtual environment that has the packages.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${FINDINGS_VENV:-}" ]; then
    python="$FINDINGS_VENV/bin/python"
else
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet --disable-pip-version-check \
        xgrammar==0.2.8 llguidance==1.7.6 torch==2.13.0 pydantic==2.14.4
fi
"$python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from typing import Annotated

import llguidance
import pydantic
import xgrammar
from xgrammar.testing import _is_grammar_accept_string

TEXTS = ["2026", "in 2026", "2026, in spring"]
tokenizer = llguidance.LLTokenizer("byte")


def by_xgrammar(schema, text):
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema))
    return _is_grammar_accept_string(grammar, json.dumps(text))


def by_llguidance(schema, text):
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    matcher = llguidance.LLMatcher(tokenizer, grammar)
    tokens = tokenizer.tokenize_str(json.dumps(text))
    return matcher.validate_tokens(tokens) == len(tokens)


def by_pydantic(schema, text):
    field = pydantic.Field(pattern=schema["pattern"])
    try:
        pydantic.TypeAdapter(Annotated[str, field]).validate_python(text)
    except pydantic.ValidationError:
        return False
    return True


print({name: version(name) for name in ("xgrammar", "llguidance", "pydantic")})
expected = {
    "[0-9]{4}": TEXTS[:1],
    "^[0-9]{4}": TEXTS[:1],
    "[0-9]{4}$": TEXTS[:1],
    "^.*[0-9]{4}.*$": TEXTS,
}
valid = {"^[0-9]{4}": [TEXTS[0], TEXTS[2]], "[0-9]{4}$": TEXTS[:2]}
holds = True
for pattern, wanted in expected.items():
    schema = {"type": "string", "pattern": pattern}
    seen = {
        name: [text for text in TEXTS if allows(schema, text)]
        for name, allows in {
            "Pydantic": by_pydantic, "llguidance": by_llguidance, "xgrammar": by_xgrammar
        }.items()
    }
    print(f"pattern {pattern}: {seen}")
    right = valid.get(pattern, TEXTS)
    holds &= list(seen.values()) == [right, right, wanted]
sys.exit(None if holds else "This no longer holds.")
PYTHON
