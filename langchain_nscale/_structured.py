"""Structured output: how to ask for a schema, and how to read what comes back. Pure."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from operator import itemgetter
from typing import Any, Literal

from langchain_core.exceptions import ModelRefusalError, OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
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
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import TypeAdapter, ValidationError

from langchain_nscale._requests import json_schema

Method = Literal["function_calling", "json_schema", "json_mode", "prompt"]
METHODS: tuple[Method, ...] = ("function_calling", "json_schema", "json_mode", "prompt")


def instructions(schema: Any) -> str:
    """What tells a model in words to answer in a schema, for method `"prompt"`."""
    wanted = json.dumps(json_schema(schema), ensure_ascii=False)
    return (
        "Answer with one JSON object that is valid against this JSON Schema, and with "
        f"nothing else: no explanation, no Markdown.\n{wanted}"
    )


def instruct(schema: Any, given: LanguageModelInput) -> list[BaseMessage]:
    """The input with the instructions in its system message, which comes first."""
    if isinstance(given, PromptValue):
        messages = given.to_messages()
    elif isinstance(given, str):
        messages = [HumanMessage(given)]
    else:
        messages = convert_to_messages(given)
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


def check_complete(message: BaseMessage, *, called: bool) -> None:
    """Tell why a reply can't be read, where that isn't the reader's business.

    Args:
        message: The whole reply.
        called: Whether what is wanted is there, as far as one can see without parsing.

    Raises:
        ModelRefusalError: The model refused.
        OutputParserException: The reply was cut off, or is of the wrong kind.
    """
    if refusal := message.additional_kwargs.get("refusal"):
        msg = f"The model refused: {refusal}"
        raise ModelRefusalError(msg, raw_message=message)
    reason = message.response_metadata.get("finish_reason")
    if reason == "length":
        msg = (
            "The reply was cut off at `max_tokens` (finish_reason 'length'), so it "
            "can't be read: raise `max_tokens` or ask for less."
        )
        raise OutputParserException(msg, llm_output=message.text)
    if reason == "content_filter":
        msg = "The reply was cut off by a content filter, so it can't be read."
        raise OutputParserException(msg, llm_output=message.text)
    if called:
        return
    invalid = message.invalid_tool_calls if isinstance(message, AIMessage) else []
    if invalid:
        msg = f"The model's tool call can't be read. {invalid[0]['error']}"
        raise OutputParserException(msg, llm_output=invalid[0]["args"])
    msg = (
        "The model answered without calling the tool that carries the schema. Use "
        "method='json_schema', which doesn't depend on tool calls. It answered: "
        f"{message.text[:500]!r}"
    )
    raise OutputParserException(msg, llm_output=message.text)


class _Answer(BaseCumulativeTransformOutputParser[Any]):
    """Reads a reply with `reader`: parts as far as they go, a whole one strictly."""

    reader: Any
    from_tool_call: bool
    made_into: Any = None
    """A dataclass of which the answer becomes an instance."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse a reply. A stream's last chunk makes it whole."""
        generation = result[0]
        if isinstance(generation, ChatGeneration):
            message = generation.message
            partial = partial and getattr(message, "chunk_position", None) != "last"
            if not partial:
                calls = message.tool_calls if isinstance(message, AIMessage) else []
                check_complete(message, called=bool(calls) or not self.from_tool_call)
        value = self.reader.parse_result(result, partial=partial)
        if self.made_into is None or value is None:
            return value
        try:
            return TypeAdapter(self.made_into).validate_python(value)
        except ValidationError as error:
            if partial:
                return None
            msg = f"The answer isn't a {self.made_into.__name__}: {error}"
            raise OutputParserException(msg, llm_output=str(value)) from error

    def parse(self, text: str) -> Any:
        """Parse a text."""
        return self.parse_result([Generation(text=text)])


def parser_for(schema: Any, method: Method) -> BaseOutputParser[Any]:
    """What reads a reply into `schema`: an instance of a Pydantic class or dataclass.

    For a TypedDict or a JSON Schema it's a dict.
    """
    pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
    called = method == "function_calling"
    reader: BaseOutputParser[Any]
    if called and pydantic:
        reader = PydanticToolsParser(tools=[schema], first_tool_only=True)
    elif called:
        name = convert_to_openai_tool(schema)["function"]["name"]
        reader = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    elif pydantic:
        reader = PydanticOutputParser(pydantic_object=schema)
    else:
        reader = JsonOutputParser()
    made_into = schema if isinstance(schema, type) and is_dataclass(schema) else None
    return _Answer(reader=reader, from_tool_call=called, made_into=made_into)


def pipeline(
    model: Runnable[LanguageModelInput, AIMessage],
    parser: BaseOutputParser[Any],
    *,
    include_raw: bool,
) -> Runnable[LanguageModelInput, Any]:
    """The model and its parser; with `include_raw` neither raises for the other's sake.

    With `include_raw` the output is `{"raw": AIMessage, "parsed": ..., "parsing_error":
    None or an exception}`.
    """
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks(
        [failed], exception_key="parsing_error"
    )
