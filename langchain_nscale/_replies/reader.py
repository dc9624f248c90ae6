"""Reads HTTP responses, complete or streamed, through a writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import jiter
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_nscale._error_bodies import error_object
from langchain_nscale._failures import (
    interrupted_stream,
    malformed_response,
    reported_error,
    stalled_stream,
)
from langchain_nscale._lazy import errors
from langchain_nscale._replies.chunks import ChunkWriter, merge
from langchain_nscale._replies.completion import MalformedError, Reply
from langchain_nscale._replies.messages import (
    Delta,
    build_message,
    generation_info,
)
from langchain_nscale._replies.sse import SSEDecoder
from langchain_nscale._replies.think_tags import ThinkTags
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.writer import Writer

if TYPE_CHECKING:
    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

T = TypeVar("T")


@dataclass(frozen=True)
class ReplyOptions:
    """How a reply is read.

    Attributes:
        retries: Number of retries, reported in the metadata if there were any.
        with_headers: Whether `response_metadata` includes the response headers.
        think_tags: Whether the text begins with reasoning between tags.
    """

    retries: int = 0
    with_headers: bool = False
    think_tags: ThinkTags = "off"


_DEFAULT = ReplyOptions()


def chat_result(response: Response, options: ReplyOptions = _DEFAULT) -> ChatResult:
    """Convert a successful response, whose body has been read, to a `ChatResult`.

    Args:
        response: The HTTP response. Its body need not have `id`, `model`,
            `finish_reason` and `usage` (Nscale's guide shows such a reply).
        options: How to read it.

    Raises:
        NscaleError: The body is an error object, or not a chat completion.
    """
    content = response.content
    kind = response.headers.get("content-type", "event-stream")
    if "event-stream" in kind and content.lstrip()[:1] not in (b"{", b"["):
        reader = StreamReader(response, ChunkWriter(), options=options)
        chunks = [*reader.feed(content), *reader.flush()]
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
        # Usage covers the whole request, so only one message has it.
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
    response: Response, writer: Writer[T], options: ReplyOptions = _DEFAULT
) -> Iterator[T]:
    """Write a complete reply to a request for a stream as if it had been streamed.

    Raises:
        NscaleError: The body is an error object, or not a chat completion.
    """
    completion = _completion(response)
    reply, deltas = _read_whole(response, completion, options)
    yield from writer.write(reply, deltas)
    yield from writer.finish(reply)


def _completion(response: Response) -> dict[str, Any]:
    """Return the chat completion in a response's body, with at least one choice."""
    content = response.content
    try:
        completion = jiter.from_json(content, cache_mode="keys")
    except ValueError:
        problem = "the body is not JSON"
        raise malformed_response(problem, response, content) from None
    if not isinstance(completion, dict):
        problem = "the body is not a JSON object"
        raise malformed_response(problem, response, content)
    if error_object(completion):
        raise reported_error(completion, response)
    choices = completion.get("choices")
    if not choices or not isinstance(choices, list):
        problem = "`choices` is missing or empty"
        raise malformed_response(problem, response, content)
    return completion


def _read_whole(
    response: Response, completion: Mapping[str, Any], options: ReplyOptions
) -> tuple[Reply, list[Delta]]:
    reply = _reply(response, options)
    try:
        return reply, [*reply.feed(completion), *reply.flush()]
    except MalformedError as problem:
        raise malformed_response(str(problem), response, response.content) from None


def _reply(response: Response, options: ReplyOptions) -> Reply:
    """Start a reply with what the HTTP response says about it."""
    headers = response.headers
    facts = {
        "request_id": headers.get("inference-id") or headers.get("x-request-id"),
        "retries": options.retries,
        "headers": dict(headers) if options.with_headers else None,
    }
    extra = {key: value for key, value in facts.items() if value}
    return Reply(extra, options.think_tags)


class StreamReader(Generic[T]):
    """Passes the bytes of a streamed reply through a writer as they arrive."""

    def __init__(
        self,
        response: Response,
        writer: Writer[T],
        stall_after: float | None = None,
        options: ReplyOptions = _DEFAULT,
    ) -> None:
        """Start a stream.

        Args:
            response: The HTTP response, for metadata and error messages.
            writer: Creates the items to yield.
            stall_after: Seconds without an event after which the stream has stalled.
            options: How to read the reply.
        """
        self.done = False
        self.stall_after = stall_after
        self._decoder = SSEDecoder()
        self._reply = _reply(response, options)
        self._response = response
        self._writer = writer
        self._idle = (
            0.0  # seconds spent waiting for an event, without the consumer's own time
        )
        self._waiting_since = monotonic()

    def feed(self, data: bytes) -> Iterator[T]:
        """Take the next bytes; yield the items that they complete.

        Raises:
            NscaleError: The service reported an error, or sent something other than a
                chunk. Everything before it has been yielded and is in `partial`.
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

    def flush(self, cause: NscaleError | None = None) -> Iterator[T]:
        """Finish the stream: yield what is still buffered, or raise if it ended early.

        Args:
            cause: The network fault that ended the stream, if any.

        Raises:
            NscaleStalledStreamError: The fault was a timeout.
            NscaleInterruptedStreamError: The model had not finished.
        """
        if cause is None:
            yield from self._read(self._decoder.flush())
        if self.done:
            return
        if self._reply.finish_reason:
            yield from self._finish()
            return
        if cause is not None and isinstance(cause, errors.NscaleTimeoutError):
            raise self._stalled(cause)
        raise interrupted_stream(self._response, self.partial(), cause)

    def _stalled(self, cause: NscaleError | None) -> NscaleError:
        return stalled_stream(self._response, self.stall_after, self.partial(), cause)

    def partial(self) -> AIMessage | None:
        """Return the message received so far, or `None` before the first token."""
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
                deltas = reply.feed(self._parse(event))
            except MalformedError as problem:
                raise self._malformed(str(problem), event) from None
            yield from self._writer.write(reply, deltas)

    def _parse(self, event: bytes) -> dict[str, Any]:
        try:
            completion = jiter.from_json(event, cache_mode="keys")
        except ValueError as error:
            problem = f"an event is not JSON ({error})"
            raise self._malformed(problem, event) from None
        if not isinstance(completion, dict):
            problem = "an event is not a JSON object"
            raise self._malformed(problem, event)
        if "choices" not in completion and error_object(completion):
            raise reported_error(completion, self._response, self.partial())
        return completion

    def _malformed(self, problem: str, event: bytes) -> NscaleError:
        return malformed_response(problem, self._response, event, self.partial())

    def _finish(self) -> Sequence[T]:
        self.done = True
        return [*self._release(), *self._writer.finish(self._reply)]

    def _release(self) -> Sequence[T]:
        """Write what the reply has held back."""
        return self._writer.write(self._reply, self._reply.flush())
