"""What the API answers -> LangChain messages. Pure: no I/O.

`Reply` is the only reader of the wire's shape, for whole replies and for streams alike:
it takes one JSON object after the other and says what each adds. A reply that isn't
streamed is a stream of one object.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, cast
from uuid import uuid4

import jiter
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessageChunk,
    ToolCallChunk,
    message_chunk_to_message,
)
from langchain_core.messages.ai import (
    InputTokenDetails,
    OutputTokenDetails,
    UsageMetadata,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_nscale._chunks import (
    PROVIDER,
    NscaleMessageChunk,
    make_chunk,
    parse_tool_calls,
)
from langchain_nscale._sse import SSEDecoder
from langchain_nscale.errors import (
    NscaleError,
    NscaleInterruptedStreamError,
    NscaleStalledStreamError,
    NscaleTimeoutError,
    error_object,
    malformed_response,
    public_response,
    reported_error,
)

# Fields that have a place of their own; every other one goes to `response_metadata`.
_KNOWN_TOP = {"choices", "id", "model", "object", "usage"}
_KNOWN_CHOICE = {"delta", "finish_reason", "index", "logprobs", "message"}
_KNOWN_MESSAGE = {
    "content",
    "reasoning",
    "reasoning_content",
    "refusal",
    "role",
    "tool_calls",
}


class MalformedError(ValueError):
    """A JSON object that isn't a chat completion; the text says in what way."""


