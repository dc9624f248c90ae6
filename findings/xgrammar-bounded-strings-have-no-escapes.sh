#!/usr/bin/env bash
# xgrammar (what vLLM constrains JSON with unless told otherwise): a string with `minLength`, `maxLength` or
# `pattern` can't contain an escape, so neither a quotation mark, nor a line break, tab or
# backslash. A string without them can. llguidance, which vLLM takes for other schemas, allows them in both.
#
# Guess: a limit of 500 characters limits the number of characters.
# Why it matters: `Field(max_length=500)` or `Field(min_length=1)` on a text or a piece of code makes
# the model write it on one line and without quotation marks, and nothing says why.
# FINDINGS_VENV may name a virtual environment that has both packages.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${FINDINGS_VENV:-}" ]; then
    python="$FINDINGS_VENV/bin/python"
else
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet --disable-pip-version-check \
        xgrammar==0.2.8 llguidance==1.7.6 torch==2.13.0
fi
"$python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version

import llguidance
import xgrammar
from xgrammar.testing import _is_grammar_accept_string

TEXTS = ["plain", 'say "hi"', "two\nlines", "a\ttab", "C:\\folder"]
SCHEMAS = [
    {"type": "string"},
    {"type": "string", "maxLength": 500},
    {"type": "string", "minLength": 1},
    {"type": "string", "pattern": r"^[\s\S]*$"},
]
tokenizer = llguidance.LLTokenizer("byte")


def by_xgrammar(schema, text):
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema))
    return _is_grammar_accept_string(grammar, json.dumps(text))


def by_llguidance(schema, text):
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    matcher = llguidance.LLMatcher(tokenizer, grammar)
    tokens = tokenizer.tokenize_str(json.dumps(text))
    return matcher.validate_tokens(tokens) == len(tokens)


print("xgrammar", version("xgrammar"), "llguidance", version("llguidance"))
holds = True
for schema in SCHEMAS:
    first = [text for text in TEXTS if by_xgrammar(schema, text)]
    second = [text for text in TEXTS if by_llguidance(schema, text)]
    print(json.dumps(schema))
    print("    xgrammar allows", first)
    print("    llguidance allows", second)
    holds &= second == TEXTS and first == (TEXTS if len(schema) == 1 else ["plain"])
sys.exit(None if holds else "This no longer holds.")
PYTHON
