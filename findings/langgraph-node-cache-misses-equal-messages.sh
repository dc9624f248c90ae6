#!/usr/bin/env bash
# LangGraph: the cache of a node (`CachePolicy`) never hits in a graph of messages. `add_messages`
# gives each message a random ID, and the key is made of the whole input, IDs included. The same
# node with a plain string in the state is a hit, as is the message with an ID of your own.
#
# Guess: the same question is the same input.
# Why it matters: the cache looks switched on, and every call is paid.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    langgraph==1.2.24 langgraph-checkpoint==4.3.2 langchain-core==1.8.3
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from typing import TypedDict

from langchain_core.messages import HumanMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import CachePolicy

calls = []


class Question(TypedDict):
    question: str
    answer: str


def answer_messages(state):
    calls.append(state)
    return {"messages": [("ai", "Paris")]}


def answer_text(state):
    calls.append(state)
    return {"answer": "Paris"}


def count(schema, node, request):
    graph = StateGraph(schema)
    graph.add_node("ask", node, cache_policy=CachePolicy())
    graph.add_edge(START, "ask")
    app = graph.compile(cache=InMemoryCache())
    calls.clear()
    for _ in range(3):
        app.invoke(request())
    return len(calls)


print({name: version(name) for name in ("langgraph", "langchain-core")})
text = "Capital of France?"
seen = {
    "text in the state": count(Question, answer_text, lambda: {"question": text}),
    "a message": count(MessagesState, answer_messages, lambda: {"messages": [("user", text)]}),
    "a message with an ID": count(
        MessagesState, answer_messages, lambda: {"messages": [HumanMessage(text, id="1")]}
    ),
}
for name, number in seen.items():
    print(f"{name}, asked three times with a cache: {number} calls of the node")
sys.exit(None if list(seen.values()) == [1, 3, 1] else "This no longer holds.")
PYTHON