class Delta(NamedTuple):
    """What one object adds to a reply: one thing, and its log probabilities if any."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_call: ToolCallChunk | None = None
    logprobs: dict[str, Any] | None = None


class Reply:
    """One choice of a chat completion, as far as it has been read."""

    def __init__(self, extra: Mapping[str, Any] | None = None) -> None:
        self.id: str | None = None
        self.finish_reason: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self._index: object = None
        self._model: str | None = None
        self._other: dict[str, Any] = dict(extra or {})
        self._calls = _ToolCalls()

    def read(self, completion: Mapping[str, Any]) -> list[Delta]:
        """Take the next object; return what it adds.

        Raises:
            MalformedError: The object isn't a chat completion or a chunk of one.
        """
        self._keep(completion, _KNOWN_TOP)
        if self.id is None and (identity := completion.get("id")):
            self.id = str(identity)
        if model := completion.get("model"):
            self._model = str(model)
        if (usage := completion.get("usage")) and isinstance(usage, dict):
            # Servers that report usage on every chunk report the total so far.
            self.usage = usage
        choices = completion.get("choices")
        if not isinstance(choices, list):
            if choices is None and usage:
                return []
            what = "`choices` isn't a list"
            raise MalformedError(what)
        deltas: list[Delta] = []
        for choice in choices:
            if not isinstance(choice, dict):
                what = "a choice isn't an object"
                raise MalformedError(what)
            index = choice.get("index") or 0
            if self._index is None:
                self._index = index
            if index != self._index:
                what = "a stream has more than one choice"
                raise MalformedError(what)
            deltas += self._read_choice(choice)
        return deltas

    def _read_choice(self, choice: Mapping[str, Any]) -> list[Delta]:
        if reason := choice.get("finish_reason"):
            self.finish_reason = str(reason)
        self._keep(choice, _KNOWN_CHOICE)
        whole = "message" in choice
        message = choice.get("message" if whole else "delta") or {}
        if not isinstance(message, dict):
            what = "a choice's message isn't an object"
            raise MalformedError(what)
        deltas: list[Delta] = []
        if reasoning := message.get("reasoning_content") or message.get("reasoning"):
            deltas.append(Delta(reasoning=_string(reasoning, "reasoning")))
        if content := message.get("content"):
            deltas += _content(content)
        if refusal := message.get("refusal"):
            deltas.append(Delta(refusal=_string(refusal, "refusal")))
        if calls := message.get("tool_calls"):
            chunks = self._calls.read(calls, self.id, whole=whole)
            deltas += [Delta(tool_call=chunk) for chunk in chunks]
        for key, value in message.items():
            if value is not None and key not in _KNOWN_MESSAGE:
                self._other[key] = _extend(self._other.get(key), value)
        if logprobs := choice.get("logprobs"):
            _add_logprobs(deltas, logprobs)
        return deltas

    def _keep(self, fields: Mapping[str, Any], known: set[str]) -> None:
        """Keep fields that have no place of their own; the last value counts."""
        for key, value in fields.items():
            if value is not None and key not in known:
                self._other[key] = value

    def metadata(self) -> dict[str, Any]:
        """`response_metadata`, but for what the deltas carry."""
        known = {
            "id": self.id,
            "model_name": self._model,
            "model_provider": PROVIDER,
            "finish_reason": self.finish_reason,
            "token_usage": dict(self.usage) if self.usage else None,
        }
        return {
            **self._other,
            **{key: value for key, value in known.items() if value is not None},
        }


def _add_logprobs(deltas: list[Delta], logprobs: object) -> None:
    """Add log probabilities to the last delta, whose tokens they are."""
    if not isinstance(logprobs, dict):
        return
    kept = {key: value for key, value in logprobs.items() if value}
    if deltas and kept:
        deltas[-1] = deltas[-1]._replace(logprobs=kept)
    elif kept:
        deltas.append(Delta(logprobs=kept))


class _ToolCalls:
    """Numbers the calls of a reply and gives each an id, whatever the server sends."""

    def __init__(self) -> None:
        self._open: list[dict[str, Any]] = []  # {"key", "id", "name", "args"} by number

    def read(
        self, raw_calls: object, reply_id: str | None, *, whole: bool
    ) -> Iterator[ToolCallChunk]:
        if not isinstance(raw_calls, list):
            what = "`tool_calls` isn't a list"
            raise MalformedError(what)
        for raw in raw_calls:
            function = raw.get("function") if isinstance(raw, dict) else None
            if not isinstance(function, dict):
                what = "a tool call has no `function` object"
                raise MalformedError(what)
            args = function.get("arguments")
            if args is not None and not isinstance(args, str):
                args = json.dumps(args)  # some servers send the parsed object
            # Some servers write "null" or "" for an id or a name that isn't there.
            wire_id, name = (
                None if value in (None, "", "null") else _string(value, "tool_calls")
                for value in (raw.get("id"), function.get("name"))
            )
            number = None if whole else self._find(raw.get("index"), wire_id, name)
            if number is None:
                number = len(self._open)
                call_id = wire_id or f"call_{reply_id or uuid4().hex}_{number}"
                call = {"key": raw.get("index"), "wire_id": wire_id, "name": name}
                self._open.append({**call, "args": [args or ""]})
                yield tool_call_chunk(
                    name=name, args=args or "", id=call_id, index=number
                )
                continue
            call = self._open[number]
            call["args"].append(args or "")
            # Sent once only: langchain-core joins repeated names and ids.
            late_name = name if call["name"] is None else None
            call["name"] = call["name"] or name
            yield tool_call_chunk(name=late_name, args=args, id=None, index=number)

    def _find(self, key: object, wire_id: str | None, name: str | None) -> int | None:
        """The number of the open call that a fragment belongs to, if any does."""
        for number in range(len(self._open) - 1, -1, -1):
            call = self._open[number]
            if wire_id and (key is None or call["wire_id"]):
                if wire_id != call["wire_id"]:
                    continue
            elif key is not None and call["key"] != key:
                continue
            elif name and self._is_next(call, name):
                return None
            return number
        return None

    @staticmethod
    def _is_next(call: Mapping[str, Any], name: str) -> bool:
        """Whether a fragment with a name but no id begins another call."""
        if call["name"] is None:
            return False
        if call["name"] != name:
            return True
        raw = "".join(call["args"])
        if not raw.rstrip().endswith("}"):
            return False
        try:
            json.loads(raw, strict=False)
        except (ValueError, RecursionError):
            return False
        return True


def _string(value: object, field: str) -> str:
    if not isinstance(value, str):
        what = f"`{field}` isn't a string"
        raise MalformedError(what)
    return value


def _content(content: object) -> Iterable[Delta]:
    """Deltas of a message's `content`: a string, or (some models) a list of parts."""
    if isinstance(content, str):
        return (Delta(content),)
    if not isinstance(content, list):
        what = "`content` is neither a string nor a list"
        raise MalformedError(what)
    return _content_parts(content)


