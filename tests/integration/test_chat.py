"""ChatNscale over real HTTP: answers, streams, usage, tools, errors, broken streams."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.exceptions import ModelRateLimitError
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_nscale import (
    ChatNscale,
    NscaleAuthenticationError,
    NscaleConnectionError,
    NscaleContextOverflowError,
    NscaleError,
    NscaleInsufficientCreditError,
    NscaleInterruptedStreamError,
    NscaleInvalidRequestError,
    NscaleMalformedResponseError,
    NscaleModelNotFoundError,
    NscaleRateLimitError,
    NscaleServerError,
    NscaleStalledStreamError,
    NscaleStreamError,
    NscaleTimeoutError,
    NscaleUnavailableError,
    TemplateRules,
    __version__,
)
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply
from tests.integration.conftest import MODEL


async def consume(model: Any, prompt: Any, way: str) -> AIMessage:
    """One answer by each of the four ways, as one message."""
    if way == "invoke":
        return model.invoke(prompt)  # type: ignore[no-any-return]  # any runnable
    if way == "ainvoke":
        return await model.ainvoke(prompt)  # type: ignore[no-any-return]  # any runnable
    if way == "stream":
        chunks = list(model.stream(prompt))
    else:
        chunks = [chunk async for chunk in model.astream(prompt)]
    merged = chunks[0]
    for chunk in chunks[1:]:
        merged = merged + chunk
    return message_chunk_to_message(merged)  # type: ignore[return-value]  # of AI chunks


WAYS = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])


@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Sunny in {city}"


@WAYS
@pytest.mark.parametrize("status", [200, 201])
async def test_an_answer(make: Any, server: NscaleServer, way: str, status: int) -> None:
    server.add(ServerReply(text="Hello, world!", status=status))
    message = await consume(make(), "Hi", way)
    assert type(message) is AIMessage
    assert message.content == "Hello, world!"
    assert message.usage_metadata == {
        "input_tokens": 1,
        "output_tokens": 2,
        "total_tokens": 3,
        "input_token_details": {},
        "output_token_details": {},
    }
    metadata = message.response_metadata
    assert metadata["model_name"] == MODEL
    assert metadata["model_provider"] == "nscale"
    assert metadata["finish_reason"] == "stop"
    assert metadata["id"].startswith("chatcmpl-")
    assert str(message.id).startswith("lc_run-")
    assert metadata["request_id"].startswith("inference-")
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["user-agent"] == f"langchain-nscale/{__version__}"
    assert not [name for name in request.headers if name.startswith(("openai", "x-st"))]
    expected: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    if "stream" in way:
        expected |= {"stream": True, "stream_options": {"include_usage": True}}
    assert request.json == expected


@pytest.fixture(scope="module")
def twin_server() -> Any:
    with NscaleServer() as server:
        yield server


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=TEXT,
    reasoning=TEXT,
    calls=st.lists(
        st.builds(
            ToolCallReply,
            name=st.sampled_from(["f", "g"]),
            args=st.dictionaries(TEXT, TEXT, max_size=2) | st.sampled_from(["{", "[]"]),
        ),
        max_size=2,
    ),
    pieces=st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=4),
    reason=st.sampled_from([None, "length"]),
)
def test_the_same_reply_gives_the_same_message_by_every_way(
    twin_server: NscaleServer,
    text: str,
    reasoning: str,
    calls: list[ToolCallReply],
    pieces: list[int],
    reason: str | None,
) -> None:
    reply = ServerReply(
        text=text,
        reasoning=reasoning,
        tool_calls=[ToolCallReply(c.name, c.args, f"x{i}") for i, c in enumerate(calls)],
        pieces=pieces,
        finish_reason=reason,
        extra={"id": "same", "service_tier": "t"},
        headers={"inference-id": "same"},
    )
    model = ChatNscale(model=MODEL, **twin_server.settings)

    async def by_all() -> list[AIMessage]:
        ways = ["invoke", "stream", "ainvoke", "astream"]
        answers = []
        for way in ways:
            twin_server.add(reply)
            answers.append(await consume(model, "Hi", way))
        return answers

    first, *others = asyncio.run(by_all())
    for other in others:
        # Events carry the id that the server gave before `extra` came.
        same = other.model_copy(update={"id": first.id})
        same.response_metadata["id"] = first.response_metadata["id"]
        assert same == first


@WAYS
async def test_usage_reaches_langchains_own_handler(make: Any, way: str) -> None:
    handler = UsageMetadataCallbackHandler()
    bound = make().with_config(callbacks=[handler])
    await consume(bound, "Hi", way)
    await consume(bound, "Hi", way)
    assert handler.usage_metadata[MODEL]["input_tokens"] == 2


def test_usage_comes_once_in_a_stream(make: Any) -> None:
    usages = [chunk.usage_metadata for chunk in make().stream("a b c")]
    assert [usage for usage in usages if usage] == [
        {
            "input_tokens": 3,
            "output_tokens": 5,
            "total_tokens": 8,
            "input_token_details": {},
            "output_token_details": {},
        }
    ]
    assert all(not c.usage_metadata for c in make(stream_usage=False).stream("a"))


async def test_batches_keep_their_order(make: Any) -> None:
    prompts = [f"number {i}" for i in range(20)]
    expected = [f"You said: {prompt}" for prompt in prompts]
    assert [m.content for m in make().batch(prompts)] == expected
    assert [m.content for m in await make().abatch(prompts)] == expected


def test_several_choices(make: Any) -> None:
    result = make(n=3).generate([[HumanMessage("Hi")]])
    assert [g.text for g in result.generations[0]] == ["You said: Hi"] * 3
    assert result.llm_output["token_usage"]["completion_tokens"] == 9


def test_an_event_loop_after_the_other(make: Any) -> None:
    model = make()

    async def ask() -> str:
        answers = await asyncio.gather(*[model.ainvoke("Hi") for _ in range(5)])
        return str(answers[0].content)

    assert {asyncio.run(ask()) for _ in range(3)} == {"You said: Hi"}


async def test_log_probabilities(make: Any) -> None:
    model = make(logprobs=True)
    for way in ("invoke", "stream"):
        message = await consume(model, "Hi", way)
        tokens = [e["token"] for e in message.response_metadata["logprobs"]["content"]]
        assert "".join(tokens) == message.content


@WAYS
async def test_a_tool_loop(make: Any, way: str) -> None:
    model = make().bind_tools([get_weather], tool_choice="any")
    question = HumanMessage("How is Paris?")
    asked = await consume(model, [question], way)
    (call,) = asked.tool_calls
    assert call["name"] == "get_weather"
    assert call["args"] == {"city": "text"}
    told = get_weather.invoke(call)
    assert isinstance(told, ToolMessage)
    answer = await consume(make(), [question, asked, told], way)
    assert answer.content == "The tool answered: Sunny in text"


@WAYS
async def test_cut_off_arguments_are_never_a_call(
    make: Any, server: NscaleServer, way: str
) -> None:
    cut = ToolCallReply("get_weather", '{"city": "Par')
    server.add(ServerReply(tool_calls=[cut], finish_reason="length"))
    message = await consume(make().bind_tools([get_weather]), "Hi", way)
    assert message.tool_calls == []
    assert message.invalid_tool_calls[0]["args"] == '{"city": "Par'
    # and the history with it is still one that a server can read
    after = [HumanMessage("Hi"), message, ToolMessage("bad", tool_call_id="call-1-0")]
    after[2].tool_call_id = str(message.invalid_tool_calls[0]["id"])  # type: ignore[attr-defined]
    assert make().invoke(after).content == "The tool answered: bad"


class Joke(BaseModel):
    """A joke."""

    setup: str
    rating: int


@pytest.mark.parametrize("method", [None, "json_schema", "function_calling"])
async def test_structured_output(make: Any, method: Any) -> None:
    model = make().with_structured_output(Joke, method=method)
    expected = Joke(setup="text", rating=1)
    assert model.invoke("Tell") == expected
    assert await model.ainvoke("Tell") == expected
    assert list(model.stream("Tell"))[-1] == expected


def test_json_mode(make: Any) -> None:
    model = make().with_structured_output(method="json_mode")
    assert model.invoke("JSON please") == {"answer": "JSON please"}


def test_a_token_may_be_asked_for_at_each_call(make: Any, server: NscaleServer) -> None:
    tokens = iter(["wrong", "wrong", "expired", server.token])
    model = make(service_token=lambda: next(tokens))
    with pytest.raises(NscaleAuthenticationError):
        model.invoke("Hi")
    assert model.invoke("Hi").content == "You said: Hi"  # asked again after a 401


# --- errors ----------------------------------------------------------------------------

STATUSES = [
    (400, NscaleInvalidRequestError),
    (401, NscaleAuthenticationError),
    (404, NscaleModelNotFoundError),
    (429, NscaleRateLimitError),
    (500, NscaleServerError),
    (503, NscaleUnavailableError),
]
BODIES = [
    (
        {"error": {"code": "C", "message": "Nscale says", "error_type": "T"}},
        "Nscale says",
    ),
    (b"<html>proxy page</html>", "proxy page"),
    (b"", "no message"),
]


@WAYS
@pytest.mark.parametrize(("status", "kind"), STATUSES)
@pytest.mark.parametrize(("body", "said"), BODIES, ids=["object", "html", "empty"])
async def test_each_status_is_a_typed_error(
    make: Any,
    server: NscaleServer,
    way: str,
    status: int,
    kind: type[NscaleError],
    body: Any,
    said: str,
) -> None:
    server.add(ServerReply(status=status, body=body, headers={"inference-id": "i-7"}))
    with pytest.raises(kind, match=said) as caught:
        await consume(make(), "Hi", way)
    assert f"answered {status}" in str(caught.value)
    assert caught.value.request_id == "i-7"
    assert [request.method for request in server.requests].count("POST") == 1


@WAYS
async def test_a_wrong_token(make: Any, way: str) -> None:
    with pytest.raises(NscaleAuthenticationError, match="NSCALE_SERVICE_TOKEN") as caught:
        await consume(make(service_token="other-s3cret"), "Hi", way)
    assert "s3cret" not in str(caught.value)


def test_without_credit_one_request_is_sent_where_chatopenai_sends_three(
    server: NscaleServer,
) -> None:
    credit = ServerReply.insufficient_credit()
    server.add(credit)
    with pytest.raises(NscaleInsufficientCreditError) as caught:
        ChatNscale(model=MODEL, **server.settings).invoke("Hi")
    assert len(server.requests) == 1
    assert isinstance(caught.value, ModelRateLimitError)
    assert caught.value.is_retryable is False

    server.reset()
    quick = ServerReply(**{**vars(credit), "headers": {"retry-after-ms": "1"}})
    server.add(quick, quick, quick)
    other = ChatOpenAI(model=MODEL, base_url=server.base_url, api_key=server.token)
    with pytest.raises(openai.RateLimitError):
        other.invoke("Hi")
    assert len(server.requests) == 3


@WAYS
async def test_a_passing_fault_is_repeated_and_reported(
    make: Any, server: NscaleServer, way: str
) -> None:
    soon = {"retry-after-ms": "1"}
    server.add(ServerReply(status=503, body={}, headers=soon))
    message = await consume(make(max_retries=1), "Hi", way)
    assert message.response_metadata["retries"] == 1
    assert len(server.requests) == 2


def test_fallbacks_and_retries_of_langchain(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply.insufficient_credit())
    model = make().with_fallbacks([make(model="other")])
    assert model.invoke("Hi").response_metadata["model_name"] == "other"


@WAYS
async def test_context_overflow(make: Any, server: NscaleServer, way: str) -> None:
    text = "This model's maximum context length is 10 tokens. You requested 12."
    server.add(ServerReply(status=400, body={"object": "error", "message": text}))
    with pytest.raises(NscaleContextOverflowError):
        await consume(make(), "Hi", way)


@WAYS
async def test_an_answer_that_takes_too_long(
    make: Any, server: NscaleServer, way: str
) -> None:
    server.add(ServerReply(text="late", delay=60))
    with pytest.raises(NscaleTimeoutError, match="`timeout`"):
        await consume(make(timeout=0.2), "Hi", way)


def test_a_redirect_is_not_followed(make: Any, server: NscaleServer) -> None:
    headers = {"location": "https://elsewhere.example/v1"}
    server.add(ServerReply(status=307, body={}, headers=headers))
    with pytest.raises(NscaleInvalidRequestError, match="elsewhere"):
        make().invoke("Hi")


# --- streams that go wrong: one row each, for sync and async ----------------------------

GOOD = (
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
)
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
WHOLE = b'{"choices":[{"message":{"content":"half"},"finish_reason":"stop"}]}'
HUGE = b'data: {"choices":[{"delta":{"content":"' + b"x" * 10_000_000 + b'"}}]}\n\n'

BROKEN: dict[str, tuple[ServerReply, type[NscaleError]]] = {
    "error event": (
        ServerReply(sse=[GOOD, b'data: {"error": {"message": "boom"}}\n\n']),
        NscaleStreamError,
    ),
    "error event with status": (
        ServerReply(sse=[GOOD, b'data: {"error": {"message": "b", "code": 503}}\n\n']),
        NscaleUnavailableError,
    ),
    "no finish reason, no DONE": (ServerReply(sse=[GOOD]), NscaleInterruptedStreamError),
    "connection cut": (
        ServerReply(sse=[GOOD, GOOD], cut_after=len(GOOD) + 9),
        NscaleInterruptedStreamError,
    ),
    "invalid JSON": (
        ServerReply(sse=[GOOD, b"data: {nope\n\n"]),
        NscaleMalformedResponseError,
    ),
    "invalid UTF-8": (
        ServerReply(sse=[GOOD, b'data: {"x": "\xff"}\n\n']),
        NscaleInterruptedStreamError,
    ),
    "choices null": (
        ServerReply(sse=[GOOD, b'data: {"choices": null}\n\n']),
        NscaleInterruptedStreamError,
    ),
    "stall": (ServerReply(sse=[GOOD, END], stall_after=1), NscaleStalledStreamError),
    "stall with keep-alives": (
        ServerReply(sse=[GOOD, END], stall_after=1, pause=0.05),
        NscaleStalledStreamError,
    ),
}


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(("reply", "kind"), BROKEN.values(), ids=BROKEN.keys())
async def test_broken_streams(
    make: Any, server: NscaleServer, way: str, reply: ServerReply, kind: type[NscaleError]
) -> None:
    server.add(reply)
    model = make(stream_chunk_timeout=0.3)
    seen: list[AIMessageChunk] = []
    with pytest.raises(kind) as caught:
        if way == "stream":
            for chunk in model.stream("Hi"):
                seen.append(chunk)  # noqa: PERF402  # what had come before the error counts
        else:
            async for chunk in model.astream("Hi"):
                seen.append(chunk)  # noqa: PERF401  # likewise
    assert [chunk.content for chunk in seen] == ["half"]
    assert caught.value.partial is not None
    assert caught.value.partial.content == "half"


ODD: dict[str, ServerReply] = {
    "as it should be": ServerReply(sse=[GOOD + END + b"data: [DONE]\n\n"]),
    "no DONE": ServerReply(sse=[GOOD, END]),
    "DONE without a finish reason": ServerReply(sse=[GOOD, b"data: [DONE] \n\n"]),
    "CRLF": ServerReply(sse=[(GOOD + END).replace(b"\n", b"\r\n")]),
    "CR": ServerReply(sse=[(GOOD + END).replace(b"\n", b"\r")]),
    "BOM": ServerReply(sse=[b"\xef\xbb\xbf" + GOOD, END]),
    "comments": ServerReply(sse=[b": ping\n\n" * 50 + GOOD, b":\n", END]),
    "other fields": ServerReply(sse=[b"event: x\nid: 1\nretry: 5\n" + GOOD, END]),
    "data over several lines": ServerReply(
        sse=[GOOD.replace(b',"model"', b',\ndata: "model"'), END]
    ),
    "byte by byte": ServerReply(sse=[bytes([b]) for b in GOOD + END]),
    "status 201": ServerReply(sse=[GOOD, END], status=201),
    "gzip": ServerReply(
        sse=[gzip.compress(GOOD + END)], headers={"content-encoding": "gzip"}
    ),
    "whole JSON": ServerReply(body=WHOLE),
}


@WAYS
@pytest.mark.parametrize("reply", ODD.values(), ids=ODD.keys())
async def test_odd_streams_and_replies_are_read(
    make: Any, server: NscaleServer, way: str, reply: ServerReply
) -> None:
    server.add(reply)
    assert (await consume(make(), "Hi", way)).content == "half"


def test_an_event_of_ten_megabytes(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(sse=[HUGE, END]))
    assert len(make().invoke("Hi").content) == 10_000_000


@WAYS
async def test_a_whole_reply_that_breaks_off_is_typed_and_repeated(
    make: Any, server: NscaleServer, way: str
) -> None:
    cut = ServerReply(body=WHOLE, cut_after=10)
    server.add(cut, cut, ServerReply(body=WHOLE))
    with pytest.raises(NscaleConnectionError):
        await consume(make(), "Hi", way)
    assert (await consume(make(max_retries=1), "Hi", way)).content == "half"


@WAYS
@pytest.mark.parametrize("status", [200, 201])
async def test_a_proxys_page_is_no_answer(
    make: Any, server: NscaleServer, way: str, status: int
) -> None:
    page = b"<html><body>Please log in</body></html>"
    headers = {"content-type": "text/html"}
    server.add(ServerReply(status=status, body=page, headers=headers))
    with pytest.raises(NscaleMalformedResponseError, match="Please log in"):
        await consume(make(), "Hi", way)


def test_a_stream_that_is_left_gives_its_connection_up(
    make: Any, server: NscaleServer
) -> None:
    server.add(ServerReply(text="a b c d", pause=0.01))
    stream = make().stream("Hi")
    next(stream)
    stream.close()
    assert make().invoke("Hi").content == "You said: Hi"


async def test_an_async_stream_that_is_left_is_closed_at_once(
    make: Any, server: NscaleServer
) -> None:
    server.add(ServerReply(text="a b", stall_after=2))
    stream = make()._astream([HumanMessage("Hi")])
    await anext(stream)
    await stream.aclose()
    # Its connection is closed, not left to the garbage collector: the same pool serves.
    assert (await make().ainvoke("Hi")).content == "You said: Hi"


async def test_a_handler_sees_each_token_of_a_direct_stream(
    make: Any, server: NscaleServer
) -> None:
    class Run:
        def __init__(self) -> None:
            self.tokens: list[str] = []

        def on_llm_new_token(self, token: str, **_: Any) -> None:
            self.tokens.append(token)

    class AsyncRun(Run):
        async def on_llm_new_token(self, token: str, **_: Any) -> None:  # type: ignore[override]  # LangChain's own pair
            self.tokens.append(token)

    for reply in (ServerReply(text="half"), ODD["whole JSON"]):
        server.add(reply, reply)
        sync, asynchronous = Run(), AsyncRun()
        list(make()._stream([HumanMessage("Hi")], run_manager=sync))
        async for _ in make()._astream([HumanMessage("Hi")], run_manager=asynchronous):
            pass
        assert sync.tokens == asynchronous.tokens == ["half", ""]


async def test_an_async_stream_that_is_cancelled(make: Any, server: NscaleServer) -> None:
    server.add(ServerReply(text="a b", stall_after=2))
    first = asyncio.Event()

    async def read() -> None:
        async for _ in make().astream("Hi"):
            first.set()

    task = asyncio.create_task(read())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await make().ainvoke("Hi")).content == "You said: Hi"


@pytest.mark.parametrize(
    ("model", "setting", "expected"),
    [
        ("Qwen/Qwen3-8B", None, "system user system"),
        ("Qwen/Qwen3.5-4B", None, "system user user"),
        ("openai/gpt-oss-20b", None, "system user user"),
        ("openai/gpt-oss-20b", "as_is", "system user system"),
        ("mistralai/mixtral-8x22b-instruct-v0.1", None, "user"),
        ("mistralai/Devstral-Small-2505", None, "system user"),
        ("Qwen/Qwen3-8B", TemplateRules(system="first"), "system user user"),
        ("Qwen/Qwen3-8B", {"system": "first"}, "system user user"),
    ],
)
def test_system_messages_stand_where_the_template_shows_them(
    make: Any, server: NscaleServer, model: str, setting: Any, expected: str
) -> None:
    messages = [("system", "a"), ("user", "Hi"), ("system", "b")]
    make(model=model, template_rules=setting).invoke(messages)
    sent = server.requests[-1].json["messages"]
    assert " ".join(turn["role"] for turn in sent) == expected
    assert all(text in str(sent) for text in ("'a", "Hi", "b'"))


def test_the_model_of_a_call_decides(make: Any, server: NscaleServer) -> None:
    messages = [("user", "Hi"), ("system", "b")]
    make(model="Qwen/Qwen3-8B").invoke(messages, model="Qwen/Qwen3.5-4B")
    assert server.requests[-1].json["messages"][1]["role"] == "user"


@WAYS
async def test_the_model_of_a_call_decides_where_its_reasoning_is(
    make: Any, server: NscaleServer, way: str
) -> None:
    server.add(ServerReply(text="Hm.</think>Ah."))
    bound = make().bind(model="Qwen/Qwen3-4B-Thinking-2507")
    message = await consume(bound, "Hi", way)
    assert message.text == "Ah."
    assert message.additional_kwargs["reasoning_content"] == "Hm."


def test_a_schema_without_a_title_beside_tools(make: Any, server: NscaleServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    make().bind_tools([], response_format=schema).invoke("Hi")
    sent = server.requests[-1].json["response_format"]
    assert sent["json_schema"]["name"] == "response"
    assert sent["json_schema"]["schema"]["properties"] == schema["properties"]


END_AND_DONE = END + b"data: [DONE]\n\n"


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    "reply",
    [
        ServerReply(sse=[GOOD + END_AND_DONE, b"more"], stall_after=1),
        ServerReply(sse=[GOOD + END_AND_DONE, b"more"], stall_after=1, pause=0.05),
        ServerReply(sse=[GOOD, END, b"more"], stall_after=2),
        ServerReply(sse=[GOOD, END, b"more"], stall_after=2, pause=0.05),
    ],
    ids=["silence after DONE", "comments after DONE", "silence", "comments"],
)
async def test_a_stream_ends_when_the_reply_does(
    make: Any, server: NscaleServer, way: str, reply: ServerReply
) -> None:
    server.add(reply)
    began = time.monotonic()
    message = await consume(make(timeout=60), "Hi", way)
    assert message.content == "half"
    assert time.monotonic() - began < 30  # not `timeout` or `stream_chunk_timeout`
