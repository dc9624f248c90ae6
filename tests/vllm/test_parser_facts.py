"""What the page about the engine says of vLLM's parsers, read in process."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.vllm.environment import HERE, PYTHON, VERSION

pytestmark = pytest.mark.skipif(
    VERSION == "0.21.0", reason="The page says what newer versions do."
)
PARIS = ["weather", '{"city": "Paris"}']
SECOND = '{"name": "weather", "arguments": {"city": "Paris"}}'
DEEPSEEK = [
    f"<｜tool▁{mark}｜>"  # noqa: RUF001  # as the model writes them
    for mark in ("calls▁begin", "call▁begin", "sep", "call▁end", "calls▁end")
]
FIRST, BEGIN, SEPARATOR, END, LAST = DEEPSEEK
ESCAPED = "<start_function_call>", "<end_function_call>", "<escape>"
GEMMA = "call:weather{city:<escape>Paris<escape>,days:3}"
OLMO = '<function_calls>\nweather(city="Paris")\n</function_calls>'
# For each case: parser, text, special tokens, and the expected content and calls of the
# whole text ("whole") and of a stream with so many tokens a delta.
CASES: dict[str, tuple[str, str, list[str], dict[str, Any]]] = {
    "streams of phi4_mini_json have nothing of a call": (
        "phi4_mini_json",
        f"functools[{SECOND}]",
        [],
        {"whole": ["", [PARIS]], "1": ["", []]},
    ),
    "nor of a text": (
        "phi4_mini_json",
        "It is sunny.",
        [],
        {"whole": ["It is sunny.", []], "1": ["", []]},
    ),
    "llama3_json streams JSON with a name as a call": (
        "llama3_json",
        '{"name": "Ann", "age": 3}',
        ["<|python_tag|>"],
        {"whole": ['{"name": "Ann", "age": 3}', []], "1": ["", [["Ann", ""]]]},
    ),
    "and other JSON not at all": (
        "llama3_json",
        '{"age": 3}',
        ["<|python_tag|>"],
        {"whole": ['{"age": 3}', []], "1": ["", []]},
    ),
    "pythonic streams nothing of an answer that begins with a bracket": (
        "pythonic",
        "[1, 2] are the numbers.",
        [],
        {"whole": ["[1, 2] are the numbers.", []], "1": ["", []]},
    ),
    "hermes streams nothing after a mention of its mark": (
        "hermes",
        "Use <tool_call> for calls.",
        ["<tool_call>", "</tool_call>"],
        {"whole": ["Use <tool_call> for calls.", []], "1": ["Use ", []]},
    ),
    "jamba streams broken JSON": (
        "jamba",
        f'<tool_calls>[{SECOND[:-2]}, "days": 3}}}}]</tool_calls>',
        ["<tool_calls>", "</tool_calls>"],
        {
            "whole": ["", [["weather", '{"city": "Paris", "days": 3}']]],
            "1": ["", [["weather", '{"city": "Paris, "days": 3']]],
        },
    ),
    "functiongemma drops numbers": (
        "functiongemma",
        f"{ESCAPED[0]}{GEMMA}{ESCAPED[1]}",
        list(ESCAPED),
        {"whole": ["", [PARIS]], "1": ["", [PARIS]]},
    ),
    "olmo3 streams a call after a text as text": (
        "olmo3",
        f"Sure.\n{OLMO}",
        [],
        {"whole": ["", [PARIS]], "1": [f"Sure.\n{OLMO}", []]},
    ),
    "granite-20b-fc streams a call after a text as text": (
        "granite-20b-fc",
        f"Sure. <function_call> {SECOND}",
        ["<function_call>"],
        {"whole": ["Sure. ", [PARIS]], "1": [f"Sure. <function_call> {SECOND}", []]},
    ),
    "deepseek_v31 loses arguments when a delta has several tokens": (
        "deepseek_v31",
        f'{FIRST}{BEGIN}weather{SEPARATOR}{{"city": "Paris"}}{END}{LAST}',
        DEEPSEEK,
        {
            "whole": ["", [PARIS]],
            "1": ["", [PARIS]],
            "8": ["", [["weather", ""]]],
            "100": ["", []],
        },
    ),
    "so does xlam": (
        "xlam",
        f"[{SECOND}]",
        [],
        {
            "whole": ["", [PARIS]],
            "1": ["", [PARIS]],
            "3": ["", [["weather", "{"]]],
            "100": ["", [["weather", ""]]],
        },
    ),
}
REASONING = [
    *("deepseek_r1", "deepseek_v4", "ernie45", "glm45", "holo2", "kimi_k2", "mimo"),
    *("minimax_m2", "nemotron_v3", "qwen3", "seed_oss", "step3"),
]
CONTENT = ["deepseek_v3", "gemma4", "granite", "hunyuan_a13b", "hy_v3"]
ANSWER = "It is 4."


@pytest.fixture(scope="module")
def facts() -> Any:
    calls = [
        {
            "parser": parser,
            "text": text,
            "marks": marks,
            "steps": [int(step) for step in expected if step != "whole"],
        }
        for parser, text, marks, expected in CASES.values()
    ]
    cases = {"calls": calls, "reasoning": REASONING + CONTENT, "answer": ANSWER}
    output = subprocess.run(  # noqa: S603  # our own
        [PYTHON, HERE / "parser_facts.py"],
        check=True,
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_calls(facts: Any, name: str) -> None:
    assert facts["calls"][list(CASES).index(name)] == CASES[name][3]


@pytest.mark.parametrize("parser", REASONING)
def test_an_answer_without_think_tags_is_reasoning(facts: Any, parser: str) -> None:
    reasoning, content = facts["reasoning"][parser]
    assert (reasoning, content or None) == (ANSWER, None)


@pytest.mark.parametrize("parser", CONTENT)
def test_an_answer_without_think_tags_is_content(facts: Any, parser: str) -> None:
    reasoning, content = facts["reasoning"][parser]
    assert (reasoning or None, content) == (None, ANSWER)
