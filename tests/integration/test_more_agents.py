"""Deep Agents, tools by the Model Context Protocol, and an agent that retrieves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_mcp_adapters.client import MultiServerMCPClient

from langchain_nscale import NscaleEmbeddings, get_nscale_usage_callback
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply


@pytest.mark.skipif(sys.version_info < (3, 11), reason="deepagents needs Python 3.11")
def test_deep_agents(make: Any, server: NscaleServer) -> None:
    """It writes a file, hands a task to a subagent, and answers."""
    from deepagents import create_deep_agent  # noqa: PLC0415  # not on Python 3.10

    server.add(
        ServerReply(
            tool_calls=[
                ToolCallReply(
                    "write_file", {"file_path": "/poem.txt", "content": "Roses."}
                )
            ]
        ),
        ServerReply(
            tool_calls=[
                ToolCallReply(
                    "task", {"description": "Judge it.", "subagent_type": "critic"}
                )
            ]
        ),
        ServerReply(text="It is short."),  # the subagent
        ServerReply(text="The poem is short."),
    )
    agent = create_deep_agent(
        make(),
        system_prompt="You write poems.",
        subagents=[
            {"name": "critic", "description": "Judges", "system_prompt": "Judge."}
        ],
    )
    with get_nscale_usage_callback() as usage:
        inputs: Any = {"messages": [("user", "Write a poem and have it judged.")]}
        result = agent.invoke(inputs)
    assert result["messages"][-1].text == "The poem is short."
    assert "Roses." in str(result["files"]["/poem.txt"])
    assert usage.total.calls == 4
    tools = {tool["function"]["name"] for tool in server.requests[0].json["tools"]}
    assert {"write_file", "task"} <= tools


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tools_by_the_model_context_protocol(
    make: Any, server: NscaleServer
) -> None:
    connections: Any = {
        "weather": {
            "command": sys.executable,
            "args": [str(Path(__file__).with_name("mcp_server.py"))],
            "transport": "stdio",
        }
    }
    tools = await MultiServerMCPClient(connections).get_tools()
    server.add(
        ServerReply(tool_calls=[ToolCallReply("get_weather", {"city": "Oslo"})]),
        ServerReply(text="It is sunny."),
    )
    agent = create_agent(make(), tools)
    inputs: Any = {"messages": [("user", "Weather in Oslo?")]}
    result = await agent.ainvoke(inputs)
    assert result["messages"][-1].text == "It is sunny."
    turn = server.requests[-1].json["messages"][-1]
    assert turn["role"] == "tool"
    assert "Sunny in Oslo" in str(turn["content"])


def test_an_agent_that_retrieves(make: Any, server: NscaleServer) -> None:
    embeddings = NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B", **server.settings)
    store = InMemoryVectorStore(embeddings)
    store.add_documents(
        [Document("The ferry leaves at noon."), Document("Bread costs two crowns.")]
    )
    retriever = store.as_retriever(search_kwargs={"k": 1})
    search = create_retriever_tool(retriever, "search", "Searches the island's facts.")
    server.add(
        ServerReply(
            tool_calls=[ToolCallReply("search", {"query": "When leaves the ferry?"})]
        ),
        ServerReply(text="At noon."),
    )
    inputs: Any = {"messages": [("user", "When can I go?")]}
    result = create_agent(make(), [search]).invoke(inputs)
    assert result["messages"][-1].text == "At noon."
    assert (
        server.requests[-1].json["messages"][-1]["content"] == "The ferry leaves at noon."
    )
