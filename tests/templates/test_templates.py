"""What ChatNscale sends, rendered by the models' own chat templates."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langchain_nscale.data._profiles import _PROFILES
from langchain_nscale.templates import FAMILIES, STRICT, TemplateRules, family_of
from scripts.templates_page import NOT_WHOLE, NOT_WHOLE_WITH_TOOLS
from tests import prompts
from tests.templates.environment import PYTHON, TEMPLATES
from tests.templates.histories import HISTORIES, TOOL, body_of, lost

NAMES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
MISTRAL = tuple(f"mistral-common:V{version}" for version in (3, 5, 11, 13))
# A model of each family of Nscale's catalog, and of others.
MODELS = (
    *dict.fromkeys(_PROFILES),
    "Qwen/Qwen3.5-4B",
    "mistralai/Ministral-3-14B",
    "mistralai/Mistral-Nemo-Instruct-2407",
    "meta-llama/Llama-3.3-70B-Instruct",
    "zai-org/GLM-5.2-FP8",
)


Render = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def render() -> Iterator[Render]:
    """Renders requests with templates, in a process that has transformers."""
    script = Path(__file__).parent / "render.py"
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([PYTHON, script, TEMPLATES], **pipes) as process:  # noqa: S603  # our own

        def ask(rows: list[dict[str, Any]]) -> list[Any]:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(rows) + "\n")
            process.stdin.flush()
            result: list[Any] = json.loads(process.stdout.readline())
            return result

        yield ask


def losses(
    render: Render,
    templates: tuple[str, ...],
    model: str,
    *,
    has_tools: bool,
    **options: Any,
) -> list[str]:
    """Return what is missing from the prompts of all histories."""
    bodies = {
        name: body_of(model, history, has_tools=has_tools, **options)
        for name, history in HISTORIES.items()
    }
    keys = [(template, name) for template in templates for name in bodies]
    shown = render([{"template": t, **bodies[name]} for t, name in keys])
    return [
        f"{template}, {name}: {missing}"
        for (template, name), prompt in zip(keys, shown, strict=True)
        if (missing := lost(bodies[name], prompt))
    ]


def templates_of(model: str) -> tuple[str, ...]:
    family = family_of(model)
    assert family is not None
    return family.templates + (MISTRAL if "stral" in family.name else ())


@pytest.mark.parametrize("model", [m for m in MODELS if templates_of(m)])
@pytest.mark.parametrize("has_tools", [False, True])
def test_every_conversation_arrives(render: Render, model: str, has_tools: bool) -> None:
    if has_tools and not TemplateRules.for_model(model).tools:
        pytest.skip("the template shows no tools")
    assert losses(render, templates_of(model), model, has_tools=has_tools) == []


@pytest.mark.parametrize(
    ("rules", "has_tools", "known"),
    [
        (replace(STRICT, tools=False), False, NOT_WHOLE),
        (STRICT, True, NOT_WHOLE_WITH_TOOLS),
    ],
)
def test_the_strict_form_arrives_nearly_everywhere(
    render: Render, rules: TemplateRules, has_tools: bool, known: dict[str, str]
) -> None:
    found = losses(render, tuple(NAMES), "m", has_tools=has_tools, rules=rules)
    assert {text.partition(",")[0] for text in found} == set(known)


def test_how_many_templates_carry_the_strict_form(render: Render) -> None:
    body = {"messages": [{"role": "user", "content": "u"}], "tools": [TOOL]}
    shown = render([{"template": name, **body} for name in NAMES])
    showing = [n for n, p in zip(NAMES, shown, strict=True) if "M_tool" in p]
    assert len(NAMES) == 70  # the package's
    assert len(NAMES) - len(NOT_WHOLE) >= 60  # the promise
    whole = [name for name in showing if name not in NOT_WHOLE_WITH_TOOLS]
    assert len(whole) >= 0.9 * len(showing)


EXECUTABLE = {
    "meta-llama-Llama-3.1-8B-Instruct": prompts.llama,
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": prompts.r1,
    "openai-gpt-oss-120b": prompts.gpt_oss_jinja,
    "mistralai-Mistral-Nemo-Instruct-2407": prompts.nemo,
    "Mistral-Small-3.2-24B-Instruct-2506": prompts.mistral_small,
    "mistralai-Ministral-3-14B-Reasoning-2512": prompts.ministral,
    "mistral-common:V3": prompts.mistral_common,
    "mistral-common:V5": prompts.mistral_common_v7,
    "Qwen3.5-4B": prompts.qwen3_5,
    "Qwen-Qwen3-0.6B": prompts.qwen,
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": prompts.nemotron,
}


@pytest.mark.parametrize("template", EXECUTABLE)
@pytest.mark.parametrize("has_tools", [False, True])
def test_the_executable_models_are_right(
    render: Render, template: str, has_tools: bool
) -> None:
    """They find the same faults in messages that are sent as they are."""
    plain = TemplateRules(system="anywhere")
    bodies = {
        name: body_of("m", history, has_tools=has_tools, rules=plain)
        for name, history in HISTORIES.items()
    }
    originals = render([{"template": template, **body} for body in bodies.values()])
    for (name, body), original in zip(bodies.items(), originals, strict=True):
        try:
            model: Any = EXECUTABLE[template](body["messages"], body.get("tools") or [])
        except prompts.TemplateError as error:
            if "as the user's" in str(error):  # stricter than the template
                continue
            model = {"error": str(error)}
        assert bool(lost(body, model)) == bool(lost(body, original)), (name, original)


def test_every_template_belongs_to_one_family() -> None:
    named = [name for family in FAMILIES for name in family.templates]
    assert len(named) == len(set(named))
    assert set(named) <= set(NAMES)
