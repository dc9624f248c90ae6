from __future__ import annotations

import warnings
from datetime import date
from typing import Any

import pytest
from langchain_core.language_models import ModelProfile

from langchain_nscale import ChatNscale, TemplateRules
from langchain_nscale._model_facts import KNOWN_FACTS
from langchain_nscale.data._profiles import _PROFILES
from langchain_nscale.models import parse_model
from tests.unit.service import Service, chat, completion, embeddings, vectors

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def test_profiles_are_found_whatever_the_letter_case() -> None:
    profile = ChatNscale(model=LLAMA.lower(), api_key="t").profile
    assert profile == ChatNscale(model=LLAMA, api_key="t").profile
    assert profile is not None
    assert profile["max_input_tokens"] == 131072
    assert ChatNscale(model="nobody/knows-it", api_key="t").profile is None


def test_a_models_own_profile_counts() -> None:
    own: ModelProfile = {"max_input_tokens": 1}
    assert ChatNscale(model=LLAMA, api_key="t", profile=own).profile == own


def test_a_changed_profile_changes_no_other_model() -> None:
    one = ChatNscale(model=LLAMA, api_key="t")
    assert one.profile is not None
    one.profile["max_input_tokens"] = 1
    assert ChatNscale(model=LLAMA, api_key="t").profile != one.profile


@pytest.mark.parametrize("model", sorted(_PROFILES))
def test_each_profile_is_complete_and_known_to_langchain(model: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # langchain-core warns of unknown keys
        profile = ChatNscale(model=model, api_key="t").profile
    assert profile is not None
    assert profile["max_input_tokens"] >= 32000
    assert profile["tool_choice"] is False
    assert profile["name"]
    assert profile["text_inputs"]
    assert profile["text_outputs"]
    assert isinstance(profile["reasoning_output"], bool)


def test_models_that_think_in_their_text() -> None:
    for model, text in (
        ("Qwen/Qwen3-4B-Thinking-2507", "yes"),
        (LLAMA, "why</think>yes"),
        ("nobody/knows-it", "why</think>yes"),
    ):
        service = Service(completion("why</think>yes"))
        assert chat(service, model=model).invoke("Hi").text == text


def test_facts_of_all_families_add_up() -> None:
    both = "qwen/QWEN3-Embedding-8B"
    service = Service(vectors([3.0, 4.0, 9.0]))
    model = embeddings(service, model=both, dimensions=2)
    assert model.embed_query("what?") == [0.6, 0.8]
    assert service.bodies[0]["input"][0].startswith("Instruct: ")
    assert parse_model({"id": both}).kind == "embedding"
    assert parse_model({"id": "nobody/knows-it"}).kind is None


@pytest.mark.parametrize("family", KNOWN_FACTS, ids=lambda family: family.parts[0])
def test_each_fact_has_a_reason_a_source_and_a_date(family: Any) -> None:
    assert family.facts != type(family.facts)()
    assert all(part == part.lower() and part for part in family.parts)
    assert family.reason.endswith(".")
    assert len(family.source) > 20
    assert date(2026, 1, 1) < date.fromisoformat(family.checked) <= date(2026, 12, 31)


def test_profiles_follow_from_the_rules_of_the_templates() -> None:
    for model, profile in _PROFILES.items():
        rules = TemplateRules.for_model(model)
        in_place = rules.system in ("anywhere", "joined")
        assert profile["mid_conversation_system_messages"] is in_place, model
        assert profile.get("image_tool_message") is profile.get("image_inputs"), model
        if not rules.tools:
            assert profile["tool_calling"] is False, model
