"""Run in the engine's environment: read texts with vLLM's own parsers, without an engine.

Reads a JSON object from standard input: `calls` is a list of objects with `parser`,
`text`, `marks` (its special tokens) and `steps` (tokens a delta); `reasoning` is a list
of parsers, and `answer` the text for them. Writes what they make of it as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

MODEL = Path(sys.prefix) / "models" / "tiny"
STRINGS = {"type": "array", "items": {"type": "string"}}
PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "tags": STRINGS,
}
WEATHER = {
    "name": "weather",
    "parameters": {"type": "object", "properties": PROPERTIES},
}
REQUEST = ChatCompletionRequest(
    model="m",
    messages=[{"role": "user", "content": "Hi"}],
    tools=[{"type": "function", "function": WEATHER}],
)


def tokenizer_with(marks: list[str]) -> Any:
    """Return SmolLM2's tokenizer with further special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.add_tokens(marks, special_tokens=True)
    return tokenizer


def read(parser: str, text: str, marks: list[str], steps: list[int]) -> dict[str, Any]:
    """Return what a parser makes of a whole text, and of its tokens step by step."""
    kind = ToolParserManager.get_tool_parser(parser)
    tokenizer = tokenizer_with(marks)
    reply = kind(tokenizer, REQUEST.tools).extract_tool_calls(text, REQUEST)
    calls = [[call.function.name, call.function.arguments] for call in reply.tool_calls]
    result = {"whole": [reply.content or "", calls]}
    for step in steps:
        result[str(step)] = streamed(
            kind(tokenizer, REQUEST.tools), tokenizer, text, step
        )
    return result


def streamed(parser: Any, tokenizer: Any, text: str, step: int) -> list[Any]:
    """Return the text and the calls of all deltas together."""
    tokens = tokenizer.encode(text, add_special_tokens=False)
    before, content = "", ""
    calls: dict[int, list[str]] = {}
    for at in range(0, len(tokens), step):
        new = tokens[at : at + step]
        now = tokenizer.decode(tokens[: at + step])
        delta = parser.extract_tool_calls_streaming(
            before,
            now,
            now[len(before) :],
            tokens[:at],
            tokens[: at + step],
            new,
            REQUEST,
        )
        before = now
        if delta is None:
            continue
        content += delta.content or ""
        for call in delta.tool_calls or []:
            parts = calls.setdefault(call.index, ["", ""])
            if call.function:
                parts[0] += call.function.name or ""
                parts[1] += call.function.arguments or ""
    return [content, list(calls.values())]


def reasoned(parser: str, answer: str) -> list[str | None]:
    """Return reasoning and content of an answer without think tags."""
    tokenizer = tokenizer_with(["<think>", "</think>", "<seed:think>", "</seed:think>"])
    kind = ReasoningParserManager.get_reasoning_parser(parser)
    return list(kind(tokenizer).extract_reasoning(answer, REQUEST))


def main() -> None:
    """Answer the cases."""
    logging.disable(logging.CRITICAL)
    cases = json.load(sys.stdin)
    result = {
        "calls": [read(**case) for case in cases["calls"]],
        "reasoning": {
            name: reasoned(name, cases["answer"]) for name in cases["reasoning"]
        },
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
