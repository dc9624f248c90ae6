"""Renders conversations with chat templates; runs in the environment of the templates.

Reads lines with lists of `{"template", "messages", "tools"}`, and writes for each a line
with a list of prompts; of errors, `{"error"}`. The template `mistral-common:V3` stands
for that version of mistral-common's tokenizer, as vLLM uses it.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from mistral_common.protocol.instruct import normalize, validator  # noqa: E402
from mistral_common.protocol.instruct.request import ChatCompletionRequest  # noqa: E402
from mistral_common.tokens.tokenizers.base import TokenizerVersion  # noqa: E402
from transformers.utils.chat_template_utils import (  # noqa: E402
    _compile_jinja_template,
)

FOLDER = Path(sys.argv[1])
LONGEST_ID = 9


@lru_cache(maxsize=100)
def compiled(name: str) -> Any:
    text = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    return _compile_jinja_template(text)


def as_vllm_passes(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """vLLM replaces null by an empty text, and parses arguments."""
    messages = copy.deepcopy(messages)
    for message in messages:
        if message.get("content") is None:
            message["content"] = ""
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return messages


def prompt(name: str, messages: list[dict[str, Any]], tools: Any) -> str:
    return compiled(name).render(
        messages=as_vllm_passes(messages),
        tools=copy.deepcopy(tools) or None,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
        documents=None,
    )


def mistral_prompt(version: str, messages: list[dict[str, Any]], tools: Any) -> str:
    """Validate and normalize as mistral-common does; check what its encoder checks."""
    messages = copy.deepcopy(messages)
    for message in messages:  # vLLM's `truncate_tool_call_ids`
        for call in message.get("tool_calls") or ():
            call["id"] = call["id"][-LONGEST_ID:]
        if "tool_call_id" in message:
            message["tool_call_id"] = message["tool_call_id"][-LONGEST_ID:]
        if message["role"] == "assistant":
            message.pop("reasoning", None)
            message.pop("reasoning_content", None)
    if messages[-1]["role"] == "assistant":  # vLLM's check
        msg = "the last message is from the assistant"
        raise ValueError(msg)
    request = ChatCompletionRequest.from_openai(messages=messages, tools=tools or None)
    check = getattr(validator, f"MistralRequestValidator{version}")
    checked = check(mode=validator.ValidationMode.test).validate_request(request)
    number = TokenizerVersion({"V5": "v7"}.get(version, version.lower()))
    done = normalize.get_normalizer(number).from_chat_completion_request(checked)
    texts = [done.system_prompt or "", json.dumps(tools)]
    for message in done.messages:
        if version == "V3" and getattr(message, "tool_calls", None) and message.content:
            msg = "Cannot have tool calls and content in the same assistant message"
            raise ValueError(msg)
        texts.append(message.model_dump_json())
    return "\n".join(texts)


def rendered(row: dict[str, Any]) -> Any:
    name, messages, tools = row["template"], row["messages"], row.get("tools")
    kind, _, version = name.partition(":")
    try:
        if kind == "mistral-common":
            return mistral_prompt(version, messages, tools)
        return prompt(name, messages, tools)
    except Exception as error:  # noqa: BLE001  # templates raise anything
        return {"error": f"{type(error).__name__}: {error}"[:300]}


if __name__ == "__main__":
    for line in sys.stdin:
        prompts = json.dumps([rendered(row) for row in json.loads(line)])
        sys.stdout.write(prompts + "\n")
        sys.stdout.flush()
