"""Structured output: how to request a schema, and how to read the answer. Pure."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from types import GenericAlias
from typing import Any, Literal

from langchain_core.exceptions import ModelRefusalError, OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    SystemMessage,
    convert_to_messages,
)
from langchain_core.output_parsers import (
    BaseCumulativeTransformOutputParser,
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import AddableDict, Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError

from langchain_nscale._json import fenced_blocks
from langchain_nscale._replies.partial_json import PartialJson
from langchain_nscale._requests.schemas import is_response_format, json_schema
from langchain_nscale._requests.typed_dicts import with_defaults

Method = Literal["function_calling", "json_schema", "json_mode", "prompt"]
METHODS: tuple[Method, ...] = ("function_calling", "json_schema", "json_mode", "prompt")

# Where an object or array can begin. Other braces are skipped at once: a failed attempt
# takes time in proportion to its place, because the error counts the lines before it.
_VALUE = re.compile(r'\{(?=\s{0,1000}["}])|\[')
_MAX_ATTEMPTS = 5_000
_DECODER = json.JSONDecoder(strict=False)
# The begin and end of thoughts in a text: DeepSeek's and Qwen's tags, Mistral's, Gemma's
# channel, and gpt-oss's last one. The begin can be in the prompt.
_THOUGHTS = re.compile(
    r"(<think(?:ing)?>|\[THINK\]|<\|channel>)"
    r"|</think(?:ing)?>|\[/THINK\]|<channel\|>|<\|channel\|>final<\|message\|>"
)

# The finish reasons of a truncated reply, and what the error says about them.
_TRUNCATED: Mapping[str, str] = {
    "length": (
        "The reply was cut off at `max_tokens` (finish_reason 'length'), so it can't be "
        "parsed: raise `max_tokens` or ask for less."
    ),
    "content_filter": (
        "The reply was cut off by a content filter, so it can't be parsed."
    ),
}


def check_arguments(schema: Any, method: str, *, strict: bool | None) -> None:
    """Reject arguments of `with_structured_output` that are incompatible."""
    if method not in METHODS:
        msg = f"method={method!r} is unknown: use one of {', '.join(METHODS)}."
        raise ValueError(msg)
    if schema is None and method != "json_mode":
        msg = f"`schema` is missing: method={method!r} needs one."
        raise ValueError(msg)
    if schema is not None:
        _check_schema(schema)
    if strict is not None and method in ("json_mode", "prompt"):
        msg = f"`strict` can't be used with method={method!r}: nothing enforces it."
        raise ValueError(msg)


def _check_schema(schema: Any) -> None:
    is_class = isinstance(schema, type) and schema.__module__ != "builtins"
    if is_class or is_response_format(schema):
        return  # errors of a class name its fields
    try:  # Python 3.10 takes list[int] for a class
        is_valid = not isinstance(schema, GenericAlias)
        is_valid = is_valid and isinstance(json_schema(schema).get("title"), str)
    except Exception:  # noqa: BLE001  # whatever langchain-core raises
        is_valid = False
    if not is_valid:
        msg = (
            f"`schema` is {reprlib.repr(schema)}: use a Pydantic class, dataclass, "
            "TypedDict or JSON Schema."
        )
        raise ValueError(msg)


def instructions(schema: Any) -> str:
    """Return a text that asks a model to follow a schema, for method `"prompt"`."""
    schema_text = json.dumps(json_schema(schema), ensure_ascii=False)
    return (
        "Answer with one JSON object that is valid against this JSON Schema, and with "
        f"nothing else: no explanation, no Markdown.\n{schema_text}"
    )


def add_instructions(schema: Any, model_input: LanguageModelInput) -> list[BaseMessage]:
    """Add the instructions for a schema to the system message at the beginning."""
    messages = convert_to_messages(
        [model_input] if isinstance(model_input, str) else model_input
    )
    text = instructions(schema)
    if messages and isinstance(messages[0], SystemMessage):
        first = messages[0]
        content = (
            f"{first.content}\n\n{text}"
            if isinstance(first.content, str)
            else [*first.content, {"type": "text", "text": text}]
        )
        return [first.model_copy(update={"content": content}), *messages[1:]]
    return [SystemMessage(text), *messages]


def check_complete(message: BaseMessage, *, has_answer: bool) -> None:
    """Raise for a reply that no parser could read: refused, cut off, or not an answer."""
    if refusal := message.additional_kwargs.get("refusal"):
        msg = f"The model refused: {refusal}"
        raise ModelRefusalError(msg, raw_message=message)
    reason = message.response_metadata.get("finish_reason")
    if problem := _TRUNCATED.get(str(reason)):
        raise OutputParserException(problem, llm_output=message.text)
    if has_answer:
        return
    invalid = message.invalid_tool_calls if isinstance(message, AIMessage) else []
    if invalid:
        msg = f"The model's tool call can't be parsed. {invalid[0]['error']}"
        raise OutputParserException(msg, llm_output=invalid[0]["args"])
    msg = (
        "The model answered without calling the tool for the schema. Use "
        "method='json_schema', which does not depend on tool calls. The answer: "
        f"{message.text[:500]!r}"
    )
    raise OutputParserException(msg, llm_output=message.text)


def without_thoughts(text: str) -> str:
    """Return a text without the thoughts in it; those without an end go to its end."""
    kept: list[str] = []
    start, is_open = 0, False
    for tag in _THOUGHTS.finditer(text):
        if not tag[1]:
            kept = kept if is_open else []
            start, is_open = tag.end(), False
        elif not is_open:
            kept.append(text[start : tag.start()])
            is_open = True
    return "".join(kept if is_open else [*kept, text[start:]])


def complete_json(text: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
    """Return the JSON value in a complete answer.

    The answer can be in a Markdown fence, or between other text. Values in thoughts are
    no answers, and of several values the answer is the one that fits. Nothing is
    repaired: an object that lacks its end is not an answer, whatever the finish reason.
    """
    with suppress(ValueError, RecursionError):  # its values may have tags
        return json.loads(text.strip().removeprefix("```json").strip("`"), strict=False)
    text = without_thoughts(text).rstrip()
    values = _values(text)
    if not values:
        fences = list(fenced_blocks(text))
        with suppress(ValueError):
            return json.loads(fences[0] if len(fences) == 1 else text, strict=False)
        msg = "it contains no JSON"
        raise ValueError(msg)
    if len(values) > 1:
        values = [value for value in values if fits(value)] or values[:2]
        if any(value != values[0] for value in values):
            msg = "it contains several JSON values, and more or less than one is meant"
            raise ValueError(msg)
    return values[0]


def _values(text: str) -> list[Any]:
    """Return the objects and arrays in a text, in linear time.

    A ValueError says that one lacks its end or is nested too deeply.
    """
    values: list[Any] = []
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        match = _VALUE.search(text, position)
        if match is None:
            return values
        try:
            value, position = _DECODER.raw_decode(text, match.start())
        except RecursionError:
            msg = "it is nested too deeply"
            raise ValueError(msg) from None
        except json.JSONDecodeError as error:
            is_cut = not text[error.pos : error.pos + 1] or error.msg.startswith("Unterm")
            if is_cut and not (match[0] == "[" and values):
                raise
            # What came before is not a value, and neither are the values inside it.
            position = max(error.pos, match.start() + 1)
        else:
            values.append(value)
    msg = "it has too many brackets"
    raise ValueError(msg)


class _Stream:
    """Parses the chunks of one reply, each once."""

    def feed(self, chunk: str | BaseMessage) -> Iterator[Any]:
        """Yield what the chunk adds to the output."""
        raise NotImplementedError

    def flush(self) -> Iterator[Any]:
        """Yield the rest of the output."""
        return iter(())


class _OneStep(BaseCumulativeTransformOutputParser[Any]):
    """A parser that reads each chunk once, and that async calls need no thread for."""

    async def aparse_result(
        self, result: list[Generation], *, partial: bool = False
    ) -> Any:
        return self.parse_result(result, partial=partial)

    def parse(self, text: str) -> Any:
        return self.parse_result([Generation(text=text)])

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:  # noqa: A002  # interface
        stream = self._new_stream()
        for chunk in input:
            yield from stream.feed(chunk)
        yield from stream.flush()

    async def _atransform(
        self,
        input: AsyncIterator[str | BaseMessage],  # noqa: A002  # interface
    ) -> AsyncIterator[Any]:
        stream = self._new_stream()
        async for chunk in input:
            for item in stream.feed(chunk):
                yield item
        for item in stream.flush():
            yield item

    def _new_stream(self) -> _Stream:
        raise NotImplementedError


class StructuredOutputParser(_OneStep):
    """Parses partial replies leniently and complete replies strictly."""

    parser: Any  # of a reply's text or tool calls
    tool: str | None = None  # its name, if the answer is a tool call
    has_tools: bool = False  # whether the model may call other tools instead
    form: Any = None  # the schema, which tells the answer from other values in its text

    @property
    def answer_class(self) -> Any:
        """The class of the answer: Pydantic's, or a dataclass; `None` for a dict."""
        own = vars(self)  # pickles of earlier versions only have a dataclass
        schema = own.get("form", own.get("dataclass"))
        is_class = isinstance(schema, type) and (
            is_basemodel_subclass(schema) or is_dataclass(schema)
        )
        return schema if is_class else None

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse a reply. The last chunk of a stream makes it complete."""
        generation = result[0]
        message = generation.message if isinstance(generation, ChatGeneration) else None
        if partial and (message is None or isinstance(message, AIMessageChunk)):
            return [None, *self._new_stream().feed(message or generation.text)][-1]
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        if self.has_tools and any(call["name"] != self.tool for call in calls):
            return None
        if self.tool and message is not None:
            check_complete(message, has_answer=bool(calls))
        elif not self.tool:
            text = json.dumps(_complete_value(generation, message, self._fits))
            result = [Generation(text=text)]
        value = self.parser.parse_result(result)
        answer_class = self.answer_class
        if answer_class is None or is_basemodel_subclass(answer_class):
            return value
        try:
            return _adapter(answer_class).validate_python(value)
        except ValidationError as error:
            msg = f"The answer is not a valid {answer_class.__name__}: {error}"
            raise OutputParserException(msg, llm_output=str(value)) from error

    def _fits(self, value: Any) -> bool:
        """Return whether a value has the form of the schema."""
        if (answer_class := self.answer_class) is not None:
            try:
                _adapter(answer_class).validate_python(value)
            except Exception:  # noqa: BLE001  # validators can raise anything
                return False
            return True
        schema = vars(self).get("form")  # pickles of earlier versions have none
        required = () if schema is None else json_schema(schema).get("required", ())
        return isinstance(value, dict) and value.keys() >= set(required)

    def _new_stream(self) -> _AnswerStream:
        return _AnswerStream(self)


class _AnswerStream(_Stream):
    """Parses the chunks of one reply, each once, and the complete reply in the end."""

    def __init__(self, parser: StructuredOutputParser) -> None:
        self._parser = parser
        self._class = parser.answer_class
        self._json = PartialJson()
        self._version = 0
        self._chunks: list[AIMessageChunk] = []
        self._index: object = None  # of the tool call that is the answer
        self._is_other = False  # another tool was called instead
        self._latest: Any = None

    def feed(self, chunk: str | BaseMessage) -> Iterator[Any]:
        """Yield what the answer is so far, if that is new."""
        message: Any = AIMessageChunk(content=chunk) if isinstance(chunk, str) else chunk
        self._chunks.append(message)
        is_new = False
        if not isinstance(message, AIMessageChunk):  # a complete message
            value = self._parser.parse_result([_whole([message])])
        elif message.chunk_position == "last":
            value = self._parser.parse_result([_whole(self._chunks)])
        else:
            self._json.feed(self._text(message))
            if self._json.version == self._version or self._is_other:
                return
            self._version = self._json.version
            value = self._part(self._json.value)
            is_new = self._class is None  # a dict changes with its version
        if value is not None and (is_new or value != self._latest):
            self._latest = value
            yield value

    def _part(self, value: Any) -> Any:
        """Return the beginning of an answer, validated; `None` if it isn't valid yet."""
        if self._class is None:
            return value
        if len(value) < _fewest_keys(self._class):
            return None  # validating it would collect an error for each missing field
        with suppress(Exception):  # validators can raise anything
            return _adapter(self._class).validate_python(value)
        return None

    def _text(self, message: AIMessageChunk) -> str:
        """Return what a chunk adds to the answer: text, or arguments of the tool."""
        tool = self._parser.tool
        arguments = ""
        for call in message.tool_call_chunks:
            if call["name"] and self._parser.has_tools and call["name"] != tool:
                self._is_other = True
            if call["name"] == tool and tool and self._index is None:
                self._index = (call["index"],)
            if self._index == (call["index"],):
                arguments += call["args"] or ""
        return arguments if tool else message.text