def _content_parts(content: list[Any]) -> Iterator[Delta]:
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            yield Delta(text=_string(part.get("text"), "content"))
        elif kind in {"thinking", "reasoning"}:
            inner = part.get(kind)
            inner = inner if isinstance(inner, list) else [{"text": inner}]
            text = "".join(_string(item.get("text"), "content") for item in inner)
            yield Delta(reasoning=text)
        else:
            yield Delta(text=part if isinstance(part, str) else json.dumps(part))


def _extend(old: Any, new: Any) -> Any:
    """Join what a stream brings in pieces; of anything else the last one counts."""
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    return new


def usage_metadata(usage: Mapping[str, Any] | None) -> UsageMetadata | None:
    """LangChain's form of `usage`. All figures are tokens; absent ones count as 0."""
    if not isinstance(usage, Mapping):
        return None

    def count(source: object, key: str) -> int | None:
        value = source.get(key) if isinstance(source, Mapping) else None
        return int(value) if isinstance(value, (int, float)) else None

    read = usage.get("prompt_tokens_details")
    written = usage.get("completion_tokens_details")
    given = count(usage, "prompt_tokens") or 0
    made = count(usage, "completion_tokens") or 0
    total = count(usage, "total_tokens")
    result = UsageMetadata(
        input_tokens=given,
        output_tokens=made,
        total_tokens=given + made if total is None else total,
    )
    input_details = {
        "cache_read": count(read, "cached_tokens"),
        "audio": count(read, "audio_tokens"),
    }
    output_details = {
        "reasoning": count(written, "reasoning_tokens"),
        "audio": count(written, "audio_tokens"),
    }
    if kept := {key: value for key, value in input_details.items() if value is not None}:
        result["input_token_details"] = InputTokenDetails(**kept)  # type: ignore[typeddict-item]  # keys as above
    if kept := {key: value for key, value in output_details.items() if value is not None}:
        result["output_token_details"] = OutputTokenDetails(**kept)  # type: ignore[typeddict-item]  # keys as above
    return result


def is_event_stream(response: Any) -> bool:
    """Whether a response is a stream of events, by its content type."""
    kind = response.headers.get("content-type", "")
    return "event-stream" in kind or not kind


def chat_result(
    response: Any, *, retries: int = 0, with_headers: bool = False
) -> ChatResult:
    """A `ChatResult` from a success response that has been read.

    Args:
        response: The HTTP response. `id`, `model`, `finish_reason` and `usage` may be
            absent from its body (Nscale's guide shows such a reply).
        retries: How often the request had been repeated; reported if it was.
        with_headers: Whether the headers go into `response_metadata`.

    Raises:
        NscaleError: The body is an error object, or not a chat completion.
    """
    content = response.content
    extra = _transport_metadata(response, retries, with_headers=with_headers)
    if is_event_stream(response) and content.lstrip()[:1] not in (b"{", b"["):
        reader = StreamReader(response, None, retries=retries, with_headers=with_headers)
        chunks = [*reader.feed(content), *reader.close()]
        message = _merge([chunk.message for chunk in chunks])
        info = chunks[-1].generation_info
        return ChatResult(
            generations=[ChatGeneration(message=message, generation_info=info)]
        )
    try:
        completion = jiter.from_json(content, cache_mode="keys")
    except ValueError:
        what = "the body isn't JSON"
        raise malformed_response(what, response, content) from None
    if not isinstance(completion, dict):
        what = "the body isn't a JSON object"
        raise malformed_response(what, response, content)
    if error_object(completion):
        raise reported_error(completion, None, public_response(response, content))
    choices = completion.get("choices")
    if not choices or not isinstance(choices, list):
        what = "`choices` is missing or empty"
        raise malformed_response(what, response, content)
    generations = []
    try:
        for number, choice in enumerate(choices):
            reply = Reply(extra)
            deltas = reply.read({**completion, "choices": [choice]})
            # Usage is the whole request's: on one message only, so that sums are right.
            generations.append(_generation(reply, deltas, with_usage=number == 0))
    except MalformedError as problem:
        raise malformed_response(str(problem), response, content) from None
    first = generations[0].message.response_metadata
    output = ("id", "model_name", "model_provider", "system_fingerprint", "token_usage")
    return ChatResult(
        generations=generations,
        llm_output={key: first[key] for key in output if key in first},
    )


