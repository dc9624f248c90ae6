"""A logits processor with which the real engine says a given text.

Everything but the choice of the next token is vLLM's own: scheduler, detokenizer,
grammars, parsers and server. Start the server with this folder on PYTHONPATH and
`--logits-processors scripted:Scripted`.

VLLM_SCRIPT names a JSON file with rules `{"if": pattern, "say": text}`. The first pattern
that is found in the prompt, from the last user message on, decides what is said; then the
turn ends. `[[say: TEXT]]` in the message does the same without a rule. Under a grammar,
`"array"` (a tool is required) or `"object"` (a schema, or a named tool) is said instead.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import LogitsProcessor

SAY = re.compile(r"\[\[say: (.*?)\]\]", re.DOTALL)
USER = "<|im_start|>user"
CERTAIN = 1000.0  # added to the logit of the token to say
FREE_TOKENS = 12  # tokens of a grammar without a script, before it is brought to an end


class Scripted(LogitsProcessor):
    """Raises the logit of the next token of the script of each request."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        """Read the rules."""
        del device, is_pin_memory
        path = vllm_config.model_config.tokenizer
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        script = os.environ.get("VLLM_SCRIPT")
        self.rules = json.loads(Path(script).read_text()) if script else []
        ends = ('"', '"}', '"}]', "}", "]", "}]")
        tokens = [self._tokens(end) for end in ends]
        self.closing = [ids[0] for ids in tokens if len(ids) == 1]
        self.closing.append(self.tokenizer.eos_token_id)
        self.requests: dict[int, tuple[list[int] | None, list[int], bool]] = {}

    def is_argmax_invariant(self) -> bool:
        """Return whether it leaves the most likely token as it is."""
        return False

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _script(self, prompt: list[int] | None, params: Any) -> list[int] | None:
        text = self.tokenizer.decode(prompt or [])
        last = text[text.rfind(USER) :]
        kind = _kind(params.structured_outputs)
        if kind is None:
            return None
        found = SAY.findall(last)
        names = _tool_names(params.structured_outputs)
        said = found[-1] if found else self._ruled(text, last, kind, names)
        if said is None:
            return None
        return [*self._tokens(said), self.tokenizer.eos_token_id]

    def _ruled(self, text: str, last: str, kind: str, names: set[str]) -> str | None:
        for rule in self.rules:
            where = text if rule["if"].startswith("^") else last
            if re.search(rule["if"], where, re.DOTALL):
                return _tagged(rule, names) if kind == "tagged" else rule.get(kind)
        return None

    def update_state(self, batch_update: Any) -> None:
        """Follow the requests as they enter, move in and leave the batch."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self.requests.pop(index, None)
        for index, params, prompt, output in batch_update.added:
            guided = params.structured_outputs is not None
            self.requests[index] = self._script(prompt, params), output, guided
        for one, two, way in batch_update.moved:
            first, second = self.requests.pop(one, None), self.requests.pop(two, None)
            if first is not None:
                self.requests[two] = first
            if second is not None and way.name == "SWAP":
                self.requests[one] = second

    def apply(self, logits: Any) -> Any:
        """Raise the logits of the next tokens."""
        for index, (script, output, guided) in self.requests.items():
            if index >= logits.shape[0]:
                continue
            if script is not None:
                logits[index, script[min(len(output), len(script) - 1)]] += CERTAIN
            elif guided and len(output) > FREE_TOKENS:
                logits[index, self.closing] += CERTAIN / 10
        return logits


def _kind(guide: Any) -> str | None:
    """Return which part of a rule fits a grammar; `None` for one without a script."""
    if guide is None:
        return "say"
    if guide.structural_tag is not None:
        return "tagged"  # newer versions force calls in the model's own form
    schema = json.loads(guide.json) if isinstance(guide.json, str) else guide.json
    if schema is None and not guide.json_object:
        return None  # a regular expression, a choice or a grammar
    is_array = isinstance(schema, dict) and schema.get("type") == "array"
    return "array" if is_array else "object"


def _tool_names(guide: Any) -> set[str]:
    """Return the names of the tools that a forced call can have."""
    tag = "" if guide is None else str(guide.structural_tag or "")
    return set(re.findall(r"name\W+([A-Za-z_]\w*)\W+arguments", tag))


def _tagged(rule: dict[str, str], names: set[str]) -> str | None:
    """Return the calls of a rule in the form of the parser `hermes`.

    If only one tool can be called, the calls have its name.
    """
    thought, mark, calls = rule.get("array", "[]").partition("</think>")
    if not mark:
        thought, calls = "", thought
    texts = []
    for call in json.loads(calls):
        arguments = json.dumps(call["parameters"], ensure_ascii=False)
        name = next(iter(names)) if len(names) == 1 else call["name"]
        inner = f'{{"name": "{name}", "arguments": {arguments}}}'
        texts.append(f"<tool_call>{inner}</tool_call>")
    return thought + mark + "".join(texts) or None
