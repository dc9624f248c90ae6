"""The pytest plugin: what its fixtures set, and what they keep from happening."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call

from langchain_nscale import ChatNscale, NscaleEmbeddings, list_models
from langchain_nscale.errors import NscaleRateLimitError, NscaleServerError
from langchain_nscale.testing import NscaleServer, ServerReply
from tests.integration.conftest import MODEL

pytest_plugins = ["pytester"]


def test_the_environment_leads_to_the_server(nscale_environment: NscaleServer) -> None:
    nscale_environment.add("Bonjour !")
    assert ChatNscale(model=MODEL).invoke("Say hello in French").text == "Bonjour !"
    assert nscale_environment.requests[-1]["model"] == MODEL
    assert list_models()
    assert len(NscaleEmbeddings(model="Qwen/Qwen3-Embedding-8B").embed_query("a")) == 256


def test_messages_and_fields_are_replies(nscale_server: NscaleServer) -> None:
    call = tool_call(name="f", args={"a": 1}, id="c1")
    thinking = AIMessage("Hm.", additional_kwargs={"reasoning_content": "Well."})
    nscale_server.add(AIMessage("", tool_calls=[call]), thinking)
    nscale_server.add(status=429, headers={"retry-after": "0"}).add(status=503)
    model = ChatNscale(model=MODEL, max_retries=0, **nscale_server.settings)
    assert model.invoke("Hi").tool_calls == [call]
    reply = model.invoke("Hi")
    assert (reply.text, reply.additional_kwargs["reasoning_content"]) == ("Hm.", "Well.")
    with pytest.raises(NscaleRateLimitError, match="Too Many Requests"):
        model.invoke("Hi")
    with pytest.raises(NscaleServerError):
        model.invoke("Hi")
    assert nscale_server.requests[-1]["messages"][0]["content"] == "Hi"


@pytest.mark.parametrize("reply", [{"text": "a"}, 429, None, ["a"]])
def test_other_replies_show_the_way(nscale_server: NscaleServer, reply: Any) -> None:
    with pytest.raises(TypeError, match=r"status=429.*ToolCallReply"):
        nscale_server.add(reply)
    with pytest.raises(TypeError, match="nope"):
        nscale_server.add(nope=1)
    nscale_server.check()  # nothing was added


def test_gpt_oss_reasons(nscale_server: NscaleServer) -> None:
    model = ChatNscale(model="openai/gpt-oss-20b", **nscale_server.settings)
    kinds = [block["type"] for block in model.invoke("Hi").content_blocks]
    assert kinds == ["reasoning", "text"]
    nscale_server.add(ServerReply(text="Only this."))
    assert model.invoke("Hi").text == "Only this."


GUARDED = """
import asyncio, pytest
from langchain_nscale import ChatNscale, NscaleEmbeddings, list_models

MODEL = dict(model="m", service_token="t", max_retries=0)
WAYS = [
    lambda: ChatNscale(**MODEL).invoke("Hi"),
    lambda: list(ChatNscale(**MODEL).stream("Hi")),
    lambda: asyncio.run(ChatNscale(**MODEL).ainvoke("Hi")),
    lambda: NscaleEmbeddings(**MODEL).embed_query("Hi"),
    lambda: list_models(service_token="t"),
    lambda: ChatNscale(base_url="https://api.example/v1", **MODEL).invoke("Hi"),
]

@pytest.mark.parametrize("way", WAYS)
def test_raises(way):
    way()

@pytest.mark.parametrize("way", WAYS)
def test_catches(way):
    try:
        way()
    except BaseException:
        pass

def test_local(nscale_server):
    model = "meta-llama/Llama-3.1-8B-Instruct"
    ChatNscale(model=model, **nscale_server.settings).invoke("Hi")
"""


@pytest.mark.parametrize("ini", [True, False])
def test_no_test_reaches_the_real_service(pytester: pytest.Pytester, ini: bool) -> None:
    pytester.makepyfile(GUARDED)
    if ini:
        pytester.makeini("[pytest]\nnscale_offline = true")
        done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
        # Those that catch the error fail at their end.
        done.assert_outcomes(passed=7, failed=6, errors=12)
        done.stdout.fnmatch_lines(["*https://inference.api.nscale.com*not sent*"])
    else:
        done = pytester.runpytest_subprocess("-k", "local")
        done.assert_outcomes(passed=1, deselected=12)


def test_serve_rejects_unknown_models() -> None:
    with NscaleServer(any_model=False) as server:
        body = {"model": "llama-3.3-70b-versatile", "messages": [{"role": "user"}]}
        body["messages"][0]["content"] = "Hi"  # type: ignore[index]
        headers = {"authorization": f"Bearer {server.token}"}
        url = f"{server.base_url}/chat/completions"
        assert httpx2.post(url, json=body, headers=headers).status_code == 404
