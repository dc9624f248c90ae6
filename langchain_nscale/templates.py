"""Rules of chat templates: `TemplateRules`, and those of the known families.

A server renders messages with the model's own template. What a template has no place for
is rejected, or left out of the prompt without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple


@dataclass(frozen=True)
class TemplateRules:
    """The capabilities of a model's chat template.

    `ChatNscale` brings every conversation into this form before it is sent. The defaults
    are those for unknown models: everything is carried, but of system messages at the
    beginning only one. Pass your own as `template_rules`, or change what is known:
    `dataclasses.replace(TemplateRules.for_model(model), system="first")`.

    Attributes:
        system: Where system messages may stand: `"anywhere"`; `"joined"` if those at the
            beginning have to be one; `"one"` if there is only one, in any place;
            `"first"` if there is only one, at the beginning; `"user"` if there is none,
            so that its text becomes part of the first user message. Others become user
            messages in the same place, marked as the system's.
        tools: Whether the template shows tools, calls and results. If not, calls and
            results are sent as text.
        parallel_calls: Whether a message may have several calls. If not, each is
            followed by its result.
        text_beside_calls: Whether the text of a message with calls is shown. If not, it
            is sent as a separate message.
        alternating: Whether the roles of user and assistant have to alternate, apart
            from calls and results.
        user: Whether there must be a user message: `"optional"`, `"required"` in any
            place, `"first"` before everything but the system message, or
            `"first_with_tools"` if the request offers tools.
        assistant_last: Whether the assistant's message may be the last one.
        empty_assistant: Whether an assistant's message may be empty.
        other_roles: Whether roles other than system, user, assistant and tool are shown.
        call_ids: The form of tool call IDs: `"any"`, or `"nine"` letters or digits.
        reasoning: Which reasoning of earlier messages is shown, if it is sent at all:
            `"shown"`, `"current_turn"` since the newest user message, `"dropped"`, or
            `"unknown"`. Nothing is rewritten because of it.
    """

    # For pydantic, which checks the setting.
    __pydantic_config__ = {"extra": "forbid", "revalidate_instances": "always"}  # noqa: RUF012

    system: Literal["anywhere", "joined", "one", "first", "user"] = "joined"
    tools: bool = True
    parallel_calls: bool = True
    text_beside_calls: bool = True
    alternating: bool = False
    user: Literal["optional", "required", "first", "first_with_tools"] = "optional"
    assistant_last: bool = True
    empty_assistant: bool = True
    other_roles: bool = True
    call_ids: Literal["any", "nine"] = "any"
    reasoning: Literal["shown", "current_turn", "dropped", "unknown"] = "unknown"

    @classmethod
    def for_model(cls, model: str) -> TemplateRules:
        """Return what is known of a model; for unknown ones, the defaults."""
        family = family_of(model)
        return UNKNOWN if family is None else family.rules


# A form that nearly every template carries, for models whose template has rejected a
# conversation.
STRICT = TemplateRules(
    system="user",
    parallel_calls=False,
    text_beside_calls=False,
    alternating=True,
    user="first",
    assistant_last=False,
    empty_assistant=False,
    other_roles=False,
    call_ids="nine",
)
STRICT_WITHOUT_TOOLS = replace(STRICT, tools=False)
UNKNOWN = TemplateRules()

# What templates say when they reject a conversation, with the rule to set: the wordings
# of the 70 templates in llama-cpp-python 0.3.36, of mistral-common 1.13.1 and of vLLM
# 0.21.0 and 0.32.0. The first match counts.
_REJECTIONS = {
    r"single tool-calls at once|same number of function calls|tool call id .* in tool res"
    r"|no previous assistant message with a tool call": "parallel_calls=False",
    r"roles must alternate": "alternating=True",
    r"Tool call ids? (was|should|must|has to)": "call_ids='nine'",
    r"System message must be at the beginning|role 'system' after": "system='first'",
    r"System role not supported|Invalid system message": "system='user'",
    r"No user query found": "user='required'",
    r"no first user message": "user='first_with_tools'",
    r"must start with a user message": "user='first'",
    r"either content or tool_calls|tool calls and content": "text_beside_calls=False",
    r"Assistant message must have": "empty_assistant=False",
    r"Expected last role|last message is from the assistant": "assistant_last=False",
    r"roles are supported|Unexpected message role|Invalid (message )?role|Unexpected role"
    r"|Unsupported message role|outside of assistant": "other_roles=False",
    r"while applying chat template": "",
}
_MAX_REJECTION = 500  # characters; templates are brief, longer texts quote the request


def violated_rule(message: str) -> str | None:
    """Return the rule of a template that an error's message is about, `None` if none.

    It is an argument of `TemplateRules`; empty if the message does not say which.
    """
    for pattern, rule in _REJECTIONS.items():
        if re.search(pattern, message[:_MAX_REJECTION], re.IGNORECASE):
            return rule
    return None


class TemplateFamily(NamedTuple):
    """Models with the same template."""

    name: str
    parts: tuple[str, ...]  # of the IDs of its models, in lower case
    rules: TemplateRules
    # In which the rules were found, as llama-cpp-python 0.3.36 names its copies.
    templates: tuple[str, ...]
    checked: str  # how and when they were found
    facts: Mapping[str, str] = MappingProxyType({})  # a reason for each special rule


_ENGINE = "vLLM 0.32.0, `/tokenize` with the template, 2026-11-29"
_RENDERED = "template rendered with transformers 5.19, 2026-11-29"
_SERVER = f"{_RENDERED}; vLLM 0.32.0's own code for this family, 2026-11-29"

_LLAMA = TemplateRules(
    parallel_calls=False,
    text_beside_calls=False,
    user="first_with_tools",
    reasoning="dropped",
)
_MISTRAL = TemplateRules(
    system="first",
    text_beside_calls=False,
    alternating=True,
    user="first",
    assistant_last=False,
    empty_assistant=False,
    other_roles=False,
    call_ids="nine",
    reasoning="dropped",
)
_MISTRAL_FACTS = {
    "alternating": "rejected: 'conversation roles must alternate'",
    "user": "rejected, by the same rule",
    "assistant_last": "mistral-common and vLLM reject it",
    "other_roles": "rejected",
    "call_ids": "rejected: 'Tool call IDs should be alphanumeric strings with length 9!'",
}
_CHATML_FACTS = {
    "system": "shown in every place",
    "other_roles": "left out",
    "reasoning": "shown since the newest user message",
}

# The first family with a part of the ID counts, so special ones come first.
FAMILIES = (
    TemplateFamily(
        "DeepSeek R1 distills",
        ("deepseek-r1-distill",),
        TemplateRules(system="one", tools=False, other_roles=False, reasoning="dropped"),
        (
            "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
            "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        ),
        _ENGINE,
        {
            "system": "of several system messages only the last is in the prompt",
            "tools": "tools are never in the prompt; with vLLM, calls aren't either",
            "other_roles": "messages of other roles are left out",
            "reasoning": "cut at `</think>`, and `reasoning_content` is not read",
        },
    ),
    TemplateFamily(
        "gpt-oss",
        ("gpt-oss",),
        TemplateRules(
            system="first",
            parallel_calls=False,
            text_beside_calls=False,
            other_roles=False,
            reasoning="current_turn",
        ),
        ("openai-gpt-oss-120b",),
        _SERVER,
        {
            "system": "the Jinja template leaves out all but the first message; vLLM "
            "renders gpt-oss itself and makes them developer messages",
            "parallel_calls": "the Jinja template leaves out all calls but the first",
            "text_beside_calls": "the Jinja template leaves it out once the turn is "
            "answered; vLLM renders it as commentary",
            "other_roles": "the Jinja template leaves them out",
            "reasoning": "what precedes the last answer is dropped",
        },
    ),
    TemplateFamily(
        "Llama 3.1, 3.2, 3.3",
        ("llama-3.1", "llama-3.2", "llama-3.3", "llama3.1", "llama3.2", "llama3.3"),
        _LLAMA,
        (
            "meta-llama-Llama-3.1-8B-Instruct",
            "meta-llama-Llama-3.2-3B-Instruct",
            "meta-llama-Llama-3.3-70B-Instruct",
        ),
        _ENGINE,
        {
            "system": "with tools, the second message is shown as the user's",
            "parallel_calls": "rejected: 'This model only supports single tool-calls at "
            "once!'",
            "text_beside_calls": "left out",
            "user": "with tools, the first message is shown as the user's, a call not at "
            "all, and without one the request is rejected",
            "reasoning": "never read",
        },
    ),
    TemplateFamily(
        "Llama 4",
        ("llama-4",),
        _LLAMA,
        (),
        "not available; vLLM's examples for Llama 4 read, 2026-11-29",
        {
            "system": "as for Llama 3",
            "parallel_calls": "vLLM's JSON template for it rejects several, its pythonic "
            "one takes them",
            "text_beside_calls": "as for Llama 3",
            "user": "as for Llama 3",
            "reasoning": "never read",
        },
    ),
    TemplateFamily(
        "Mistral Nemo, Mixtral",
        ("mistral-nemo", "mixtral"),
        replace(_MISTRAL, system="user"),
        ("mistralai-Mistral-Nemo-Instruct-2407",),
        _SERVER,
        {
            **_MISTRAL_FACTS,
            "system": "only shown if the last message is the user's, so in no step of an "
            "agent",
            "text_beside_calls": "left out; mistral-common's validator V3 rejects it",
            "empty_assistant": "mistral-common's validator V3 rejects it",
            "reasoning": "never read",
        },
    ),
    TemplateFamily(
        "other Mistral models",
        (
            *("mistral", "ministral", "devstral", "magistral"),
            *("pixtral", "codestral", "mathstral", "voxtral"),
        ),
        _MISTRAL,
        (
            "Mistral-Small-3.2-24B-Instruct-2506",
            "mistralai-Ministral-3-14B-Reasoning-2512",
            "unsloth-mistral-Devstral-Small-2507",
        ),
        _SERVER,
        {
            **_MISTRAL_FACTS,
            "system": "rejected after the beginning",
            "text_beside_calls": "left out by Mistral Small's template; shown by "
            "Ministral's",
            "empty_assistant": "rejected by Ministral's template",
            "reasoning": "`reasoning_content` is not read",
        },
    ),
    TemplateFamily(
        "Qwen3.5",
        ("qwen3.5", "qwen3.6"),
        TemplateRules(
            system="first", user="required", other_roles=False, reasoning="current_turn"
        ),
        ("Qwen3.5-4B",),
        _ENGINE,
        {
            "system": "rejected: 'System message must be at the beginning.'",
            "user": "rejected: 'No user query found in messages.'",
            "other_roles": "rejected: 'Unexpected message role.'",
            "reasoning": "shown since the newest user message",
        },
    ),
    TemplateFamily(
        "Qwen3",
        ("qwen3",),
        TemplateRules(system="anywhere", other_roles=False, reasoning="current_turn"),
        ("Qwen-Qwen3-0.6B", "Qwen3-Coder"),
        _ENGINE,
        _CHATML_FACTS,
    ),
    TemplateFamily(
        "Qwen2.5",
        ("qwen2.5",),
        TemplateRules(system="anywhere", other_roles=False, reasoning="dropped"),
        ("Qwen-Qwen2.5-7B-Instruct",),
        _ENGINE,
        {**_CHATML_FACTS, "reasoning": "never read"},
    ),
    TemplateFamily(
        "Nemotron 3 Nano",
        ("nemotron-3-nano",),
        TemplateRules(system="anywhere", reasoning="current_turn"),
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",),
        _ENGINE,
        {
            "system": "shown in every place",
            "reasoning": "shown since the newest user message",
        },
    ),
    TemplateFamily(
        "GLM 4.6 and later",
        ("glm-4.6", "glm-4.7", "glm-5"),
        TemplateRules(system="anywhere", other_roles=False, reasoning="current_turn"),
        ("GLM-4.6", "GLM-4.7-Flash"),
        _ENGINE,
        _CHATML_FACTS,
    ),
    TemplateFamily(
        "Kimi K2",
        ("kimi-k2",),
        TemplateRules(system="anywhere", other_roles=False, reasoning="unknown"),
        ("moonshotai-Kimi-K2",),
        _RENDERED,
        {"system": "shown in every place", "other_roles": "shown without the role"},
    ),
)


@lru_cache(maxsize=256)
def family_of(model: str) -> TemplateFamily | None:
    """Return the family of a model by its ID in any letter case, or `None`."""
    name = model.lower()
    for family in FAMILIES:
        if any(part in name for part in family.parts):
            return family
    return None
