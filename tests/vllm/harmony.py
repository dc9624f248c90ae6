"""Renders conversations as vLLM does for gpt-oss; runs in the engine's environment.

Reads a list of lists of messages as JSON, and writes a list of texts.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from vllm.entrypoints.openai.parser.harmony_utils import (
    auto_drop_analysis_messages,
    build_harmony_preamble,
    extract_instructions_from_messages,
    parse_chat_inputs_to_harmony_messages,
)


def rendered(messages: list[dict[str, Any]]) -> str:
    """Return the messages in vLLM's form of them."""
    instructions, rest = extract_instructions_from_messages(messages)
    parsed = build_harmony_preamble(instructions=instructions)
    parsed += parse_chat_inputs_to_harmony_messages(rest)
    kept = auto_drop_analysis_messages(parsed)
    return json.dumps([message.to_dict() for message in kept])


if __name__ == "__main__":
    texts = [rendered(messages) for messages in json.load(sys.stdin)]
    sys.stdout.write("\n" + json.dumps(texts))