def _complete_value(
    generation: Generation, message: BaseMessage | None, fits: Callable[[Any], bool]
) -> Any:
    """Return the value of a complete answer in JSON."""
    text = generation.text
    try:
        value = complete_json(text, fits)
    except ValueError as error:
        if message is not None:
            check_complete(message, has_answer=True)
        msg = f"The answer is not complete JSON: {error}. It reads: {text[:500]!r}"
        raise OutputParserException(msg, llm_output=text) from None
    if message is not None:
        # The model may have filled the rest of `max_tokens` with white space.
        is_padded = isinstance(value, (dict, list)) and text.rstrip() != text
        reason = message.response_metadata.get("finish_reason")
        if not (reason == "length" and is_padded):
            check_complete(message, has_answer=True)
    return value


def parser_for(
    schema: Any, method: Method, *, has_tools: bool = False
) -> StructuredOutputParser:
    """Return a parser of replies to `schema`, requested by a method.

    Its output is an instance of a Pydantic class or dataclass, or a dict for a TypedDict
    or a JSON Schema; `None` if the model has called another tool instead.
    """
    is_pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
    tool: str | None = None
    if method == "function_calling":
        tool = convert_to_openai_tool(with_defaults(schema))["function"]["name"]
    parser: BaseOutputParser[Any]
    if tool is not None and is_pydantic:
        parser = PydanticToolsParser(tools=[schema], first_tool_only=True)
    elif tool is not None:
        parser = JsonOutputKeyToolsParser(key_name=tool, first_tool_only=True)
    elif is_pydantic:
        parser = PydanticOutputParser(pydantic_object=schema)
    else:
        parser = JsonOutputParser()
    return StructuredOutputParser(
        parser=parser, tool=tool, has_tools=has_tools, form=schema
    )


