"""Requests that no server rejects, whatever is in the history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_nscale import ChatNscale
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL

TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PNG = "iVBORw0KGgo="
TYPES = [
    "text", "image", "image_url", "file", "json", "document", "search_result", "audio",
    "reasoning", "thinking", "tool_use", "tool_call", "tool_call_chunk", "non_standard",
    "server_tool_use", "web_search_call", "code_execution_result", "citation", "refusal",
    "image_generation_call", "who_knows",
]  # fmt: skip
BLOCK = TEXT | st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={
        "text": TEXT | st.none(),
        "name": TEXT,
        "id": TEXT,
        "input": JSON,
        "args": JSON,
        "url": st.sampled_from(["https://x/y.png", "ftp://x", ""]),
        "base64": st.just(PNG),
        "mime_type": st.sampled_from(["image/png", "application/pdf"]),
        "source": st.just({"type": "base64", "media_type": "image/png", "data": PNG}),
        "content": JSON,
        "value": st.dictionaries(TEXT, JSON, max_size=2),
        "reasoning": TEXT,
        "refusal": TEXT,
    },
)


def with_source(block: Any) -> Any:
    """Give images a source: langchain-core itself raises where they have none."""
    if isinstance(block, dict) and block["type"] in ("image", "audio", "file"):
        return {"base64": PNG, "mime_type": "image/png", **block}
    return block


BLOCK = BLOCK.map(with_source)
CONTENT = TEXT | st.lists(BLOCK, max_size=3)
IDS = st.sampled_from(["a", "b", "c", ""])
NAMES = st.sampled_from(["f", "get.weather", "mcp/x y", "n" * 80, ""])
ARGS = st.dictionaries(TEXT, JSON, max_size=2)


def assistant(
    content: Any, calls: list[Any], bad: list[Any], reasoning: str
) -> AIMessage:
    return AIMessage(
        content,
        tool_calls=[{"name": n, "args": a, "id": i} for n, a, i in calls],
        invalid_tool_calls=[
            {"name": n, "args": a, "id": i, "error": None} for n, a, i in bad
        ],
        additional_kwargs={"reasoning_content": reasoning} if reasoning else {},
    )


MESSAGE = st.one_of(
    st.builds(HumanMessage, TEXT),
    st.builds(SystemMessage, TEXT),
    st.builds(
        assistant,
        CONTENT,
        st.lists(st.tuples(NAMES, ARGS, IDS), max_size=2),
        st.lists(st.tuples(NAMES, TEXT, IDS), max_size=1),
        TEXT,
    ),
    st.builds(ToolMessage, content=CONTENT, tool_call_id=IDS),
)


@pytest.fixture(scope="module")
def strict_server() -> Iterator[NscaleServer]:
    with NscaleServer(responder=lambda _: ServerReply(text="ok")) as running:
        yield running


@settings(max_examples=500)
@given(
    history=st.lists(MESSAGE, max_size=6),
    reasoning=st.sampled_from(["never", "tool_turns", "always"]),
    model_id=st.sampled_from([MODEL, "Qwen/Qwen3-8B", "unknown/model"]),
)
def test_any_history_is_accepted(
    strict_server: NscaleServer, history: list[Any], reasoning: Any, model_id: str
) -> None:
    model = ChatNscale(
        model=model_id, reasoning_history=reasoning, **strict_server.settings
    )
    strict_server.reset()
    assert model.invoke([*history, HumanMessage("And now?")]).text == "ok"
    (request,) = strict_server.requests
    body = json.loads(request.body)
    answered = {m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"}
    called = {c["id"] for m in body["messages"] for c in m.get("tool_calls") or ()}
    assert answered == called
