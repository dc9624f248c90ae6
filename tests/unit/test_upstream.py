"""What we rely on in other packages: one assertion for each hook.

A failure here means that an upstream release changed something; the comment says what
would break.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from functools import cached_property
from typing import Any

import httpcore2
import httpx2
from langchain_core import exceptions as core_exceptions
from langchain_core.callbacks import AsyncCallbackHandler, BaseRunManager, LLMManagerMixin
from langchain_core.language_models import chat_models
from langchain_core.language_models.chat_model_stream import ChatModelStream
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, block_translators
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tracers import context
from pydantic import BaseModel

from langchain_nscale import ChatNscale


def test_core_asks_for_native_events_by_name() -> None:
    # Otherwise v3 streaming falls back to the bridge: three times slower.
    source = inspect.getsource(chat_models)
    assert '"_stream_chat_model_events"' in source
    assert '"_astream_chat_model_events"' in source


def test_core_tells_token_listeners_from_event_listeners() -> None:
    # `_wants_chunks` compares a handler's methods with these.
    assert callable(LLMManagerMixin.on_llm_new_token)
    assert callable(LLMManagerMixin.on_stream_event)
    assert callable(AsyncCallbackHandler.on_llm_new_token)
    assert callable(AsyncCallbackHandler.on_stream_event)
    assert "handlers" in inspect.signature(BaseRunManager.__init__).parameters


def test_core_looks_for_the_run_manager_in_the_signature() -> None:
    # `__signature__` spares it the work; without it, a call takes 20 µs more.
    source = inspect.getsource(chat_models)
    assert re.search(r"signature(_parameters)?\(self\._generate\)", source)
    for method in (ChatNscale._generate, ChatNscale._agenerate):
        ready = inspect.signature(method)
        assert ready is vars(method)["__signature__"]
        assert "run_manager" in ready.parameters


def test_core_resolves_profiles_and_versions_by_these_names() -> None:
    # Without them models have no profile, and traces no version.
    for name in ("_resolve_model_profile", "_add_version", "_combine_llm_outputs"):
        assert hasattr(BaseChatModel, name), name
    for name in ("_get_ls_params", "_get_invocation_params", "_get_llm_string"):
        assert hasattr(BaseChatModel, name), name


def test_core_caches_a_models_description() -> None:
    # `__setattr__`, `__copy__` and `__getstate__` discard it, or cache keys go stale.
    assert isinstance(vars(BaseChatModel)["_serialized"], cached_property)


def test_core_removes_the_trace_of_structured_output() -> None:
    # It would be sent to the API.
    assert '"ls_structured_output_format"' in inspect.getsource(chat_models)


def test_core_marks_cache_hits_with_a_cost_of_zero() -> None:
    # Otherwise cache hits would be billed by our ledger.
    assert '"total_cost": 0' in inspect.getsource(chat_models)


async def test_core_says_nothing_when_ainvoke_is_cancelled() -> None:
    # `ChatNscale.agenerate` reports the end. If core does, both overrides can go.
    told, started = [], asyncio.Event()

    class Heard(AsyncCallbackHandler):
        async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            told.append("start")
            started.set()

        async def on_llm_error(self, *_: Any, **__: Any) -> None:
            told.append("error")

    class Hanging(GenericFakeChatModel):
        async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
            return await asyncio.Event().wait()  # type: ignore[return-value]  # never

    call = asyncio.create_task(
        Hanging(messages=iter([])).ainvoke("q", {"callbacks": [Heard()]})
    )
    await started.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert told == ["start"]
    assert "self._agenerate_with_cache(" in inspect.getsource(BaseChatModel.agenerate)


def test_core_keeps_registries() -> None:
    # Invalid tool calls would vanish from content blocks; `with` blocks count nothing.
    assert callable(block_translators.register_translator)
    assert callable(context.register_configure_hook)


def test_langchain_lists_providers_in_this_form() -> None:
    # `register` refuses other lists, and names like "nscale:…" would no longer work.
    from langchain.chat_models import base as chat  # noqa: PLC0415  # slow to import
    from langchain.embeddings import base as embeddings  # noqa: PLC0415

    for module in (chat, embeddings):
        name, cls, create = module._BUILTIN_PROVIDERS["openai"]
        assert (type(name), type(cls), callable(create)) == (str, str, True)


def test_what_is_copied_has_no_other_lists_and_dicts() -> None:
    # All messages, chunks and generations would share a new one, since they are copies.
    message, chunk = AIMessage(content=""), AIMessageChunk(content="")
    calls = {"tool_calls", "invalid_tool_calls"}
    expected: list[tuple[BaseModel, set[str]]] = [
        (message, {"additional_kwargs", "response_metadata", *calls}),
        (
            chunk,
            {"additional_kwargs", "response_metadata", "tool_call_chunks", *calls},
        ),
        (ChatGeneration(message=message), set()),
        (ChatGenerationChunk(message=chunk), set()),
        (ChatResult(generations=[]), {"generations"}),
    ]
    for each, names in expected:
        fields = vars(each).items()
        found = {name for name, value in fields if isinstance(value, (list, dict, set))}
        assert found == names, type(each)


def test_pydantic_keeps_instances_in_these_slots() -> None:
    # With other slots, objects are copied in pydantic's own way, at five times the cost.
    assert BaseModel.__slots__ == (
        "__dict__",
        "__pydantic_fields_set__",
        "__pydantic_extra__",
        "__pydantic_private__",
    )


def test_httpx2_takes_time_limits_from_the_request() -> None:
    # The limit on a stream's silence is set there.
    request = httpx2.Client().build_request("GET", "https://x", timeout=3)
    assert request.extensions["timeout"]["read"] == 3


def test_httpx2_errors_hold_their_request() -> None:
    # It contains the token, which `_forget_token` removes.
    error = httpx2.ConnectError("x", request=httpx2.Request("GET", "https://x"))
    assert vars(error)["_request"] is not None


def test_core_says_whether_an_error_may_pass() -> None:
    # The retry middleware reads it, and `_may_repeat` does.
    assert core_exceptions.ModelError.is_retryable is False
    assert core_exceptions.ModelTimeoutError.is_retryable is True


async def test_httpcore_reports_how_it_opens_a_connection() -> None:
    # Without it, too many connections would be opened at once, and sockets of calls that
    # are cancelled in the handshake would stay open.
    events: dict[str, Any] = {}

    async def trace(name: str, info: Any) -> None:
        events[name] = info

    reply = [b"HTTP/1.1 200 OK\r\n", b"content-length: 0\r\n", b"\r\n"]
    backend = httpcore2.AsyncMockBackend(reply)
    async with httpcore2.AsyncConnectionPool(network_backend=backend) as pool:
        await pool.request("GET", "https://x/", extensions={"trace": trace})
    assert "connection.connect_tcp.started" in events
    assert "connection.start_tls.complete" in events
    assert callable(events["connection.connect_tcp.complete"]["return_value"].aclose)


def test_core_asks_one_method_whether_streaming_is_disabled() -> None:
    # `n` above 1 can't be streamed: ChatNscale says so there.
    for name in ("_should_stream", "_should_use_protocol_streaming"):
        source = inspect.getsource(getattr(BaseChatModel, name))
        assert "self._streaming_disabled(**kwargs)" in source


def test_core_drops_the_refusals_of_events_but_keeps_other_blocks() -> None:
    # `EventWriter._refusal` is for that; it can go once the first is kept.
    kinds = []
    for kind in ("refusal", "non_standard"):
        stream = ChatModelStream()
        block: dict[str, Any] = {"type": kind, "value": {}}
        for event in (
            {"event": "message-start", "role": "ai"},
            {"event": "content-block-finish", "index": 0, "content": block},
            {"event": "message-finish"},
        ):
            stream.dispatch(event)
        assert stream.output_message is not None
        kinds += [each["type"] for each in stream.output_message.content_blocks]
    assert kinds == ["non_standard"]
