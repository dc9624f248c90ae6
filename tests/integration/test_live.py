"""Programs of users on Nscale itself, where NSCALE_SERVICE_TOKEN is set."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_nscale import (
    ChatNscale,
    NscaleEmbeddings,
    NscaleModelNotFoundError,
    get_nscale_usage_callback,
    list_models,
)
from tests.conftest import LIVE_TOKEN
from tests.integration.conftest import MODEL

TOOLS_MODEL = "openai/gpt-oss-20b"

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not LIVE_TOKEN, reason="NSCALE_SERVICE_TOKEN isn't set"),
]


def chat(model: str = MODEL, **settings: Any) -> ChatNscale:
    return ChatNscale(model=model, service_token=LIVE_TOKEN, temperature=0, **settings)


def test_a_chain_and_its_spend() -> None:
    model = chat(max_tokens=20)
    prompt = ChatPromptTemplate.from_template("Say {word} and nothing else.")
    with get_nscale_usage_callback(model.list_models()) as usage:
        assert (prompt | model | StrOutputParser()).invoke({"word": "cheese"})
    assert usage.cost
    assert usage.total.unreported == 0


def test_a_stream_says_what_invoke_says() -> None:
    model = chat(max_tokens=20, seed=1)
    first, *rest = model.stream("Count to five.")
    total = first + rest
    assert total.text == model.invoke("Count to five.").text
    assert total.usage_metadata is not None


def test_an_agent() -> None:
    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        return f"It is snowing in {city}"

    inputs: Any = {"messages": [("user", "What is the weather in Oslo?")]}
    result = create_agent(chat(TOOLS_MODEL), [get_weather]).invoke(inputs)
    assert "snow" in result["messages"][-1].text.lower()


def test_a_graph() -> None:
    model = chat(max_tokens=20)

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    inputs: Any = {"messages": [("user", "Hello!")]}
    chunks = builder.compile().stream(inputs, stream_mode="messages")
    assert "".join(chunk.text for chunk, _ in chunks)  # type: ignore[union-attr]  # pairs, in this mode


def test_an_answer_in_a_schema() -> None:
    class Person(BaseModel):
        """A person."""

        name: str
        age: int

    person = chat().with_structured_output(Person).invoke("Ann is seven years old.")
    assert person == Person(name="Ann", age=7)


def test_retrieval() -> None:
    embeddings = NscaleEmbeddings(
        model="Qwen/Qwen3-Embedding-8B", service_token=LIVE_TOKEN, dimensions=256
    )
    store = InMemoryVectorStore(embeddings)
    store.add_documents([Document("Cats sleep a lot."), Document("Bread costs a crown.")])
    (found,) = store.similarity_search("What do pets do all day?", k=1)
    assert found.page_content == "Cats sleep a lot."


def test_the_model_list_and_an_unknown_model() -> None:
    assert any(model.price for model in list_models(service_token=LIVE_TOKEN))
    with pytest.raises(NscaleModelNotFoundError) as caught:
        chat("meta-llama/llama-3.1-8b-instruct-x").invoke("Hi")
    assert caught.value.suggestions
