"""Text, structure, reasoning and statistics in the engine's replies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel, Field

from tests.integration.test_chat import WAYS, consume
from tests.vllm.engine import Engine
from tests.vllm.test_tools import TOOLS

THOUGHT = "Two and two are four."


class Joke(BaseModel):
    """A joke."""

    setup: str = Field(max_length=30)
    rating: int = Field(ge=1, le=9)


@WAYS
async def test_a_text(engine: Engine, way: str) -> None:
    message = await consume(engine.chat(), "Say hello.", way)
    assert message.text.startswith("Hello! I am a language model.")
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] > 10


@WAYS
async def test_a_stop_string(engine: Engine, way: str) -> None:
    message = await consume(engine.chat(stop=["!"]), "Say hello.", way)
    assert message.text == "Hello"


def test_probabilities_and_token_ids(engine: Engine) -> None:
    chat = engine.chat(logprobs=True, top_logprobs=2, max_tokens=3)
    chat.extra_body = {"return_token_ids": True}
    whole = chat.invoke("Say hello.").response_metadata
    chunks = list(chat.stream("Say hello."))
    streamed = sum(chunks[1:], chunks[0]).response_metadata
    assert len(whole["logprobs"]["content"]) == 3
    assert len(streamed["logprobs"]["content"]) == 3
    assert len(whole["token_ids"]) == 3
    assert streamed["token_ids"] == whole["token_ids"]


def test_several_answers(engine: Engine) -> None:
    result = engine.chat(n=2, max_tokens=3, temperature=1.0).generate(
        [[HumanMessage("Say hello.")]]
    )
    assert len(result.generations[0]) == 2


@pytest.mark.parametrize("method", ["json_schema", "function_calling", None])
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_schema(engine: Engine, method: Any, way: str) -> None:
    chain = engine.chat(max_tokens=60).with_structured_output(Joke, method=method)
    if way == "invoke":
        joke = chain.invoke("Say hello.")
    else:
        *_, joke = chain.stream("Say hello.")
    assert joke == Joke(setup="Why?", rating=4)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("limit", [2, 4, 6])
def test_a_schema_that_is_cut_is_an_error(
    engine: Engine, method: Any, way: str, limit: int
) -> None:
    chain = engine.chat(max_tokens=limit).with_structured_output(Joke, method=method)
    with pytest.raises(ValueError, match="max_tokens"):
        chain.invoke("Say hello.") if way == "invoke" else list(
            chain.stream("Say hello.")
        )


@pytest.mark.parametrize(
    "kind", [set[int], frozenset[str], bytes, dict[str, int]], ids=str
)
def test_types_that_grammars_do_not_know(engine: Engine, kind: Any) -> None:
    """Keywords that only narrow a schema are left out, so nothing is rejected."""
    model = type("Model", (BaseModel,), {"__annotations__": {"x": kind}})
    chain = engine.chat(max_tokens=60).with_structured_output(model, include_raw=True)
    assert chain.invoke("Free choice at random")["raw"].response_metadata["finish_reason"]


async def test_many_calls_at_once(engine: Engine) -> None:
    chat = engine.chat()
    questions = [f"[[say: Number {n}.]]" for n in range(50)]
    answers = await asyncio.gather(*map(chat.ainvoke, questions))
    assert [answer.text for answer in answers] == [f"Number {n}." for n in range(50)]


# --- reasoning --------------------------------------------------------------------------


def blocks_of(message: AIMessage) -> list[tuple[str, str]]:
    blocks: Any = message.content_blocks
    return [
        (block["type"], (block.get("reasoning") or block.get("text") or "").strip())
        for block in blocks
    ]


@WAYS
async def test_reasoning(thinking: Engine, way: str) -> None:
    message = await consume(thinking.chat(), "[[think]] What is 2+2?", way)
    assert blocks_of(message) == [("reasoning", THOUGHT), ("text", "It is 4.")]
    assert message.text == "It is 4."


@WAYS
async def test_reasoning_before_a_call(thinking: Engine, way: str) -> None:
    model = thinking.chat().bind_tools(TOOLS)
    message = await consume(model, "[[think-call]] Weather?", way)
    assert [kind for kind, _ in blocks_of(message)] == ["reasoning", "tool_call"]
    assert [call["args"] for call in message.tool_calls] == [{"city": "Paris"}]


def test_reasoning_that_is_sent_back_reaches_the_model(thinking: Engine) -> None:
    """The template renders it, so the prompt is longer by its tokens."""
    first = thinking.chat().bind_tools(TOOLS).invoke("[[think-call]] Weather?")
    results = [ToolMessage("Sunny", tool_call_id=c["id"]) for c in first.tool_calls]
    tokens = {}
    for history in ("never", "tool_turns", "always"):
        chat = thinking.chat(max_tokens=5, reasoning_history=history).bind_tools(TOOLS)
        reply = chat.invoke([HumanMessage("Weather?"), first, *results])
        assert reply.usage_metadata is not None
        tokens[history] = reply.usage_metadata["input_tokens"]
    assert tokens["tool_turns"] == tokens["always"] > tokens["never"] + 5


@WAYS
async def test_think_tags_without_a_parser(engine: Engine, way: str) -> None:
    chat = engine.chat(think_tags="both")
    message = await consume(chat, "[[think]] What is 2+2?", way)
    assert blocks_of(message) == [("reasoning", THOUGHT), ("text", "It is 4.")]
