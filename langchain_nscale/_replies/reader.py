"""Reads HTTP responses, complete or streamed, through a writer.

The body decides what a response is, not its content type: events labeled as text or
JSON, a whole reply where a stream was requested, and the reverse are all understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from langchain_nscale._error_bodies import error_object, reports_error
from langchain_nscale._failures import (
    abandoned_reply,
    interrupted_stream,
    lost_reply,
    malformed_response,
    missing_tool_call,
    public_headers,
    reported_error,
)
from langchain_nscale._json import decode
from langchain_nscale._replies.leniency import (
    CHOICES,
    DONE,
    MalformedError,
    decode_loosely,
    without_done,
)
from langchain_nscale._replies.repeats import Repeats
from langchain_nscale._replies.reply import ABANDONED, Reply, ReplyOptions
from langchain_nscale._replies.sse import ErrorEvent, SSEDecoder
from langchain_nscale._replies.usage import usage_metadata
from langchain_nscale._replies.whole import Delta, generation_info
from langchain_nscale._replies.writer import Writer
from langchain_nscale._response import AskAgainError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatResult

    from langchain_nscale._response import Response
    from langchain_nscale.errors import NscaleError

T = TypeVar("T")
_DEFAULT = ReplyOptions()
_BLANK = b" \t\r\n\xef\xbb\xbf"
_LONGEST_LINE = 2**16  # bytes of an event; a longer line is a whole reply


def chat_result(response: Response, options: ReplyOptions = _DEFAULT) -> ChatResult:
    """Convert a successful response, whose body has been read, to a `ChatResult`.

    It need not have `id`, `model`, `finish_reason` and `usage` (Nscale's guide shows such
    a reply). An error object, or no chat completion, raises a `NscaleError`.
    """
    content = response.content
    start = content.lstrip(_BLANK)[:6]
    if start[:1] not in (b"{", b"["):
        if start.startswith((b"data:", b"event:", b":", b"id:", b"retry:", b"error:")):
            return _result_of_stream(response, content, options)
        problem = "the body is not JSON"
        raise malformed_response(problem, response, content)
    completion = _completion(response, options)
    replies = [
        _read_whole(response, {**completion, "choices": [choice]}, options)
        for choice in completion["choices"]
    ]
    _accept(response, options, replies)
    _check_demand(response, replies)
    from langchain_nscale._replies.copies import (  # noqa: PLC0415  # slow
        new_generation,
        new_result,
    )

    generations = []
    for number, reply in enumerate(replies):
        metadata = reply.metadata()
        # Usage covers the whole request, so only one message has it.
        if number:
            metadata.pop("token_usage", None)
        usage = None if number else usage_metadata(reply.reported_usage)
        message = reply.message(metadata, usage)
        message.additional_kwargs.update(reply.parsed(message))
        info = generation_info(message.response_metadata)
        generations.append(new_generation(message, info))
    first = generations[0].message.response_metadata
    output = ("id", "model_name", "model_provider", "system_fingerprint", "token_usage")
    return new_result(generations, {key: first[key] for key in output if key in first})


def _result_of_stream(
    response: Response, content: bytes, options: ReplyOptions
) -> ChatResult:
    from langchain_core.outputs import ChatGeneration, ChatResult  # noqa: PLC0415

    from langchain_nscale._replies.chunks import ChunkWriter, merge  # noqa: PLC0415

    reader = StreamReader(response, ChunkWriter(), options=options)
    chunks = [*reader.feed(content), *reader.flush()]
    message = merge([chunk.message for chunk in chunks])
    info = chunks[-1].generation_info
    return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])


def _completion(response: Response, options: ReplyOptions) -> dict[str, Any]:
    """Return the chat completion in a response's body, with at least one choice."""
    content = response.content
    completion = _object_in(response, content, "the body is not JSON")
    found = completion.get("choices")
    choices = [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []
    if reports_error(completion) or (not choices and error_object(completion)):
        partial = None
        if choices:
            reply = _start(response, options)
            with suppress(MalformedError):
                reply.feed({**completion, "choices": choices[:1]})
            partial = reply.partial()
        raise reported_error(completion, response, partial)
    if not choices:
        problem = "`choices` is missing or empty"
        raise malformed_response(problem, response, content)
    return {**completion, "choices": choices}


def _object_in(response: Response, body: bytes, problem: str) -> dict[str, Any]:
    """Return the JSON object in a body; `problem` is for one that is not JSON."""
    try:
        value = decode(without_done(body.lstrip(_BLANK)))
    except ValueError:
        raise malformed_response(problem, response, body) from None
    if not isinstance(value, dict):
        problem = "the body is not a JSON object"
        raise malformed_response(problem, response, body)
    return value


def _read_whole(
    response: Response, completion: Mapping[str, Any], options: ReplyOptions
) -> Reply:
    reply = _start(response, options)
    try:
        reply.feed(completion)
    except MalformedError as problem:
        raise malformed_response(str(problem), response, response.content) from None
    reply.flush()
    _check_finish(response, reply)
    return reply


def _accept(
    response: Response,
    options: ReplyOptions,
    replies: Sequence[Reply],
    flushed: Sequence[Delta] = (),
) -> None:
    """Raise if replies have no calls, so that another request is due, or are lost."""
    usage = replies[0].usage
    if options.go_on is not None and not any(reply.has_outcome for reply in replies):
        options.go_on(usage)
        raise AskAgainError
    is_lost = all(reply.is_lost(flushed) for reply in replies)
    if is_lost and (replies[0].is_stream or not options.demands_call):
        partial = replies[0].complete()
        if options.on_lost is not None:
            options.on_lost(usage)
        raise lost_reply(response, partial)


def _check_demand(response: Response, replies: Sequence[Reply]) -> None:
    """Raise if calls were demanded, and no reply has one."""
    lacking = [reply.without_demanded_call() for reply in replies]
    if lacking[0] is not None and all(lacking):
        raise missing_tool_call(response, lacking[0])


def _check_finish(response: Response, reply: Reply) -> None:
    """Raise if the service has given up a reply."""
    reason = reply.finish_reason
    if reason is None:
        return
    native = reply.native_finish_reason or ""
    if reason.lower() in ABANDONED or native.lower() in ABANDONED:
        raise abandoned_reply(response, reason, reply.partial())


def _start(response: Response, options: ReplyOptions) -> Reply:
    """Start a reply with what the HTTP response says about it."""
    headers = response.headers
    facts = {
        "request_id": headers.get("inference-id") or headers.get("x-request-id"),
        "retries": options.retries,
        "headers": public_headers(response) if options.with_headers else None,
    }
    return Reply({key: value for key, value in facts.items() if value}, options)


class StreamReader(Generic[T]):
    """Passes the bytes of a streamed reply through a writer as they arrive."""

    def __init__(
        self, response: Response, writer: Writer[T], options: ReplyOptions = _DEFAULT
    ) -> None:
        """Start a stream; the response is for metadata and error messages."""
        self.done = False
        self.progress = 0  # changes with each event; keep-alives are none
        self._decoder = SSEDecoder()
        self._repeats = Repeats()
        self._reply = _start(response, options)
        self._options = options
        self._response = response
        self._writer = writer
        self._start = b""  # the beginning of the body, until its kind is known
        self._whole: list[bytes] | None = None  # the pieces of a body that is not events
        self._has_kind = False

    @property
    def is_ending(self) -> bool:
        """Whether the model has finished, so that at most usage is still to come."""
        return self._reply.finish_reason is not None

    def feed(self, data: bytes) -> Iterable[T]:
        """Take the next bytes; return the items that they complete, for one iteration.

        An error of the service, or what can't be part of a reply, raises a `NscaleError`.
        Everything before it has been yielded and is in `partial`.
        """
        if not self._has_kind:
            data = self._detect(data)
        if self._whole is not None:
            self._whole.append(data)
            self.progress += 1
            return ()
        if data and (events := self._decoder.feed(data)):
            self.progress += 1
            return self._read(events)
        return ()

    def _detect(self, data: bytes) -> bytes:
        """Decide by the first bytes whether the body consists of events."""
        # Blanks before the body mean nothing, and keeping them would take quadratic time.
        self._start = start = (self._start + data).lstrip(_BLANK)
        if not start:
            return b""
        line, end, _ = start.partition(b"\n")
        if start[:1] in b"{[<":
            if start[:1] == b"{" and not end and len(start) < _LONGEST_LINE:
                return b""  # JSON lines, or a whole reply: the first line decides
            is_lines = bool(end) and line.rstrip().endswith(b"}") and _is_json(line)
            self._whole = None if is_lines else []
        self._has_kind = True
        data, self._start = self._start, b""
        return data

    def flush(self, cause: NscaleError | None = None) -> Iterator[T]:
        """Finish, perhaps after a network fault: yield what is buffered, or raise."""
        if self.done:
            return
        if cause is None:
            body = self._start if self._whole is None else b"".join(self._whole)
            if body.strip(_BLANK):
                yield from self._read_body(body)
            else:
                yield from self._read(self._decoder.flush())
        if self.done:
            return
        if self.is_ending:
            yield from self._finish()
            return
        raise interrupted_stream(self._response, self.partial(), cause)

    def _read_body(self, body: bytes) -> Iterator[T]:
        """Read a whole reply, or an error object, that was sent instead of events."""
        problem = "the body is neither a stream of events nor JSON"
        completion = _object_in(self._response, body, problem)
        choices = completion.get("choices")
        if isinstance(choices, list):  # of several answers, a stream has one
            completion = {**completion, "choices": choices[:1]}
        if reports_error(completion) or error_object(completion):
            raise self._reported(completion)
        yield from self._take(completion, body)
        _check_finish(self._response, self._reply)
        if not self._reply.has_begun:
            problem = "`choices` is missing or empty"
            raise malformed_response(problem, self._response, body)
        yield from self._finish()

    def _read(self, events: list[bytes]) -> Iterator[T]:
        repeats, reply = self._repeats, self._reply
        for event in events:
            if self.done:
                return
            text = repeats.text_of(event)
            if text is not None:
                yield from self._write(reply.feed_text(repeats.field, text))
                continue
            if event.strip() == DONE:
                if not self._reply.has_begun:
                    problem = "the stream has no chunk"
                    raise malformed_response(problem, self._response, b"data: [DONE]")
                yield from self._finish()
                return
            completion = self._parse(event)
            if completion is not None:
                yield from self._take(completion, event)
                _check_finish(self._response, reply)
                repeats.learn(event, completion)

    def _take(self, completion: Mapping[str, Any], data: bytes) -> Iterable[T]:
        try:
            deltas = self._reply.feed(completion)
        except MalformedError as problem:
            raise self._malformed(str(problem), data) from None
        return self._write(deltas)

    def _write(self, deltas: Sequence[Delta]) -> Iterable[T]:
        """Write deltas, unless the reply may be followed by another request."""
        if self._options.go_on is not None:
            return ()
        return self._writer.write(self._reply, deltas)

    def _parse(self, event: bytes) -> dict[str, Any] | None:
        """Decode an event; return `None` for events outside the reply."""
        is_error = isinstance(event, ErrorEvent)
        try:
            completion = decode_loosely(event)
        except ValueError as error:
            if is_error:
                completion = event.decode("utf-8", "replace")
            elif (
                event[:1] not in (b"{", b"[") and event.isascii() and CHOICES not in event
            ):
                return None  # a ping or a note
            else:
                problem = f"an event is not JSON ({error})"
                raise self._malformed(problem, event) from None
        if is_error and not (isinstance(completion, dict) and "error" in completion):
            completion = {"error": completion}
        if isinstance(completion, list):
            problem = "an event is not a JSON object"
            raise self._malformed(problem, event)
        if not isinstance(completion, dict):
            return None
        if reports_error(completion):
            raise self._reported(completion)
        return completion

    def _reported(self, completion: dict[str, Any]) -> NscaleError:
        with suppress(MalformedError):  # it may have choices as well
            self._reply.feed(completion)
        return reported_error(completion, self._response, self.partial())

    def _malformed(self, problem: str, event: bytes) -> NscaleError:
        return malformed_response(problem, self._response, event, self.partial())

    def partial(self) -> AIMessage | None:
        """Return the message received so far, or `None` before the first token."""
        return self._reply.partial()

    def _finish(self) -> Iterator[T]:
        self.done = True
        reply, options = self._reply, self._options
        deltas = reply.flush()
        _accept(self._response, options, [reply], deltas)
        if options.go_on is not None:  # nothing has been written yet
            deltas = reply.deltas
        yield from self._writer.write(reply, deltas)
        _check_demand(self._response, [reply])
        yield from self._writer.finish(reply)


def _is_json(line: bytes) -> bool:
    try:
        decode(line)
    except ValueError:
        return False
    return True
