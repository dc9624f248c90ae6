"""Conversations across models whose chat templates differ, against the stand-in."""

from __future__ import annotations

import json
import re
from itertools import permutations
from typing import Any

import httpx2
import pytest
from langchain.agents import create_agent
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool

from langchain_nscale import NscaleInvalidRequestError
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests import prompts

MODELS = {
    "meta-llama/Llama-3.1-8B-Instruct": (prompts.llama,),
    "Qwen/Qwen3-8B": (prompts.qwen,),
    "openai/gpt-oss-120b": (prompts.gpt_oss_jinja, prompts.gpt_oss_harmony),
    "mistralai/Devstral-Small-2505": (prompts.mistral_small, prompts.mistral_common),
    "mistralai/mixtral-8x22b-instruct-v0.1": (prompts.nemo, prompts.mistral_common),
    "zai-org/GLM-5.2-FP8": (prompts.qwen,),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (prompts.nemotron,),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": (prompts.r1,),
}
BLIND = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"


@tool
def look(at: str) -> str:
    """Look at a place."""
    return f"M-seen-{at}"


def words(value: Any) -> set[str]:
    return set(re.findall(r"M-[\w-]+", str(value)))


def check_prompt(body: dict[str, Any], history: list[BaseMessage]) -> None:
    spoken = words([message.content for message in history])
    spoken |= words([getattr(message, "tool_calls", "") for message in history])
    for template in MODELS[body["model"]]:
        shown = words(template(body["messages"], body.get("tools") or []))
        assert spoken <= shown, template.__name__


@pytest.mark.parametrize("first", MODELS)
def test_each_model_continues_what_others_began(
    make: Any, server: NscaleServer, first: str
) -> None:
    """Parallel calls with text, by each model in turn, never rejected or lost."""
    others = [model for model in MODELS if model != first]
    history: list[BaseMessage] = [SystemMessage("M-system"), HumanMessage("M-start")]
    for number, model in enumerate([first, *others, first]):
        chat = make(model=model, max_retries=0)
        if model == BLIND:
            server.add(ServerReply(text=f"M-{number}-blind"))
            history.append(chat.invoke(history))
        else:
            calls = [
                ToolCallReply("look", {"at": f"M-{number}-a"}),
                ToolCallReply("look", {"at": f"M-{number}-b"}),
            ]
            server.add(ServerReply(text=f"M-{number}-beside", tool_calls=calls))
            server.add(ServerReply(text=f"M-{number}-answer"))
            agent: Any = create_agent(chat, [look])
            history = agent.invoke({"messages": history})["messages"]
            assert history[-1].text == f"M-{number}-answer"
        # Not one request more: none was rejected and repeated.
        assert len(server.requests) == (1 if model == BLIND else 2)
        check_prompt(server.requests[-1].json, history[:-1])
        server.reset()
        history.append(HumanMessage(f"M-{number}-next"))


PAIR: list[dict[str, Any]] = [
    {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "look", "arguments": json.dumps({"at": str(number)})},
    }
    for number in range(2)
]
RESULTS = [{"role": "tool", "tool_call_id": c["id"], "content": "x"} for c in PAIR]
USER = {"role": "user", "content": "u"}
ANSWER = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
TOOLS = [{"type": "function", "function": {"name": "look"}}]


@pytest.mark.parametrize(
    ("model", "messages", "said"),
    [
        (
            "meta-llama/Llama-3.1-8B-Instruct",
            [USER, {"role": "assistant", "content": None, "tool_calls": PAIR}, *RESULTS],
            "single tool-calls at once",
        ),
        ("meta-llama/Llama-3.1-8B-Instruct", [SYSTEM], "no first user message"),
        ("mistralai/Devstral-Small-2505", [USER, USER], "roles must alternate"),
        ("mistralai/Devstral-Small-2505", [ANSWER, USER], "roles must alternate"),
        ("mistralai/Devstral-Small-2505", [USER, ANSWER], "last message is from"),
        (
            "mistralai/Devstral-Small-2505",
            [USER, {**ANSWER, "content": ""}, USER],
            "either content or tool_calls",
        ),
        (
            "mistralai/mixtral-8x22b-instruct-v0.1",
            [
                *(USER, {"role": "assistant", "content": None, "tool_calls": PAIR[:1]}),
                RESULTS[0],
            ],
            "with length 9",
        ),
        ("Qwen/Qwen3.5-4B", [USER, SYSTEM], "must be at the beginning"),
        ("Qwen/Qwen3.5-4B", [SYSTEM], "No user query"),
        ("Qwen/Qwen3-8B", [USER, SYSTEM, USER], None),
        ("nobody/knows-it", [USER, USER, SYSTEM], None),
    ],
)
def test_the_stand_in_rejects_what_a_template_rejects(
    server: NscaleServer, model: str, messages: Any, said: str | None
) -> None:
    body = {"model": model, "messages": messages, "tools": TOOLS}
    headers = {"Authorization": f"Bearer {server.settings['service_token']}"}
    reply = httpx2.post(f"{server.base_url}/chat/completions", json=body, headers=headers)
    assert (said or "choices") in reply.text
    assert reply.status_code == (400 if said else 200)


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_as_is_shows_what_the_service_would_say(
    make: Any, server: NscaleServer, order: tuple[int, ...]
) -> None:
    turns = [("user", "u"), ("assistant", "a"), ("system", "s")]
    history = [turns[number] for number in order]
    as_is = make(model="Qwen/Qwen3.5-4B", template_rules="as_is")
    if history[0][0] == "system":
        assert as_is.invoke(history).text
    else:
        with pytest.raises(NscaleInvalidRequestError, match="template_rules"):
            as_is.invoke(history)
    assert make(model="Qwen/Qwen3.5-4B").invoke(history).text
    assert len(server.requests) == 2
