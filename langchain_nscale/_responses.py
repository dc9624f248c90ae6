"""What the API answers -> LangChain messages. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import jiter
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_nscale._replies import (
    Delta,
    MalformedError,
    Reply,
    build_message,
    usage_metadata,
)
from langchain_nscale._sse import SSEDecoder
from langchain_nscale._thinking import ThinkTags
from langchain_nscale._writers import ChunkWriter, Writer, generation_info, merge
from langchain_nscale.errors import (
    NscaleError,
    NscaleInterruptedStreamError,
    NscaleStalledStreamError,
    NscaleTimeoutError,
    advice,
    error_object,
    malformed_response,
    public_response,
    reported_error,
)

T = TypeVar("T")


@dataclass(frozen=True)
class ReplyOptions:
    """How replies are read.

    Attributes:
        retries: How often the request had been repeated; reported if it was.
        with_headers: Whether the headers go into `response_metadata`.
        think_tags: Whether the text begins with reasoning in tags.
    """

    retries: int = 0
    with_headers: bool = False
    think_tags: ThinkTags = "off"


_DEFAULT = ReplyOptions()


def is_event_stream(response: Any) -> bool:
    """Whether a response is a stream of events, by its content type."""
    kind = response.headers.get("content-type", "")
    return "event-stream" in kind or not kind


def chat_result(response: Any, options: ReplyOptions = _DEFAULT) -> ChatResult:
    """A `ChatResult` from a success response that has been read.

    Args:
        response: The HTTP response. `id`, `model`, `finish_reason` and `usage` may be
            absent from its body (Nscale's guide shows such a reply).
        options: How it is read.

    Raises:
        NscaleError: The body is an error object, or not a chat completion.
    """
    content = response.content
    if is_event_stream(response) and content.lstrip()[:1] not in (b"{", b"["):
        reader = StreamReader(response, ChunkWriter(), options=options)
        chunks = [*reader.feed(content), *reader.close()]
        message = merge([chunk.message for chunk in chunks])
        info = chunks[-1].generation_info
        return ChatResult(
            generations=[ChatGeneration(message=message, generation_info=info)]
        )
    completion = _completion(response)
    generations = []
    for number, choice in enumerate(completion["choices"]):
        reply, deltas = _read_whole(
            response, {**completion, "choices": [choice]}, options
        )
        metadata = reply.metadata()
        # Usage is the whole request's: on one message only, so that sums are right.
        if number:
            metadata.pop("token_usage", None)
        usage = None if number else usage_metadata(reply.usage)
        message = build_message(reply.id, deltas, metadata, usage)
        info = generation_info(message.response_metadata)
        generations.append(ChatGeneration(message=message, generation_info=info))
    first = generations[0].message.response_metadata
    output = ("id", "model_name", "model_provider", "system_fingerprint", "token_usage")
    return ChatResult(
        generations=generations,
        llm_output={key: first[key] for key in output if key in first},
    )


def write_whole(
    response: Any, writer: Writer[T], options: ReplyOptions = _DEFAULT
) -> Iterator[T]:
    """A whole reply, where a stream had been asked for, as if it had been streamed.

    Raises:
        NscaleError: The body is an error object, or not a chat completion.
    """
    completion = _completion(response)
    reply, deltas = _read_whole(response, completion, options)
    yield from writer.write(reply, deltas)
    yield from writer.finish(reply)


def _completion(response: Any) -> dict[str, Any]:
    """The chat completion in a response's body, with at least one choice."""
    content = response.content
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
    return completion


def _read_whole(
    response: Any, completion: Mapping[str, Any], options: ReplyOptions
) -> tuple[Reply, list[Delta]]:
    reply = _reply(response, options)
    try:
        return reply, [*reply.read(completion), *reply.end()]
    except MalformedError as problem:
        raise malformed_response(str(problem), response, response.content) from None


def _reply(response: Any, options: ReplyOptions) -> Reply:
    """A reply of which nothing is known but the way it came."""
    headers = response.headers
    found = {
        "request_id": headers.get("inference-id") or headers.get("x-request-id"),
        "retries": options.retries,
        "headers": dict(headers) if options.with_headers else None,
    }
    extra = {key: value for key, value in found.items() if value}
    return Reply(extra, options.think_tags)


class StreamReader(Generic[T]):
    """The bytes of a streamed reply -> what its writer makes of them, as they arrive."""

    def __init__(
        self,
        response: Any,
        writer: Writer[T],
        stall_after: float | None = None,
        options: ReplyOptions = _DEFAULT,
    ) -> None:
        """Start a stream.

        Args:
            response: The HTTP response, for metadata and error messages.
            writer: Makes what is yielded.
            stall_after: Seconds of waiting without an event that count as a stall.
            options: How the reply is read.
        """
        self.done = False
        self.stall_after = stall_after
        self._decoder = SSEDecoder()
        self._reply = _reply(response, options)
        self._response = response
        self._writer = writer
        self._idle = 0.0  # seconds waited for an event, less what the caller took
        self._waiting_since = monotonic()

    def feed(self, data: bytes) -> Iterator[T]:
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

    def close(self, cause: NscaleError | None = None) -> Iterator[T]:
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
            yield from self._finish()
            return
        if isinstance(cause, NscaleTimeoutError):
            raise self._stalled(cause)
        origin = cause and (cause.__cause__ or cause)
        why = f"{type(origin).__name__}: {origin}" if origin else "no finish reason came"
        msg = (
            f"The stream was cut before the model had finished ({why}). "
            f"{advice(NscaleInterruptedStreamError)}"
        )
        response = public_response(self._response, b"")
        raise NscaleInterruptedStreamError(
            msg, response=response, partial=self.partial()
        ) from cause

    def _stalled(self, cause: NscaleError | None) -> NscaleError:
        msg = (
            f"The stream has stalled: no event for {self.stall_after} s. "
            f"{advice(NscaleStalledStreamError)}"
        )
        response = public_response(self._response, b"")
        error = NscaleStalledStreamError(msg, response=response, partial=self.partial())
        error.__cause__ = cause
        return error

    def partial(self) -> AIMessage | None:
        """What has been received, as one message; `None` before the first token."""
        self._release()
        return self._writer.partial(self._reply)

    def _read(self, events: list[bytes]) -> Iterator[T]:
        reply = self._reply
        for event in events:
            if self.done:
                return
            if event == b"[DONE]":
                if reply.finish_reason:
                    yield from self._finish()
                return
            if not event:
                continue
            try:
                deltas = reply.read(self._parse(event))
            except MalformedError as problem:
                raise self._malformed(str(problem), event) from None
            yield from self._writer.write(reply, deltas)

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

    def _finish(self) -> Sequence[T]:
        self.done = True
        return [*self._release(), *self._writer.finish(self._reply)]

    def _release(self) -> Sequence[T]:
        """Write what the reply has held back."""
        return self._writer.write(self._reply, self._reply.end())
