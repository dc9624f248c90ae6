"""The stand-in server: answers HTTP requests with scripted or default replies."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.parse import urlsplit

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as missing:
    _hint = (
        "The stand-in server needs the extra `testing`: "
        'pip install "langchain-nscale[testing]"'
    )
    raise ImportError(_hint) from missing
from langchain_core.messages import AIMessage
from typing_extensions import Self

from langchain_nscale._model_facts import facts, is_known_model
from langchain_nscale.testing import _requests_model, _rules
from langchain_nscale.testing._script import (
    RecordedRequest,
    ServerReply,
    as_reply,
    summary,
)

_LOCAL_HOSTS = ["127.0.0.1", "localhost", "*.localhost"]

Responder = Callable[[Mapping[str, Any]], "ServerReply | None"]

MODELS: list[dict[str, Any]] = [
    {
        "id": name,
        "object": "model",
        "owned_by": owner,
        "context_length": context,
        "pricing": {"input": input_price, "output": output_price},
    }
    for name, owner, context, input_price, output_price in (
        ("meta-llama/Llama-3.1-8B-Instruct", "Meta", 131072, 0.06, 0.06),
        ("openai/gpt-oss-20b", "OpenAI", 131072, 0.05, 0.20),
        ("Qwen/Qwen3-4B-Instruct-2507", "Qwen", 262144, "0.01", "0.03"),
        ("Qwen/Qwen3-Embedding-8B", "Qwen", 32768, 0.04, 0),
    )
]


class NscaleServer:
    """A stand-in for Nscale's API on a free port of 127.0.0.1.

    Examples:
        >>> with NscaleServer() as server:  # doctest: +SKIP
        ...     server.add(ServerReply(text="Hello!"))
        ...     ChatNscale(model="m", **server.settings).invoke("Hi")

    Use it as a context manager, sync or async. Scripted replies are sent in order. Once
    they are used up, `responder` is called, and if it returns `None`, the server falls
    back to a default reply. Requests for embeddings only use scripted replies that have a
    `body`. `requests` records every request.
    """

    def __init__(
        self,
        *,
        token: str = "stand-in-token",  # noqa: S107  # opens nothing
        responder: Responder | None = None,
        models: list[dict[str, Any]] | None = None,
        any_model: bool = True,
        strict: bool = False,
        stream_status: int = 200,
        port: int = 0,
    ) -> None:
        """Create a server; entering the context starts it.

        Args:
            token: The only service token that the server accepts.
            responder: Called with the decoded body of each chat request without a
                scripted reply.
            models: The entries of `/v1/models`.
            any_model: Whether requests may use any model ID; otherwise those that are
                neither listed nor known get a 404.
            strict: Whether chat requests without a scripted reply get an error, which
                `check` reports.
            stream_status: Status of streams: 201 in Nscale's guide, 200 in recordings.
            port: Port to listen on; a free one by default.
        """
        self.token = token
        self.requests: list[RecordedRequest] = []
        self._responder = responder
        self._models = MODELS if models is None else models
        self._any_model = any_model
        self.strict = strict
        self._unscripted: list[str] = []
        self._stream_status = stream_status
        self._port = port
        self._script: deque[ServerReply] = deque()
        self._ids = count(1)
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The address to pass as `base_url`."""
        if self._socket is None:
            msg = "The server is not running: use it as a context manager."
            raise RuntimeError(msg)
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments that point a model to this server."""
        return {"base_url": self.base_url, "service_token": self.token}

    def add(self, *replies: ServerReply | AIMessage | str, **fields: Any) -> Self:
        """Add scripted replies, to be sent in order.

        Args:
            replies: Texts, messages as for LangChain's fake models, or `ServerReply`s.
            fields: The fields of one more `ServerReply`. A `status` of an error without
                a `body` gets one.

        Raises:
            TypeError: A reply or field is something else; nothing is added.
        """
        added = [as_reply(reply) for reply in replies]
        if fields:
            reply = ServerReply(**fields)
            if reply.status and reply.status >= HTTPStatus.BAD_REQUEST:
                text = reply.text or HTTPStatus(reply.status).phrase
                error = ServerReply.error(reply.status, text, headers=reply.headers)
                reply = reply if reply.body is not None else error
            added.append(reply)
        self._script.extend(added)
        return self

    def reset(self) -> None:
        """Discard recorded requests and scripted replies."""
        self.requests.clear()
        self._script.clear()
        self._unscripted.clear()

    def check(self) -> None:
        """Check that script and requests match; the pytest fixture does at the end.

        Raises:
            AssertionError: Scripted replies have not been requested, or with `strict`,
                requests had no scripted reply. The message shows both.
        """
        problems = [f"- not requested: {summary(reply)}" for reply in self._script]
        problems += [f"+ not scripted:  {text}" for text in self._unscripted]
        if problems:
            sent = sum(request.path.endswith("/completions") for request in self.requests)
            lines = "\n".join(problems)
            msg = (
                f"The scripted replies and the {sent} chat requests received do not "
                f"match:\n{lines}"
            )
            raise AssertionError(msg)

    # --- running ----------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start the server; return once it accepts connections."""
        self._socket = socket.create_server(("127.0.0.1", self._port), backlog=2048)
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/embeddings", self._embed, methods=["POST"]),
                Route("/v1/models", self._list_models),
            ],
            # A page of another site must not reach it under its own name.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_HOSTS)],
        )
        config = uvicorn.Config(
            app,
            log_level="critical",
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=0,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), daemon=True
        )
        self._thread.start()
        self._server.ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server, even in the middle of replies."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._server = self._thread = None

    async def __aenter__(self) -> Self:
        """Start the server without blocking the event loop."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        """Stop the server without blocking the event loop."""
        await asyncio.to_thread(self.__exit__)

    # --- routes -----------------------------------------------------------------------

    async def _record(self, request: Request) -> Response | None:
        """Record a request; return an error response if its token is wrong."""
        body = await request.body()
        self.requests.append(
            RecordedRequest(request.method, request.url.path, dict(request.headers), body)
        )
        origin = request.headers.get("origin")
        if origin and urlsplit(origin).hostname not in _LOCAL_HOSTS:
            text = f"Requests of {origin} are not answered."
            return _response(ServerReply.error(403, text))
        if request.headers.get("authorization") == f"Bearer {self.token}":
            return None
        text = "Invalid service token or unauthorized"
        return _response(
            ServerReply.error(401, text, code="UNAUTHORIZED", error_type="INVALID_TOKEN")
        )

    async def _list_models(self, request: Request) -> Response:
        rejection = await self._record(request)
        return rejection or JSONResponse({"object": "list", "data": self._models})

    async def _embed(self, request: Request) -> Response:
        if rejection := await self._record(request):
            return rejection
        if self._script and self._script[0].body is not None:
            reply = self._script.popleft()
            await asyncio.sleep(reply.delay)
            return _response(reply)
        body = await _json_of(request)
        if problem := _requests_model.problem_with_texts(body):
            return _response(problem)
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        problem = self._unusable(body, embeds=True) or self._too_long(
            body["model"], texts
        )
        if problem:
            return _response(problem)
        dimensions = body.get("dimensions") or 256
        data = []
        for index, text in enumerate(texts):
            vector: Any = _rules.embedding_of(text, dimensions)
            if body.get("encoding_format") == "base64":
                packed = struct.pack(f"<{dimensions}f", *vector)
                vector = base64.b64encode(packed).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        tokens = sum(len(_rules.split_words(text)) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse(
            {"object": "list", "data": data, "model": body["model"], "usage": usage}
        )

    def _too_long(self, model: str, texts: list[str]) -> ServerReply | None:
        """Return vLLM's error if a text has more words than the model has context."""
        limits = {entry.get("id"): entry.get("context_length") for entry in self._models}
        limit = limits.get(model)
        longest = max(len(_rules.split_words(text)) for text in texts)
        if limit is None or longest <= limit:
            return None
        message = (
            f"This model's maximum context length is {limit} tokens. However, you "
            f"requested 0 output tokens and your prompt contains {longest} input tokens. "
            "Please reduce the length of the input prompt."
        )
        return ServerReply.error(400, message, code="BAD_REQUEST")

    def _unusable(self, body: Mapping[str, Any], *, embeds: bool) -> ServerReply | None:
        """Return the error for a model that doesn't exist, or can't do this, if any."""
        model: str = body["model"]
        listed = {entry.get("id") for entry in self._models}
        if self._any_model:
            return None
        if model not in listed and not is_known_model(model):
            return ServerReply.error(
                404, f"Model {model} not found", code="NOT_FOUND", error_type="NOT_FOUND"
            )
        if is_known_model(model) if embeds else facts(model).makes_vectors:
            api = "Embeddings" if embeds else "Chat Completions"
            message = f"The model does not support {api} API"  # vLLM's words
            return ServerReply.error(400, message, code="BAD_REQUEST")
        return None

    def _reply_to(self, body: Mapping[str, Any]) -> ServerReply:
        if self._script:
            return self._script.popleft()
        reply = self._responder(body) if self._responder else None
        if reply is None and self.strict:
            self._unscripted.append(repr(_rules.text_of(body["messages"][-1]["content"])))
            return ServerReply.error(400, "No reply is scripted for this request.")
        return reply or _rules.default_reply(body)

    async def _chat(self, request: Request) -> Response:
        if rejection := await self._record(request):
            return rejection
        body = await _json_of(request)
        reply = _requests_model.problem_with(body) or self._unusable(body, embeds=False)
        reply = reply or self._reply_to(body)
        await asyncio.sleep(reply.delay)
        number = next(self._ids)
        headers = {"inference-id": f"inference-{number}", **reply.headers}
        if reply.body is not None:
            return _response(replace(reply, headers=headers))
        reply, stopped = _rules.cut_to_limits(reply, body)
        head = {"id": f"chatcmpl-{number}", "created": 1784187753, "model": body["model"]}
        if not body.get("stream") and reply.sse is None:
            whole = self._completion(reply, body, head, stopped)
            return _response(replace(reply, body=whole, headers=headers))
        events: Any = reply.sse
        if reply.sse is None:
            events = self._events(reply, body, head, stopped)
        return StreamingResponse(
            _send(events, reply),
            status_code=reply.status or self._stream_status,
            media_type="text/event-stream",
            headers=headers,
        )

    # --- completions --------------------------------------------------------------------

    def _completion(
        self,
        reply: ServerReply,
        body: Mapping[str, Any],
        head: Mapping[str, Any],
        stopped: str | None,
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.reasoning:
            message[reply.reasoning_field] = reply.reasoning
        message["tool_calls"] = _calls(reply, str(head["id"]))
        choice = {
            "message": message,
            "finish_reason": reply.finish_reason,
            "stop_reason": stopped,
        }
        if body.get("logprobs"):
            choice["logprobs"] = _logprobs(
                _rules.pieces_of(reply.text or "", reply.pieces), body
            )
        n = body.get("n") or 1
        return {
            **head,
            "object": "chat.completion",
            "choices": [{**choice, "index": index} for index in range(n)],
            "usage": _rules.usage_of(reply, body, n),
            "prompt_logprobs": None,
            "system_fingerprint": "stand-in",
            **reply.extra,
        }

    def _events(
        self,
        reply: ServerReply,
        body: Mapping[str, Any],
        head: Mapping[str, Any],
        stopped: str | None,
    ) -> Iterator[bytes]:
        """Yield the events of a streamed completion, in the form of recorded traffic."""
        with_usage = (body.get("stream_options") or {}).get("include_usage")
        base: dict[str, Any] = {**head, "object": "chat.completion.chunk"}
        if with_usage:
            base["usage"] = None

        def event(delta: Mapping[str, Any], **choice: Any) -> bytes:
            entry = {"index": 0, "delta": delta, "finish_reason": None, **choice}
            return _sse({**base, "choices": [entry]})

        yield event({"role": "assistant", "content": ""}, stop_reason=None)
        for piece in _rules.pieces_of(reply.reasoning or "", reply.pieces):
            yield event({reply.reasoning_field: piece})
        for piece in _rules.pieces_of(reply.text or "", reply.pieces):
            more = {"logprobs": _logprobs([piece], body)} if body.get("logprobs") else {}
            yield event({"content": piece}, **more)
        for index, call in enumerate(_calls(reply, str(head["id"]))):
            function = call["function"]
            first = {**call, "function": {**function, "arguments": ""}}
            yield event({"tool_calls": [{"index": index, **first}]})
            for piece in _rules.pieces_of(function["arguments"], reply.pieces):
                part = {"index": index, "function": {"arguments": piece}}
                yield event({"tool_calls": [part]})
        reasons = {"finish_reason": reply.finish_reason, "stop_reason": stopped}
        yield event({"content": ""}, **reasons)
        last = {**base, "choices": [], "system_fingerprint": "stand-in", **reply.extra}
        usage = _rules.usage_of(reply, body, 1)
        if with_usage and usage:
            last["usage"] = usage
        if (with_usage and usage) or reply.extra:
            yield _sse(last)
        yield b"data: [DONE]\n\n"


class _Server(uvicorn.Server):
    """A uvicorn server that signals when it is ready and stops immediately."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.ready.set()

    async def main_loop(self) -> None:
        if self._stopping is not None:
            await self._stopping.wait()

    def stop(self) -> None:
        """Stop from another thread."""
        self.force_exit = True
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)


async def _json_of(request: Request) -> Any:
    """Return the decoded body of a request; `None` if it is not JSON."""
    try:
        return json.loads(await request.body(), parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return None


def _reject_constant(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are not JSON


def _response(reply: ServerReply) -> Response:
    """Return the response for a reply with a body."""
    content = reply.body
    headers = {"content-type": "application/json", **reply.headers}
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    status = reply.status or 200
    if reply.cut_after is None:
        return Response(content, status_code=status, headers=headers)
    return StreamingResponse(_send([content], reply), status_code=status, headers=headers)


class _CutError(Exception):
    """Raised inside a response to cut the connection."""


async def _send(pieces: Any, reply: ServerReply) -> AsyncIterator[bytes]:
    """Send pieces of a body with the delays and faults of a scripted reply."""
    sent = 0
    for number, piece in enumerate(pieces):
        if reply.stall_after is not None and number >= reply.stall_after:
            while True:
                await asyncio.sleep(reply.pause or 3600)
                yield b": keep-alive\n\n"
        if number:
            await asyncio.sleep(reply.pause)
        if reply.cut_after is not None and sent + len(piece) >= reply.cut_after:
            yield piece[: reply.cut_after - sent]
            raise _CutError
        sent += len(piece)
        yield piece


def _sse(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _calls(reply: ServerReply, reply_id: str) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id or f"call-{reply_id.rpartition('-')[2]}-{index}",
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": call.args
                if isinstance(call.args, str)
                else json.dumps(call.args),
            },
        }
        for index, call in enumerate(reply.tool_calls)
    ]


def _logprobs(tokens: list[str], body: Mapping[str, Any]) -> dict[str, Any]:
    count = min(body.get("top_logprobs") or 0, 1)
    entries = [
        {"token": token, "logprob": -0.5, "bytes": list(token.encode())}
        for token in tokens
    ]
    return {"content": [{**entry, "top_logprobs": [entry] * count} for entry in entries]}
