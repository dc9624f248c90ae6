"""A real model: SmolLM2 with 135 million parameters. What it says is not tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from tests.vllm.engine import Engine, running
from tests.vllm.test_endings import wait_until_idle


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


QUESTION = "What is the capital of France?"


def test_probabilities(smol: Engine) -> None:
    chat = smol.chat(logprobs=True, top_logprobs=2, max_tokens=5)
    whole = chat.invoke(QUESTION).response_metadata["logprobs"]["content"]
    chunks = list(chat.stream(QUESTION))
    streamed = sum(chunks[1:], chunks[0]).response_metadata["logprobs"]["content"]
    assert [token["token"] for token in whole] == [token["token"] for token in streamed]
    # At temperature 0, each token is the most likely one.
    assert all(t["token"] == t["top_logprobs"][0]["token"] for t in whole)


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_stop_sequence_ends_the_answer(smol: Engine, way: str) -> None:
    answer = str(smol.chat(max_tokens=20).invoke(QUESTION).text)
    stop = answer.split()[3]
    chat = smol.chat(max_tokens=20, stop=[stop])
    if way == "invoke":
        text = str(chat.invoke(QUESTION).text)
    else:
        text = "".join(chunk.text for chunk in chat.stream(QUESTION))
    assert text == answer.partition(stop)[0]


def test_several_answers(smol: Engine) -> None:
    chat = smol.chat(n=3, temperature=1.0, max_tokens=10)
    (answers,) = chat.generate([[HumanMessage("Tell me a story.")]]).generations
    assert len(answers) == 3
    assert len({answer.text for answer in answers}) > 1


def test_a_stream_that_is_left_ends_in_the_engine(smol: Engine) -> None:
    for _ in smol.chat(max_tokens=2000).stream("Tell me a very long story."):
        break
    wait_until_idle(smol)