def chunks_of(result: ChatResult) -> Generator[ChatGenerationChunk, None, None]:
    """A whole reply in chunks, where a stream had been asked for."""
    message = cast("AIMessage", result.generations[0].message)
    first = NscaleMessageChunk(
        content=message.content,
        id=message.id,
        additional_kwargs=message.additional_kwargs,
        tool_calls=message.tool_calls,
        invalid_tool_calls=message.invalid_tool_calls,
    )
    yield ChatGenerationChunk(message=first)
    yield _last_chunk(message.id, message.response_metadata, message.usage_metadata)


def _last_chunk(
    message_id: str | None, metadata: dict[str, Any], usage: UsageMetadata | None
) -> ChatGenerationChunk:
    """The chunk with all that is known only at the end, each field once."""
    message = AIMessageChunk(
        content="",
        id=message_id,
        response_metadata=metadata,
        usage_metadata=usage,
        chunk_position="last",
    )
    return ChatGenerationChunk(
        message=message, generation_info=_generation_info(metadata)
    )


def _transport_metadata(
    response: Any, retries: int, *, with_headers: bool
) -> dict[str, Any]:
    """What a reply's `response_metadata` says of the way it came."""
    headers = response.headers
    found = {
        "request_id": headers.get("inference-id") or headers.get("x-request-id"),
        "retries": retries,
        "headers": dict(headers) if with_headers else None,
    }
    return {key: value for key, value in found.items() if value}


def _generation(reply: Reply, deltas: list[Delta], *, with_usage: bool) -> ChatGeneration:
    calls = [delta.tool_call for delta in deltas if delta.tool_call]
    valid, invalid = parse_tool_calls(calls)
    extra = {
        "reasoning_content": "".join(delta.reasoning for delta in deltas),
        "refusal": "".join(delta.refusal for delta in deltas),
    }
    metadata = reply.metadata()
    for delta in deltas:
        if delta.logprobs:
            metadata["logprobs"] = delta.logprobs
    if not with_usage:
        metadata.pop("token_usage", None)
    message = AIMessage(
        content="".join(delta.text for delta in deltas),
        id=reply.id,
        additional_kwargs={key: value for key, value in extra.items() if value},
        response_metadata=metadata,
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=usage_metadata(reply.usage) if with_usage else None,
    )
    return ChatGeneration(message=message, generation_info=_generation_info(metadata))


def _generation_info(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: metadata[key] for key in ("finish_reason", "logprobs") if key in metadata
    }


