"""Reads the JSON of a chat completion: the only reader of the wire format.

`Reply` takes one JSON object after another and returns what each adds, for complete
replies and streams alike: a reply that is not streamed is a stream of one object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

from langchain_core.version import VERSION

from langchain_nscale._json import storable
from langchain_nscale._replies.leniency import (
    Halves,
    MalformedError,
    Pieces,
    content_parts,
    text_in,
)
from langchain_nscale._replies.think_tags import ThinkSplitter, ThinkTags
from langchain_nscale._replies.tool_calls import (
    NOT_OFFERED,
    STOPPED,
    TRUNCATED,
    ToolCallReader,
    call_chunk,
    has_parameters,
)
from langchain_nscale._replies.usage import add_counts, usage_metadata
from langchain_nscale._replies.whole import (
    Delta,
    DeltaKind,
    build_message,
    join_tool_calls,
)
from langchain_nscale._version import PROVIDER

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, ToolCallChunk
    from langchain_core.messages.ai import UsageMetadata

# Fields handled explicitly; all others are kept in `response_metadata`.
_KNOWN_TOP = {"choices", "id", "model", "object", "usage"}
_KNOWN_CHOICE = {"delta", "finish_reason", "index", "logprobs", "message", "text"}
_KNOWN_MESSAGE = {"content", "reasoning", "reasoning_content", "refusal"} | {
    "role",
    "tool_calls",
}
# What langchain-core (1.8.4) reads of a finish reason, in the metadata that integrations
# set and in v3's `message-finish`. It defines no values of `finish_state`, and of
# `normalized_finish_reason` only these; older versions have neither.
FINISH_KEYS = ("finish_reason", "normalized_finish_reason", "finish_state")
_NORMALIZED = {"stop": "stop", "tool_calls": "tool_call"}
_HAS_NORMALIZED = tuple(map(int, re.findall(r"\d+", VERSION)[:3])) >= (1, 8, 4)
# Finish reasons of replies that the service gave up. vLLM ends every running request
# with "abort" when it is shut down.
ABANDONED = (
    {"abort", "aborted", "cancelled", "canceled", "failed", "timeout"}
    | {"error", "engine_error", "internal_error", "server_error"}
    | {"insufficient_system_resource"}
)


@dataclass(eq=False, repr=False)  # not frozen: created for each call
class ReplyOptions:
    """Options for reading a reply."""

    retries: int = 0
    with_headers: bool = False  # in `response_metadata`
    model: str | None = None  # for replies that do not name it
    think_tags: ThinkTags = "off"
    expects_json: bool = False  # the answer is constrained to JSON
    max_tokens: int | None = None  # for each answer
    n: int = 1  # answers, which share their usage
    tools: object = None
    # The names of tools as the user knows them, by the names that the API knows.
    tool_names: Mapping[str, str] = field(default_factory=dict)
    used_call_ids: Collection[str] = field(default=())  # by the conversation
    # Returns what a complete answer parses to, for `additional_kwargs`.
    parse: Callable[[AIMessage], dict[str, Any]] | None = None
    hides_reasoning: bool = False  # the request leaves it out of the reply
    # The usage of the call's earlier replies, which the caller did not get.
    earlier: Sequence[Mapping[str, Any] | None] = ()
    # If set, a reply without calls is followed by another request: gets its usage.
    go_on: Callable[[Mapping[str, Any] | None], None] | None = None
    # Called with the usage of a reply that was lost.
    on_lost: Callable[[Mapping[str, Any] | None], None] | None = None
    demands_call: bool = False


class Reply:
    """One choice of a chat completion, as received so far."""

    def __init__(
        self, extra: Mapping[str, Any] | None = None, options: ReplyOptions | None = None
    ) -> None:
        """Start a reply, with the metadata that is known before it is read."""
        self._options = options or ReplyOptions()
        self.finish_reason: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self.retries = self._options.retries
        self.has_begun = False  # whether a choice has been received
        self._index: object = None
        self._top: dict[str, Any] = {}  # the last value of each top-level field
        self._extra = extra or {}
        self._pieces = Pieces()  # fields without explicit handling
        self._calls = ToolCallReader(
            self._options.tool_names, self._options.used_call_ids
        )
        self._thinking = None
        if self._options.think_tags != "off":
            self._thinking = ThinkSplitter(
                self._options.think_tags, expects_json=self._options.expects_json
            )
        self._after_reasoning = False  # whether only reasoning has been received
        self._has_text = False
        self.is_stream = False
        self.deltas: list[Delta] = []  # everything received so far
        self._halves = Halves()

    def feed(self, completion: Mapping[str, Any]) -> list[Delta]:
        """Take the next object; return what it adds, which is nothing without choices."""
        usage = completion.get("usage")
        if isinstance(usage, dict) and usage:
            # vLLM with `continuous_usage_stats`, and SiliconFlow, report it on every
            # chunk, as running totals (langchain#30429).
            self.usage = usage
        choices = completion.get("choices")
        if not isinstance(choices, list):
            return []  # a ping, a note or metrics
        if None in completion.values():
            completion = {k: v for k, v in completion.items() if v is not None}
        self._top.update(completion)
        deltas: list[Delta] = []
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            index = choice.get("index") or 0
            if self._index is None:
                self._index = index
            if index != self._index:
                what = "a stream has more than one choice"
                raise MalformedError(what)
            self.has_begun = True
            self._read_choice(choice, deltas)
        self.deltas += deltas
        return deltas

    def feed_text(self, name: str, text: str) -> list[Delta]:
        """Take the text of an object that has nothing else to say; see `Repeats`."""
        deltas: list[Delta] = []
        if name == "content":
            self._add_written(deltas, text)
        else:
            self._add_reasoning(deltas, text)
        self.deltas += deltas
        return deltas

    def _read_choice(self, choice: Mapping[str, Any], deltas: list[Delta]) -> None:
        if reason := choice.get("finish_reason"):
            self.finish_reason = str(reason)
        if not choice.keys() <= _KNOWN_CHOICE:
            self._keep_fields(choice, _KNOWN_CHOICE)
            if isinstance(usage := choice.get("usage"), dict) and usage:
                self.usage = usage  # Moonshot's API has it there
        # Some servers repeat the whole message next to the deltas.
        message = choice.get("delta")
        whole = not message and not self.deltas and not deltas
        if not whole:
            self.is_stream = True
        else:
            message = choice.get("message") or message
        if message is not None and not isinstance(message, dict):
            what = "a choice's message is not an object"
            raise MalformedError(what)
        if message:
            self._read_message(message, deltas, whole=whole)
        elif text := choice.get("text"):  # as in the API for plain completions
            self._add_content(deltas, text)
        if logprobs := choice.get("logprobs"):
            _add_logprobs(deltas, logprobs)

    def _read_message(
        self, message: Mapping[str, Any], deltas: list[Delta], *, whole: bool
    ) -> None:
        if reasoning := message.get("reasoning_content") or message.get("reasoning"):
            if self._thinking is not None:
                self._thinking.expect_tags()  # the service separates reasoning itself
            self._add_reasoning(deltas, text_in(reasoning, "reasoning"))
        if content := message.get("content"):
            self._add_content(deltas, content)
        if refusal := message.get("refusal"):
            self._add_refusal(deltas, text_in(refusal, "refusal"))
        if calls := message.get("tool_calls"):
            chunks = self._calls.feed(calls, self._top.get("id"), whole=whole)
            deltas += [self._call(chunk) for chunk in chunks]
        if not message.keys() <= _KNOWN_MESSAGE:
            self._keep_fields(message, _KNOWN_MESSAGE)

    def _add_content(self, deltas: list[Delta], content: object) -> None:
        if isinstance(content, str):
            self._add_written(deltas, content)
            return
        for kind, text, part in content_parts(content):
            if kind == "other":
                self._pieces.add("content_parts", [part])
            elif kind == "reasoning":
                self._add_reasoning(deltas, text)
            elif kind == "refusal":
                self._add_refusal(deltas, text)
            else:
                self._add_written(deltas, text)

    def _add_written(self, deltas: list[Delta], text: str) -> None:
        """Add what the model wrote: text, perhaps with reasoning in it."""
        if self._thinking is not None:
            reasoning, text = self._thinking.feed(text)
            self._add_reasoning(deltas, reasoning)
        self._add_text(deltas, text)

    def _add_text(self, deltas: list[Delta], text: str) -> None:
        text = self._halves.join("text", text)
        if self._after_reasoning:
            # Chat templates put blank lines between reasoning and answer.
            text = text.lstrip("\r\n")
        if text:
            self._after_reasoning = False
            self._has_text = True
            deltas.append(Delta("text", text))

    def _add_reasoning(self, deltas: list[Delta], text: str) -> None:
        text = self._halves.join("reasoning", text)
        if text:
            self._after_reasoning = not self._has_text
            deltas.append(Delta("reasoning", text))

    def _add_refusal(self, deltas: list[Delta], text: str) -> None:
        text = self._halves.join("refusal", text)
        if text:
            deltas.append(Delta("refusal", text))

    def _call(self, chunk: ToolCallChunk) -> Delta:
        """Return a fragment of a call with valid Unicode."""
        chunk["args"] = self._halves.join(chunk["index"], chunk["args"] or "")
        if chunk["name"]:
            chunk["name"] = storable(chunk["name"])
        return Delta("tool_call", tool_call=chunk)

    def flush(self) -> list[Delta]:
        """Return what is still held back, after the last object."""
        deltas: list[Delta] = []
        if self._thinking is not None:
            reasoning, text = self._thinking.flush()
            self._add_reasoning(deltas, reasoning)
            self._add_text(deltas, text)
        deltas += map(self._call, self._calls.flush(self._top.get("id")))
        for place, text in self._halves.flush():
            if isinstance(place, str):
                deltas.append(Delta(cast("DeltaKind", place), text))
            else:
                call = call_chunk(None, text, None, place)
                deltas.append(Delta("tool_call", tool_call=call))
        self.deltas += deltas
        return deltas

    def message(
        self,
        metadata: Mapping[str, Any] | None = None,
        usage: UsageMetadata | None = None,
    ) -> AIMessage:
        """Return what has been received as a message."""
        return build_message(self.deltas, metadata, usage, self.problems())

    def complete(self) -> AIMessage:
        """Return the complete reply as a message, with the usage of the call so far."""
        return self.message(self.metadata(), usage_metadata(self.reported_usage))

    @property
    def has_outcome(self) -> bool:
        """Whether the reply calls tools or refuses, so that nothing has to follow it."""
        problems = self._calls.problems()
        return any(
            delta.kind == "refusal"
            or (call is not None and problems.get(call["index"]) != NOT_OFFERED)
            for delta in self.deltas
            for call in [delta.tool_call]
        )

    def is_lost(self, flushed: Sequence[Delta]) -> bool:
        """Return whether tokens were generated of which the caller would see nothing."""
        # The parsers of vLLM 0.32.0 for phi4_mini_json and llama3_json lose whole answers
        # in streams (vllm#48294), or make them calls of tools that don't exist. A reply
        # that announces calls and has none is lost too (vllm#53255). An answer is rightly
        # empty if a stop string ended it, if it consists of hidden reasoning, or if the
        # only token is the one that ends it. `flushed` is what was held back until the
        # end.
        if (
            not (self._options.tools or self._options.expects_json)
            or self._options.hides_reasoning
            or self.finish_reason not in ("stop", "tool_calls")
            or len(self.deltas) > len(flushed)
            or self._stop_string() is not None
        ):
            return False
        if flushed:
            problems = self._calls.problems()
            calls = join_tool_calls(flushed)
            is_unknown = all(problems.get(index) == NOT_OFFERED for index in calls)
            kinds = {delta.kind for delta in flushed}
            return self.is_stream and is_unknown and kinds == {"tool_call"}
        usage = usage_metadata(self.usage)
        if usage is None:
            return self.finish_reason == "tool_calls"
        thoughts = usage.get("output_token_details", {}).get("reasoning", 0)
        is_called = self.finish_reason == "tool_calls"
        return is_called or usage["output_tokens"] - thoughts > 1

    @property
    def reported_usage(self) -> Mapping[str, Any] | None:
        """The usage of all requests of the call; `None` if this reply has none."""
        if self.usage is None:
            return None
        return reduce(add_counts, filter(None, self._options.earlier), dict(self.usage))

    def parsed(self, message: AIMessage | None = None) -> dict[str, Any]:
        """Return what the complete answer parses to, for `additional_kwargs`."""
        parse = self._options.parse
        return parse(message or self.message(self.metadata())) if parse else {}

    def without_demanded_call(self) -> AIMessage | None:
        """Return the complete message if it lacks the tool call that was demanded."""
        if not self._options.demands_call:
            return None
        message = self.complete()
        is_refusal = "refusal" in message.additional_kwargs
        has_call = message.tool_calls or message.invalid_tool_calls or is_refusal
        return None if has_call else message

    def partial(self) -> AIMessage | None:
        """Return the message received so far, or `None` before the first token."""
        self.flush()
        return self.message() if self.deltas else None

    def problems(self) -> dict[int | None, str]:
        """Return, by index, why calls can't be executed whatever their arguments say."""
        problems = self._calls.problems()
        calls = join_tool_calls(self.deltas)
        if calls:
            last = max(calls, key=lambda index: index or 0)
            if problem := self._problem_of_last(calls[last]):
                problems[last] = problem
        return problems

    def _problem_of_last(self, call: ToolCallChunk) -> str | None:
        """Return why the last tool call may be incomplete, if it may."""
        # vLLM completes calls that a limit or a stop string has cut off, and reports
        # finish reason `tool_calls` (0.32.0; tests/unit/wire has both). Then only the
        # number of generated tokens or the stop reason tells; an integer is the ID of a
        # stop token.
        has_arguments = bool((call["args"] or "").strip())
        if self.finish_reason == "length":
            return TRUNCATED
        if stop := self._stop_string():
            return STOPPED.format(stop)
        if self.finish_reason is None and self.is_stream and not has_arguments:
            return TRUNCATED
        options = self._options
        if options.max_tokens is None:
            return None
        usage = usage_metadata(self.usage)
        if usage is None:
            names = {user: api for api, user in options.tool_names.items()}
            name = names.get(call["name"] or "", call["name"])
            is_cut = not has_arguments and has_parameters(options.tools, name)
        else:
            is_cut = usage["output_tokens"] >= options.max_tokens * options.n
        return TRUNCATED if is_cut else None

    @property
    def native_finish_reason(self) -> str | None:
        """The finish reason that a gateway replaced, as OpenRouter and LiteLLM tell."""
        reason = self._own_fields().get("native_finish_reason")
        return reason if isinstance(reason, str) else None

    def _own_fields(self) -> dict[str, Any]:
        """Return the fields without explicit handling, with those that LiteLLM moves."""
        fields = self._pieces.joined()
        kept = fields.get("provider_specific_fields")
        return {**(kept if isinstance(kept, dict) else {}), **fields}

    def _stop_string(self) -> str | None:
        """Return the stop string that ended the reply, if one did."""
        # vLLM calls it `stop_reason`, SGLang `matched_stop`; LiteLLM keeps vLLM's in
        # `provider_specific_fields`.
        fields = self._own_fields()
        reasons = (fields.get("stop_reason"), fields.get("matched_stop"))
        return next((text for text in reasons if isinstance(text, str)), None)

    def _keep_fields(self, fields: Mapping[str, Any], known: set[str]) -> None:
        """Keep all fields without explicit handling."""
        for key, value in fields.items():
            if value is not None and key not in known:
                self._pieces.add(key, value)

    def _normalized_reason(self) -> str | None:
        if not _HAS_NORMALIZED:
            return None
        if any(delta.kind == "refusal" for delta in self.deltas):
            return "refusal"
        return _NORMALIZED.get(self.finish_reason or "")

    def metadata(self) -> dict[str, Any]:
        """Return `response_metadata`, except for what the deltas contain."""
        top = self._top
        metadata = {key: value for key, value in top.items() if key not in _KNOWN_TOP}
        metadata |= self._extra
        metadata |= self._pieces.joined()
        if identity := top.get("id"):
            metadata["id"] = str(identity)
        if model := top.get("model") or self._options.model:
            metadata["model_name"] = str(model)
        metadata["model_provider"] = PROVIDER
        if self.finish_reason is not None:
            metadata["finish_reason"] = self.finish_reason
        if (normalized := self._normalized_reason()) is not None:
            metadata["normalized_finish_reason"] = normalized
        if (usage := self.reported_usage) is not None:
            metadata["token_usage"] = usage
        for key, value in metadata.items():
            if not (type(value) is str and value.isascii()):
                metadata[key] = _storable(value)
        return metadata


def _storable(value: Any) -> Any:
    """Return a value that can be stored, and is not nested too deeply."""
    try:
        return storable(value)
    except RecursionError:
        return "(nested too deeply)"


def _add_logprobs(deltas: list[Delta], logprobs: object) -> None:
    """Attach log probabilities to the last delta, whose tokens they describe."""
    if not isinstance(logprobs, dict):
        return
    known = {key: _storable(value) for key, value in logprobs.items() if value}
    if deltas and known:
        deltas[-1] = deltas[-1]._replace(logprobs=known)
    elif known:
        deltas.append(Delta("logprobs", logprobs=known))
