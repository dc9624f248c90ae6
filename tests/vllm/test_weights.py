"""A real model: SmolLM2 with 135 million parameters. What it says is not tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from tests.vllm.engine import Engine, running


@pytest.fixture(scope="module")
def smol() -> Iterator[Engine]:
    with running(model="smol") as server:
        yield server


class Answer(BaseModel):
    """An answer."""

    city: str
    is_capital: bool


def test_it_answers(smol: Engine) -> None:
    question = "What is the capital of France?"
    whole = smol.chat(max_tokens=20).invoke(question)
    streamed = "".join(c.text for c in smol.chat(max_tokens=20).stream(question))
    assert whole.text == streamed
    assert "Paris" in whole.text


def test_a_seed_repeats_an_answer(smol: Engine) -> None:
    chat = smol.chat(max_tokens=10, temperature=1.0, seed=5)
    assert chat.invoke("Tell me a story.").text == chat.invoke("Tell me a story.").text


def test_a_schema_holds(smol: Engine) -> None:
    chat = smol.chat(max_tokens=100, temperature=0.5)
    chain = chat.with_structured_output(Answer, include_raw=True)
    result = chain.invoke("Is Paris a capital?")
    if result["raw"].response_metadata["finish_reason"] == "stop":
        assert isinstance(result["parsed"], Answer)


def test_many_at_once(smol: Engine) -> None:
    answers = smol.chat(max_tokens=5).batch([f"What is {n} + 1?" for n in range(50)])
    assert all(answer.usage_metadata for answer in answers)