def pipeline(
    model: Runnable[LanguageModelInput, AIMessage],
    parser: StructuredOutputParser,
    *,
    include_raw: bool,
) -> Runnable[LanguageModelInput, Any]:
    """Combine a model and its parser, which reports errors with `include_raw`."""
    return model | (RawAndParsed(parser=parser) if include_raw else parser)


class RawAndParsed(_OneStep):
    """Returns `{"raw": AIMessage, "parsed": ..., "parsing_error": ...}`."""

    parser: StructuredOutputParser

    def parse_result(
        self,
        result: list[Generation],
        *,
        partial: bool = False,  # noqa: ARG002  # streams don't use it
    ) -> dict[str, Any]:
        message = getattr(result[0], "message", None)
        parsed, failure = None, None
        try:
            parsed = self.parser.parse_result(result)
        except Exception as error:  # noqa: BLE001  # validators can raise anything
            failure = error
        return {"raw": message, "parsed": parsed, "parsing_error": failure}

    def _new_stream(self) -> _RawStream:
        return _RawStream(self)


class _RawStream(_Stream):
    """The parts of `RawAndParsed`'s output: the chunks, and then what they parse to."""

    def __init__(self, parser: RawAndParsed) -> None:
        self._parser = parser
        self._chunks: list[Any] = []

    def feed(self, chunk: str | BaseMessage) -> Iterator[dict[str, Any]]:
        self._chunks.append(chunk)
        yield AddableDict(raw=chunk)

    def flush(self) -> Iterator[dict[str, Any]]:
        """Yield what the reply parses to, and the error if it can't be parsed."""
        if self._chunks:
            output = self._parser.parse_result([_whole(self._chunks)])
            del output["raw"]
            yield AddableDict(output)