class StreamReader:
    """The bytes of a streamed reply -> `ChatGenerationChunk`s, as they arrive."""

    def __init__(
        self,
        response: Any,
        stall_after: float | None,
        *,
        retries: int = 0,
        with_headers: bool = False,
    ) -> None:
        """Start a stream.

        Args:
            response: The HTTP response, for metadata and error messages.
            stall_after: Seconds of waiting without an event that count as a stall.
            retries: How often the request had been repeated.
            with_headers: Whether the headers go into `response_metadata`.
        """
        self.done = False
        self.stall_after = stall_after
        self._decoder = SSEDecoder()
        self._reply = Reply(
            _transport_metadata(response, retries, with_headers=with_headers)
        )
        self._response = response
        self._sent: list[BaseMessageChunk] = []
        self._idle = 0.0  # seconds waited for an event, less what the caller took
        self._waiting_since = monotonic()

    def feed(self, data: bytes) -> Iterator[ChatGenerationChunk]:
        """Take the next bytes; yield the chunks that they complete.

        Raises:
            NscaleError: The service reported an error, or sent what isn't a chunk.
                All that came before it has been yielded and is in `partial`.
        """
        events = self._decoder.feed(data)
        if events:
            self._idle = 0.0
            yield from self._read(events)
        else:
            self._idle += monotonic() - self._waiting_since
            if self.stall_after and self._idle > self.stall_after and not self.done:
                raise self._stalled(None)
        self._waiting_since = monotonic()

    def close(self, cause: NscaleError | None = None) -> Iterator[ChatGenerationChunk]:
        """The bytes have ended, or have failed to come: yield what is still due.

        Raises:
            NscaleStalledStreamError: They failed to come in time.
            NscaleInterruptedStreamError: The model hadn't finished.
        """
        if cause is None:
            yield from self._read(self._decoder.close())
        if self.done:
            return
        if self._reply.finish_reason:
            yield self._last()
            return
        if isinstance(cause, NscaleTimeoutError):
            raise self._stalled(cause)
        origin = cause and (cause.__cause__ or cause)
        why = f"{type(origin).__name__}: {origin}" if origin else "no finish reason came"
        msg = (
            f"The stream was cut before the model had finished ({why}). Try again; "
            "`partial` has what had been received."
        )
        response = public_response(self._response, b"")
        raise NscaleInterruptedStreamError(
            msg, response=response, partial=self.partial()
        ) from cause

    def _stalled(self, cause: NscaleError | None) -> NscaleError:
        msg = (
            f"The stream has stalled: no event for {self.stall_after} s. Raise "
            "`stream_chunk_timeout`, or try again; `partial` has what had been received."
        )
        response = public_response(self._response, b"")
        error = NscaleStalledStreamError(msg, response=response, partial=self.partial())
        error.__cause__ = cause
        return error

    def partial(self) -> AIMessage | None:
        """What has been received, as one message; `None` before the first token."""
        if not self._sent:
            return None
        return _merge([*self._sent, AIMessageChunk(content="", chunk_position="last")])

    def _read(self, events: list[bytes]) -> Iterator[ChatGenerationChunk]:
        reply = self._reply
        for event in events:
            if self.done:
                return
            if event == b"[DONE]":
                if reply.finish_reason:
                    yield self._last()
                return
            if not event:
                continue
            try:
                deltas = reply.read(self._parse(event))
            except MalformedError as problem:
                raise self._malformed(str(problem), event) from None
            for delta in deltas:
                chunk = _chunk(reply, delta, first=not self._sent)
                self._sent.append(chunk.message)
                yield chunk

    def _parse(self, event: bytes) -> dict[str, Any]:
        try:
            completion = jiter.from_json(event, cache_mode="keys")
        except ValueError as error:
            what = f"an event isn't JSON ({error})"
            raise self._malformed(what, event) from None
        if not isinstance(completion, dict):
            what = "an event isn't a JSON object"
            raise self._malformed(what, event)
        if "choices" not in completion and error_object(completion):
            response = public_response(self._response, b"")
            raise reported_error(completion, self.partial(), response)
        return completion

    def _malformed(self, what: str, event: bytes) -> NscaleError:
        error = malformed_response(what, self._response, event)
        error.partial = self.partial()
        return error

    def _last(self) -> ChatGenerationChunk:
        self.done = True
        reply = self._reply
        return _last_chunk(reply.id, reply.metadata(), usage_metadata(reply.usage))


def _merge(chunks: Sequence[BaseMessageChunk]) -> AIMessage:
    merged = chunks[0] + list(chunks[1:])
    return cast("AIMessage", message_chunk_to_message(merged))


def _chunk(reply: Reply, delta: Delta, *, first: bool) -> ChatGenerationChunk:
    text, reasoning, refusal, call, logprobs = delta
    extra = None
    if reasoning:
        extra = {"reasoning_content": reasoning}
    elif refusal:
        extra = {"refusal": refusal}
    metadata: dict[str, Any] | None = {"logprobs": logprobs} if logprobs else None
    if first:
        # Not on every chunk: merging it 2,000 times costs as much as parsing.
        metadata = {"model_provider": PROVIDER, **(metadata or {})}
    return make_chunk(
        reply.id,
        text=text,
        additional_kwargs=extra,
        response_metadata=metadata,
        tool_call_chunk=call,
    )
