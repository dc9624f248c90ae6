"""What the real engine makes of a conversation, with the models' own chat templates."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langchain.agents import create_agent
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import tool

from langchain_nscale import NscaleInvalidRequestError, TemplateRules
from tests.templates.environment import READY, TEMPLATES
from tests.templates.histories import HISTORIES, body_of, lost
from tests.vllm.engine import HERMES, KEY, Engine, running
from tests.vllm.environment import HERE, PYTHON

pytestmark = pytest.mark.skipif(
    not READY.exists(), reason="no templates: run `make test-templates`"
)

MODELS = {
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama-Llama-3.1-8B-Instruct",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": (
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B"
    ),
    "openai/gpt-oss-20b": "openai-gpt-oss-120b",
    "mistralai/mixtral-8x22b-instruct-v0.1": "mistralai-Mistral-Nemo-Instruct-2407",
    "mistralai/Ministral-3-14B": "mistralai-Ministral-3-14B-Reasoning-2512",
    "Qwen/Qwen3-8B": "Qwen-Qwen3-0.6B",
    "Qwen/Qwen3.5-4B": "Qwen3.5-4B",
    "Qwen/Qwen2.5-Coder-7B-Instruct": "Qwen-Qwen2.5-7B-Instruct",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "zai-org/GLM-5.2-FP8": "GLM-4.7-Flash",
}
UNKNOWN = "some/model"
CALLS = "".join(
    f'<tool_call>\n{{"name": "look", "arguments": {{"at": "{at}"}}}}\n</tool_call>\n'
    for at in ("M_here", "M_there")
)
# Patterns for the whole prompt begin with "^".
RULES = [
    {"if": "^.*M_seen", "say": "M_final"},
    {"if": "^.*M_tool", "say": f"M_first\n{CALLS}"},
    {"if": "^", "say": "M_plain"},
]


@tool
def look(at: str) -> str:
    """Look with the M_tool."""
    return f"M_seen_{at}"


@pytest.fixture(scope="module")
def templates_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that takes the template with the request."""
    script: Path = tmp_path_factory.mktemp("script") / "rules.json"
    script.write_text(json.dumps(RULES), encoding="utf-8")
    names = ("--served-model-name", *MODELS, UNKNOWN)
    options = (*HERMES, "--trust-request-chat-template", *names)
    with running(*options, script=script) as server:
        yield server


def template(name: str) -> dict[str, str]:
    return {"chat_template": (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")}


def prompt_of(engine: Engine, body: dict[str, Any], name: str) -> Any:
    """Return what the model reads of a request, or an error."""
    root = engine.base_url.removesuffix("/v1")
    headers = {"Authorization": f"Bearer {KEY}"}
    asked: dict[str, Any] = {
        key: body[key] for key in ("messages", "tools") if key in body
    }
    asked |= {"model": UNKNOWN, "add_generation_prompt": True, **template(name)}
    reply = httpx2.post(f"{root}/tokenize", json=asked, headers=headers, timeout=60)
    if reply.status_code != httpx2.codes.OK:
        return {"error": reply.text}
    tokens = {"model": UNKNOWN, "tokens": reply.json()["tokens"]}
    shown = httpx2.post(f"{root}/detokenize", json=tokens, headers=headers, timeout=60)
    return shown.json()["prompt"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("has_tools", [False, True])
def test_every_conversation_arrives(
    templates_engine: Engine, model: str, has_tools: bool
) -> None:
    if has_tools and not TemplateRules.for_model(model).tools:
        pytest.skip("the template shows no tools")
    missing = {}
    for name, history in HISTORIES.items():
        body = body_of(model, history, has_tools=has_tools)
        found = lost(body, prompt_of(templates_engine, body, MODELS[model]))
        if found:
            missing[name] = found
    assert missing == {}


@pytest.mark.parametrize(
    "model", [model for model in MODELS if TemplateRules.for_model(model).tools]
)
def test_an_agent_with_parallel_calls_goes_on(
    templates_engine: Engine, model: str
) -> None:
    chat = templates_engine.chat(model=model, extra_body=template(MODELS[model]))
    agent: Any = create_agent(chat, [look])
    messages: list[BaseMessage] = [HumanMessage("M_question")]
    messages = agent.invoke({"messages": messages})["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "tool", "ai"]
    assert messages[1].text.strip() == "M_first"
    assert messages[-1].text == "M_final"
    messages = agent.invoke({"messages": [*messages, HumanMessage("M_again")]})[
        "messages"
    ]
    assert messages[-1].text == "M_final"
    body = chat.request_body(messages[:-1], tools=[look])
    spoken = ("M_question", "M_first", "M_seen_M_here", "M_seen_M_there", "M_again")
    shown = prompt_of(templates_engine, body, MODELS[model])
    assert all(word in shown for word in spoken)


@pytest.mark.parametrize(
    "name", ["Llama-3.1-8B-Instruct", "Ministral-3-14B-Reasoning-2512"]
)
def test_an_unknown_model_heals_itself(templates_engine: Engine, name: str) -> None:
    (path,) = TEMPLATES.glob(f"*{name}.jinja")
    fields = {"extra_body": template(path.stem)}
    chat = templates_engine.chat(model=UNKNOWN, **fields)
    history = HISTORIES["parallel calls with text, with system, answered"]
    history = [*history, HumanMessage("M_more")]
    reply = chat.invoke(history, tools=[look])
    assert reply.response_metadata["retries"] == 1
    assert "retries" not in chat.invoke(history, tools=[look]).response_metadata
    as_is = templates_engine.chat(model=UNKNOWN, template_rules="as_is", **fields)
    with pytest.raises(NscaleInvalidRequestError, match="`template_rules`"):
        as_is.invoke(history, tools=[look])


def test_gpt_oss_as_vllm_renders_it_without_a_template() -> None:
    bodies = [
        body_of("openai/gpt-oss-20b", history, has_tools=False)
        for history in HISTORIES.values()
    ]
    done = subprocess.run(  # noqa: S603  # our own
        [PYTHON, HERE / "harmony.py"],
        input=json.dumps([body["messages"] for body in bodies]),
        capture_output=True,
        text=True,
        check=True,
    )
    texts = json.loads(done.stdout.splitlines()[-1])  # vLLM may print something before it
    missing = {
        name: found
        for name, body, text in zip(HISTORIES, bodies, texts, strict=True)
        if (found := lost(body, text))
    }
    assert missing == {}
