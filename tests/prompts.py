"""Small executable models of chat templates: what becomes of messages in the prompt.

Each function renders messages in the API's form as the template of a family does, or
raises `TemplateError` in its words. They were read from the templates in llama-cpp-python
0.3.36, and from vLLM 0.32.0 and mistral-common 1.13.1 where those render messages
themselves; `make test-templates` and `make test-vllm` check the same with the originals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

Message = Mapping[str, Any]
Template = Callable[[Sequence[Message], Sequence[Any]], str]

ALTERNATE = (
    "After the optional system message, conversation roles must alternate "
    "user/assistant/user/assistant/..."
)
NINE = "Tool call IDs should be alphanumeric strings with length 9!"


class TemplateError(Exception):
    """The template raised."""


def reject(reason: str) -> NoReturn:
    raise TemplateError(reason)


def text_of(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part.get("text", "[image]") for part in content)
    return content or ""


def calls_of(message: Message) -> list[Any]:
    return list(message.get("tool_calls") or [])


def shown(call: Any) -> str:
    function = call["function"]
    arguments = json.loads(function["arguments"])
    text = json.dumps(arguments, ensure_ascii=False)
    return f"{{{function['name']} {text}}}"


def tools_text(tools: Sequence[Any]) -> str:
    return json.dumps(list(tools), ensure_ascii=False)


def turn(message: Message) -> str:
    return f"<{message['role']}>{text_of(message['content'])}\n"


def llama(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    rest = list(messages)
    prompt = turn(rest.pop(0)) if rest[0]["role"] == "system" else ""
    if tools:
        if not rest:
            reject("Cannot put tools in the first user message when there's none!")
        first = rest.pop(0)
        if first["role"] != "user":
            # The template shows its text as the user's, which is as wrong as an error.
            reject(f"a message of the {first['role']} as the user's")
        prompt += f"<user>{tools_text(tools)}{text_of(first['content'])}\n"
    for message in rest:
        calls = calls_of(message)
        if len(calls) > 1:
            reject("This model only supports single tool-calls at once!")
        prompt += f"<assistant>{shown(calls[0])}\n" if calls else turn(message)
    return prompt


def r1(messages: Sequence[Message], _tools: Sequence[Any]) -> str:
    systems = [text_of(m["content"]) for m in messages if m["role"] == "system"]
    prompt = systems[-1] if systems else ""
    for message in messages:
        # vLLM replaces null by "", so that the template never sees calls.
        if message["role"] == "assistant":
            prompt += turn({**message, "content": text_of(message["content"])})
        elif message["role"] in ("user", "tool"):
            prompt += turn(message)
    return prompt


def _gpt_oss(messages: Sequence[Message], tools: Sequence[Any], *, harmony: bool) -> str:
    prompt = tools_text(tools) if tools else ""
    for number, message in enumerate(messages):
        role, calls = message["role"], calls_of(message)
        if role == "system":
            prompt += turn(message) if number == 0 or harmony else ""
        elif calls:
            later = messages[number + 1 :]
            is_final = any(m["role"] == "assistant" and not calls_of(m) for m in later)
            prompt += "" if is_final and not harmony else text_of(message["content"])
            prompt += "".join(map(shown, calls if harmony else calls[:1]))
        elif role in ("user", "assistant", "tool"):
            prompt += turn(message)
    return prompt


def gpt_oss_jinja(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    return _gpt_oss(messages, tools, harmony=False)


def gpt_oss_harmony(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    return _gpt_oss(messages, tools, harmony=True)


def _alternation(messages: Sequence[Message]) -> None:
    index = 0
    for message in messages:
        if message["role"] != "tool" and not calls_of(message):
            if (message["role"] == "user") != (index % 2 == 0):
                reject(ALTERNATE)
            index += 1


def _mistral(
    messages: Sequence[Message],
    tools: Sequence[Any],
    *,
    system_at_end: bool = False,
    beside: bool = False,
    ids: bool = True,
) -> str:
    rest, system = list(messages), ""
    if rest[0]["role"] == "system":
        system = text_of(rest.pop(0)["content"])
    _alternation(rest)
    prompt = "" if system_at_end else system
    users = [number for number, m in enumerate(rest) if m["role"] == "user"]
    if beside or users:
        prompt += tools_text(tools) if tools else ""
    for number, message in enumerate(rest):
        calls, role = calls_of(message), message["role"]
        used = [call["id"] for call in calls]
        used += [message["tool_call_id"]] if role == "tool" else []
        if ids and any(len(call_id) != 9 for call_id in used):  # the rule
            reject(NINE)
        if calls:
            prompt += text_of(message["content"]) if beside else ""
            prompt += "".join(map(shown, calls))
            continue
        if role == "assistant" and beside and not message["content"]:
            reject("Assistant message must have a string or a list of chunks")
        shows_system = role == "system" and not beside and not system_at_end
        if role not in ("user", "assistant", "tool") and not shows_system:
            reject("Only user and assistant roles are supported")
        if role == "user" and system_at_end and number == len(rest) - 1:
            prompt += system
        prompt += turn(message)
    return prompt


def nemo(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    return _mistral(messages, tools, system_at_end=True)


def mistral_small(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    return _mistral(messages, tools)


def ministral(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    return _mistral(messages, tools, beside=True, ids=False)


def mistral_common(
    messages: Sequence[Message], tools: Sequence[Any], *, both: bool = False
) -> str:
    """As vLLM uses it: the validator, then neighbors are merged, then encoded."""
    if messages[-1]["role"] == "assistant":
        reject("Cannot set `add_generation_prompt` to True when the last message")
    prompt, previous, previous_text = tools_text(tools) if tools else "", "", ""
    for message in messages:
        role, text = message["role"], text_of(message["content"])
        calls = calls_of(message)
        if previous and role == "assistant" and calls_of(messages[0]):
            reject("Not the same number of function calls and responses")  # it forgets
        used = [call["id"][-9:] for call in calls]
        used += [message["tool_call_id"][-9:]] if role == "tool" else []
        if not all(re.fullmatch("[a-zA-Z0-9]{9}", call_id) for call_id in used):
            reject("Tool call id has to be 9 letters or digits")
        if role == "assistant" and len({*used}) != len(used):
            reject("Duplicate tool call id")
        if role == "assistant" and not both and bool(calls) == bool(text):
            reject("must have either content or tool_calls, but not both.")
        if role == "assistant" and previous == role and calls and previous_text:
            reject("Cannot have tool calls and content defined in the same")
        if role not in ("system", "user", "assistant", "tool"):
            reject(f"Unexpected role {role}")
        if previous in ("assistant", "tool") and role == "system":
            reject(f"Unexpected role 'system' after role '{previous}'")
        prompt += text + "".join(map(shown, calls)) + "\n"
        previous, previous_text = role, text
    return prompt


def mistral_common_v7(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    return mistral_common(messages, tools, both=True)


def _chatml(
    messages: Sequence[Message], tools: Sequence[Any], *, strict: bool = False
) -> str:
    prompt = tools_text(tools) if tools else ""
    if strict and not any(message["role"] == "user" for message in messages):
        reject("No user query found in messages.")
    for number, message in enumerate(messages):
        if message["role"] not in ("system", "user", "assistant", "tool"):
            if strict:
                reject("Unexpected message role.")
            continue
        if strict and message["role"] == "system" and number:
            reject("System message must be at the beginning.")
        prompt += turn(message) + "".join(map(shown, calls_of(message)))
    return prompt


def qwen(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    """Qwen3, Qwen2.5, GLM 4.7, Kimi K2: everything, except other roles."""
    return _chatml(messages, tools)


def qwen3_5(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    return _chatml(messages, tools, strict=True)


def nemotron(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    prompt = tools_text(tools) if tools else ""
    return prompt + "".join(turn(m) + "".join(map(shown, calls_of(m))) for m in messages)


# A model of each family, and the templates with which it may be served.
TEMPLATES: dict[str, tuple[Template, ...]] = {
    "meta-llama/Llama-3.1-8B-Instruct": (llama,),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": (llama, nemotron),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": (r1,),
    "openai/gpt-oss-20b": (gpt_oss_jinja, gpt_oss_harmony),
    "mistralai/mixtral-8x22b-instruct-v0.1": (nemo, mistral_common),
    "mistralai/Devstral-Small-2505": (
        mistral_small,
        ministral,
        mistral_common,
        mistral_common_v7,
    ),
    "Qwen/Qwen3.5-4B": (qwen3_5,),
    "Qwen/Qwen3-8B": (qwen,),
    "Qwen/Qwen2.5-Coder-7B-Instruct": (qwen,),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (nemotron,),
    "zai-org/GLM-5.2-FP8": (qwen,),
    "moonshotai/Kimi-K2.5": (qwen,),
}