def _whole(messages: Sequence[Any]) -> ChatGeneration:
    """Return one generation with all chunks of a reply, merged in one go."""
    first, rest = messages[0], list(messages[1:])
    return ChatGeneration(message=first + rest if rest else first)


@lru_cache(maxsize=128)
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


@lru_cache(maxsize=128)
def _fewest_keys(schema: Any) -> int:
    """Return how many keys an answer has at least; 0 if a validator may add some."""
    if is_dataclass(schema):
        is_plain = not hasattr(schema, "__pydantic_validator__")
        needed = [
            each
            for each in fields(schema)
            if each.init and each.default is MISSING and each.default_factory is MISSING
        ]
        return len(needed) if is_plain else 0
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return 0
    validators = schema.__pydantic_decorators__
    own = [cls for cls in schema.__mro__ if issubclass(cls, BaseModel)][:-1]
    if (
        validators.model_validators
        or validators.root_validators
        or issubclass(schema, RootModel)
        or any("__get_pydantic_core_schema__" in vars(cls) for cls in own)
    ):
        return 0
    needed_fields = [f for f in schema.model_fields.values() if f.is_required()]
    aliases = [each.validation_alias for each in needed_fields]
    is_named = all(alias is None or isinstance(alias, str) for alias in aliases)
    return len(needed_fields) if is_named else 0


# --- `response_format` in a call ------------------------------------------------------


def parsed(schema: type[BaseModel], message: AIMessage) -> dict[str, Any]:
    """Return what a reply parses to, for `additional_kwargs`.

    A reply with tool calls or a refusal instead of an answer has nothing to parse.
    """
    calls = (*message.tool_calls, *message.invalid_tool_calls)
    if calls or "refusal" in message.additional_kwargs:
        return {}
    parser = parser_for(schema, "json_schema")
    return {"parsed": parser.parse_result([ChatGeneration(message=message)])}
