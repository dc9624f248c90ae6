"""The requests that the stand-in server accepts, with vLLM's ranges and its wordings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from langchain_nscale.testing._script import ServerReply
from langchain_nscale.testing._templates import template_problems

_KIND = "request"
_Problems = Iterator[tuple[str, str]]  # what is wrong, and the field that the API names


def problem_with(body: Any) -> ServerReply | None:
    """Return the error with which the real API rejects a chat request, if it would."""
    if problem := _check(ChatRequest, body):
        return problem
    said = next(template_problems(body), None)
    return None if said is None else _rejection(said, "messages")


def problem_with_texts(body: Any) -> ServerReply | None:
    """Return the error for a request for embeddings that can't be answered, if any."""
    return _check(EmbeddingsRequest, body)


def _check(form: type[BaseModel], body: Any) -> ServerReply | None:
    if not isinstance(body, dict):
        return _rejection("The body is not a JSON object", None)
    try:
        form.model_validate(body)
    except ValidationError as error:
        # Values of the request stay out of the message, which could get very long.
        (first, *_) = error.errors(include_url=False, include_input=False)
        field = str(first["loc"][0]) if first["loc"] else None
        if field == "messages" and len(first["loc"]) > 1:
            field = f"messages[{first['loc'][1]}]"
        param = first.get("ctx", {}).get("param", field)
        where = ".".join(map(str, first["loc"]))
        return _rejection(f"{where}: {first['msg']}" if where else first["msg"], param)
    return None


def _rejection(message: str, param: str | None) -> ServerReply:
    error = {
        "code": "BAD_REQUEST",
        "message": message,
        "param": param,
        "error_type": "INVALID_REQUEST",
    }
    return ServerReply(status=400, body={"error": error})


class _Form(BaseModel):
    """A part of a request. Unknown fields are ignored, as the API does."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for message, param in self.problems():
            values = {"message": message, "param": param}
            raise PydanticCustomError(_KIND, "{message}", values)
        return self

    def problems(self) -> _Problems:
        """Yield what no single field shows; only the first problem is reported."""
        yield from ()


def _as_json(arguments: str) -> str:
    try:
        json.loads(arguments)
    except RecursionError:
        msg = "The arguments are nested too deeply"
        raise ValueError(msg) from None
    return arguments


class _CalledFunction(_Form):
    name: str
    arguments: Annotated[str, AfterValidator(_as_json)]


class _Call(_Form):
    id: str | None = None
    function: _CalledFunction


class _Part(_Form):
    type: str
    text: Any = None

    def problems(self) -> _Problems:
        if self.type == "text" and not isinstance(self.text, str):
            yield "A text in `content` is not a string", "messages"


class _Message(_Form):
    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


class _Parameters(_Form):
    type: Literal["object"]


class _Function(_Form):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    parameters: _Parameters | None = None


class _Tool(_Form):
    function: _Function


class _Named(_Form):
    name: str


class _Choice(_Form):
    function: _Named


class _Format(_Form):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Any = None

    def problems(self) -> _Problems:
        inner = self.json_schema
        has_schema = isinstance(inner, dict) and isinstance(inner.get("schema"), dict)
        if self.type == "json_schema" and not has_schema:
            yield "The `json_schema` field must be provided", "response_format"


_Text = Annotated[str, Field(min_length=1)]


class ChatRequest(_Form):
    """The bodies that `/v1/chat/completions` accepts."""

    model: str = Field(min_length=1)
    messages: list[_Message] = Field(min_length=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Any] | None = None
    logprobs: bool | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    n: int | None = Field(default=None, ge=1, le=1000)
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    reasoning_effort: (
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None
    ) = None
    response_format: _Format | None = None
    seed: int | None = None
    stop: _Text | list[_Text] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    tool_choice: str | _Choice | None = None
    tools: list[_Tool] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    top_p: float | None = Field(default=None, gt=0, le=1)
    user: str | None = None

    def problems(self) -> _Problems:
        yield from self._message_problems()
        yield from self._tool_problems()
        if self.top_logprobs is not None and not self.logprobs:
            message = "when using `top_logprobs`, `logprobs` must be set to true"
            yield message, "top_logprobs"
        if self.stream_options is not None and not self.stream:
            message = "Stream options can only be defined when `stream=True`"
            yield message, "stream_options"

    def _message_problems(self) -> _Problems:
        """Yield messages without content, and calls and results without each other."""
        calls: set[str | None] = set()
        waiting: dict[str | None, int] = {}
        for number, message in enumerate(self.messages):
            where = f"messages[{number}]"
            if message.content is None and message.role != "assistant":
                yield "`content` must be a string or a list", where
            for call in message.tool_calls or []:
                calls.add(call.id)
                waiting[call.id] = number
            if message.role == "tool" and message.tool_call_id not in calls:
                yield "A tool message does not answer an earlier tool call", where
            waiting.pop(message.tool_call_id, None)
        for number in waiting.values():
            yield "A tool call has no answer", f"messages[{number}]"

    def _tool_problems(self) -> _Problems:
        # `_failures._ADVICE_BY_MESSAGE` knows vLLM's wordings about `tool_choice`.
        choice = self.tool_choice
        if self.tools is not None and not self.tools:
            yield "`tools` must not be an empty array", "tools"
        if choice not in (None, "none") and not self.tools:
            yield "When using `tool_choice`, `tools` must be set", "tool_choice"
        names = {tool.function.name for tool in self.tools or []}
        if isinstance(choice, _Choice) and choice.function.name not in names:
            message = "The tool in `tool_choice` does not match any of `tools`"
            yield message, "tool_choice"
        if isinstance(choice, str) and choice not in ("none", "auto", "required"):
            yield f"Invalid value for `tool_choice`: {choice[:99]}", "tool_choice"


class EmbeddingsRequest(_Form):
    """The bodies that `/v1/embeddings` accepts."""

    model: str = Field(min_length=1)
    input: _Text | Annotated[list[_Text], Field(min_length=1)]
    dimensions: int | None = Field(default=None, ge=1, le=65_536)
    encoding_format: Literal["float", "base64"] | None = None
