"""Every setting by every documented name, as type checkers see it: not run."""

from __future__ import annotations

import httpx2
from pydantic import BaseModel, SecretStr

from langchain_nscale import ChatNscale, NscaleEmbeddings, NscaleUsageCallbackHandler


async def token() -> str:
    return "t"


class Joke(BaseModel):
    """A joke."""

    setup: str


class House(ChatNscale):
    """A subclass with a default model."""

    model_name: str = "openai/gpt-oss-20b"


ChatNscale(
    model="m",
    api_key="t",
    temperature=0.2,
    stop=["a"],
    timeout=3,
    max_completion_tokens=9,
)
ChatNscale(
    model_name="m",
    service_token=SecretStr("t"),
    base_url="https://x/v1",
    allow_insecure_http=False,
    request_timeout=(1, 2),
    max_retries=0,
    default_headers={"X-A": "1"},
    default_query={"q": 1},
    http_client=httpx2.Client(),
    http_async_client=httpx2.AsyncClient(),
    max_tokens=9,
    top_p=0.5,
    stop_sequences="a",
    seed=1,
    n=1,
    presence_penalty=0,
    frequency_penalty=0.5,
    logit_bias={1: 2},
    logprobs=True,
    top_logprobs=2,
    reasoning_effort="low",
    streaming=False,
    stream_usage=True,
    stream_chunk_timeout=None,
    reasoning_history="always",
    template_rules=None,
    think_tags="off",
    tokenizer=None,
    schema_with_tools="together",
    include_response_headers=True,
    model_kwargs={"user": "u"},
    extra_body={"top_k": 1},
    name="n",
    cache=False,
    verbose=False,
    callbacks=[NscaleUsageCallbackHandler()],
    tags=["t"],
    metadata={"a": 1},
    custom_get_token_ids=lambda text: [len(text)],
    rate_limiter=None,
    disable_streaming="tool_calling",
    output_version="v1",
    profile=None,
)
ChatNscale(model="m", service_token=token)
ChatNscale(model="m", service_token=lambda: "t")
House(service_token=SecretStr("t"))
NscaleEmbeddings(
    model="m",
    api_key="t",
    base_url="https://x/v1",
    timeout=3,
    dimensions=2,
    query_instruction="",
    chunk_size=1,
    max_chunk_bytes=2,
    max_concurrency=3,
    encoding_format="float",
    show_progress_bar=False,
    extra_body={},
    callbacks=[NscaleUsageCallbackHandler()],
)

ChatNscale()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ChatNscale(service_token="t")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ChatNscale(model="m", model_name="m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
NscaleEmbeddings()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
ChatNscale(model="m", temprature=0.2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ChatNscale(model="m", temperature="hot")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ChatNscale(model="m", client=None)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
NscaleEmbeddings(model="m", dimension=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
NscaleEmbeddings(model=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

chain = ChatNscale(model="m").with_structured_output(Joke)
joke: Joke = chain.invoke("A joke, please")
