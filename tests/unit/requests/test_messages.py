from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_function
from pydantic import BaseModel
from typing_extensions import NotRequired, Required, TypedDict

from tests.unit.service import Service, chat, completion, stream

PNG = "iVBORw0KGgo="
DATA_URL = f"data:image/png;base64,{PNG}"


def wire(messages: list[Any], **settings: Any) -> list[dict[str, Any]]:
    """The messages of a request."""
    model = chat(template_rules="as_is", **settings)
    return list(model.request_body(messages)["messages"])


def calling(*ids: str) -> AIMessage:
    calls = [{"name": "f", "args": {}, "id": each} for each in ids]
    return AIMessage("", tool_calls=calls)


def one(message: BaseMessage, **settings: Any) -> dict[str, Any]:
    """A message of a request; a result of a tool comes after its call."""
    if isinstance(message, ToolMessage):
        return wire([calling(message.tool_call_id), message], **settings)[1]
    return wire([message], **settings)[0]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (SystemMessage("s"), {"role": "system", "content": "s"}),
        (HumanMessage("h"), {"role": "user", "content": "h"}),
        (HumanMessage("h", name="n"), {"role": "user", "content": "h", "name": "n"}),
        (AIMessage("a"), {"role": "assistant", "content": "a"}),
        (AIMessage("a", name="n"), {"role": "assistant", "content": "a", "name": "n"}),
        (
            ToolMessage("t", tool_call_id="x"),
            {"role": "tool", "content": "t", "tool_call_id": "x"},
        ),
        (ChatMessage(content="c", role="critic"), {"role": "critic", "content": "c"}),
        (ChatMessage(content="c", role="developer"), {"role": "system", "content": "c"}),
        (
            SystemMessage("c", additional_kwargs={"__openai_role__": "developer"}),
            {"role": "system", "content": "c"},
        ),
        (
            HumanMessage([{"type": "text", "text": "a"}, "b"]),
            {"role": "user", "content": "a\nb"},
        ),
        (
            AIMessage([{"type": "text", "text": "a", "index": 0}, "b"]),
            {"role": "assistant", "content": "ab"},
        ),
        (
            ToolMessage([{"type": "text", "text": "a"}], tool_call_id="x"),
            {"role": "tool", "content": "a", "tool_call_id": "x"},
        ),
    ],
)
def test_messages(message: BaseMessage, expected: dict[str, Any]) -> None:
    assert one(message) == expected


IMAGES: dict[str, dict[Any, Any]] = {
    "OpenAI": {"type": "image_url", "image_url": {"url": DATA_URL}},
    "OpenAI, string": {"type": "image_url", "image_url": DATA_URL},
    "OpenAI Responses": {"type": "input_image", "image_url": DATA_URL},
    "LangChain v1": {"type": "image", "base64": PNG, "mime_type": "image/png"},
    "LangChain v1, url": {"type": "image", "url": DATA_URL},
    "LangChain v0": {
        "type": "image",
        "source_type": "base64",
        "data": PNG,
        "mime_type": "image/png",
    },
    "Anthropic": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
    },
    "Anthropic, url": {"type": "image", "source": {"type": "url", "url": DATA_URL}},
    "Gemini": {"type": "media", "mime_type": "image/png", "data": PNG},
    "Gemini, inline": {"inline_data": {"mime_type": "image/png", "data": PNG}},
    "Bedrock": {"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n\x1a\n"}}},
    "v1, non-standard": {
        "type": "non_standard",
        "value": {"type": "input_image", "image_url": DATA_URL},
    },
}


@pytest.mark.parametrize("block", IMAGES.values(), ids=IMAGES.keys())
def test_images_of_every_provider(block: dict[str, Any]) -> None:
    message = HumanMessage([{"type": "text", "text": "What is it?"}, block])
    assert one(message)["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": DATA_URL}},
    ]


def test_an_images_detail_is_kept() -> None:
    block = {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "low"}}
    assert one(HumanMessage([block]))["content"] == [block]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": PNG},
        {"type": "image", "base64": PNG, "mime_type": "application/pdf"},
        {"type": "image", "file_id": "f-1"},
        {"type": "image", "url": "ftp://x/y"},
        {"type": "image_url", "image_url": "data:image/png,abc"},
        {"type": "image_url", "image_url": {"url": None}},
        {"type": "audio", "base64": PNG, "mime_type": "audio/wav"},
        {"type": "file", "base64": PNG, "mime_type": "application/pdf"},
        {"type": "who_knows"},
    ],
)
def test_a_block_that_cannot_be_sent_is_refused_by_name_and_position(
    block: dict[str, Any],
) -> None:
    content: list[str | dict[Any, Any]] = [{"type": "text", "text": "a"}, block]
    with pytest.raises(ValueError, match=r"messages\[1\] \(HumanMessage\), block 1"):
        wire([SystemMessage("s"), HumanMessage(content)])
    # What others wrote gets through, in words where necessary.
    assert one(AIMessage(content))["content"] == "a"
    assert one(AIMessage([block]))["content"]
    assert PNG not in str(one(AIMessage([block])))
    assert one(ToolMessage([block], tool_call_id="x"))["content"]


def test_an_image_in_an_assistant_message_is_described() -> None:
    assert one(AIMessage([IMAGES["OpenAI"]]))["content"]
    assert one(AIMessage(["So:", IMAGES["OpenAI"]]))["content"] == "So:"


def test_parts_in_the_apis_own_form_go_through() -> None:
    part = {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}
    assert one(HumanMessage([part]))["content"] == [part]


def test_messages_that_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="empty"):
        wire([])
    with pytest.raises(ValueError, match=r"messages\[0\] \(FunctionMessage\)"):
        one(FunctionMessage(content="x", name="f"))


CALL = {"name": "f", "args": {"a": 1}, "id": "x", "type": "tool_call"}
WIRE_CALL = {
    "id": "x",
    "type": "function",
    "function": {"name": "f", "arguments": '{"a":1}'},
}


def test_calls_come_with_null_where_there_is_no_text() -> None:
    expected = {"role": "assistant", "content": None, "tool_calls": [WIRE_CALL]}
    assert one(AIMessage("", tool_calls=[CALL])) == expected
    assert one(AIMessage("a", tool_calls=[CALL])) == {**expected, "content": "a"}


def test_broken_arguments_are_sent_as_valid_json() -> None:
    bad = {"name": "f", "args": '{"a": ', "id": "y", "error": "cut"}
    calls = one(AIMessage("", invalid_tool_calls=[bad]))["tool_calls"]
    assert calls[0]["id"] == "y"
    assert json.loads(calls[0]["function"]["arguments"]) == {"invalid_json": '{"a": '}


FOREIGN = {
    "Anthropic": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "zzz"},
        {"type": "text", "text": "I'll look.", "citations": []},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "tool_use", "id": "x", "name": "f", "input": {"a": 1}},
        {"type": "input_json_delta", "partial_json": "{"},
    ],
    "OpenAI Responses": [
        {"type": "reasoning", "id": "r", "summary": [{"type": "s", "text": "hm"}]},
        {"type": "output_text", "text": "I'll look.", "annotations": []},
        {"type": "function_call", "id": "fc", "call_id": "x", "name": "f"}
        | {"arguments": '{"a":1}'},
        {"type": "web_search_call", "id": "w", "status": "completed"},
    ],
    "Gemini": [
        {"type": "thinking", "thinking": "hm"},
        "I'll look.",
    ],
    "Bedrock": [
        {"type": "reasoning_content", "reasoning_content": {"text": "hm"}},
        {"type": "text", "text": "I'll look."},
        {"type": "tool_use", "name": "f", "input": {"a": 1}, "id": "x"},
    ],
    "LangChain v1": [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "I'll look."},
        {"type": "tool_call", "id": "x", "name": "f", "args": {"a": 1}},
        {"type": "server_tool_call", "id": "s", "name": "code", "args": {}},
        {"type": "server_tool_result", "tool_call_id": "s", "status": "success"},
        {"type": "non_standard", "value": {"type": "mcp_call", "id": "m"}},
    ],
}


@pytest.mark.parametrize("with_calls", [True, False])
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_another_providers_model_wrote(content: list[Any], with_calls: bool) -> None:
    # Calls that middleware removed do not come back from the blocks.
    calls = [CALL] if with_calls else []
    message = AIMessage(content, tool_calls=[CALL] if with_calls else [])
    expected = {"role": "assistant", "content": "I'll look."}
    if calls:
        expected["tool_calls"] = [WIRE_CALL]  # type: ignore[assignment]  # mixed values
    assert one(message) == expected
    assert one(message, reasoning_history="always")["reasoning_content"] == "hm"
    told = one(message, reasoning_history="tool_turns")
    assert ("reasoning_content" in told) == bool(calls)


@pytest.mark.parametrize("stored", ["", None, 5, ["hm"]])
def test_reasoning_stored_in_no_usable_form_is_that_of_the_blocks(stored: Any) -> None:
    thought = {"type": "reasoning", "reasoning": "hm"}
    extra = {"reasoning_content": stored}
    message = AIMessage([thought, {"type": "text", "text": "a"}], additional_kwargs=extra)
    assert one(message, reasoning_history="always")["reasoning_content"] == "hm"


class Node(BaseModel):
    """A tree."""

    children: list[Node]


def plant(root: Node) -> str:
    """Plant a tree."""
    return str(root)


class Forest(BaseModel):
    """A forest."""

    root: Node


TREES = [plant, tool(plant), Forest, Forest.model_json_schema()]


@pytest.mark.parametrize("source", TREES, ids=["function", "tool", "class", "schema"])
def test_schemas_that_refer_to_themselves_are_whole(source: Any) -> None:
    body = chat().request_body("Hi", tools=[source])
    parameters = body["tools"][0]["function"]["parameters"]
    children = parameters["$defs"]["Node"]["properties"]["children"]
    assert children["items"] == {"$ref": "#/$defs/Node"}


class Joke(TypedDict):
    """A joke."""

    setup: str
    rating: NotRequired[Annotated[int, ..., "How funny."]]
    tags: NotRequired[list[str]]
    number: NotRequired[Annotated[int, 3]]


class Evening(TypedDict, total=False):
    """An evening."""

    at: Required[int]
    joke: Joke


def test_optional_fields_of_typed_dicts_are_not_required() -> None:
    joke = {
        "type": "object",
        "properties": {
            "setup": {"type": "string"},
            "rating": {"description": "How funny.", "type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "number": {"default": 3, "type": "integer"},
        },
        "required": ["setup"],
    }
    evening = {
        "type": "object",
        "properties": {
            "at": {"type": "integer"},
            "joke": {"description": "A joke.", **joke},
        },
        "required": ["at"],
    }
    tools = chat().request_body("Hi", tools=[Joke, Evening])["tools"]
    assert [each["function"]["parameters"] for each in tools] == [joke, evening]


def anything(value: Any) -> str:
    """Take anything."""
    return str(value)


@pytest.mark.parametrize(
    "source",
    [
        anything,
        {
            "title": "anything",
            "description": "Take anything.",
            "type": "object",
            "properties": {"value": {}},
            "required": ["value"],
        },
    ],
    ids=["function", "schema"],
)
def test_a_schema_for_any_value_is_as_langchain_core_writes_it(source: Any) -> None:
    function = chat().request_body("Hi", tools=[source])["tools"][0]["function"]
    assert function == convert_to_openai_function(source)
    assert function["parameters"]["properties"] == {"value": {}}


def test_a_refusal_block_is_text() -> None:
    assert one(AIMessage([{"type": "refusal", "refusal": "No."}]))["content"] == "No."


def test_anthropics_tool_results_become_tool_messages() -> None:
    results: list[str | dict[Any, Any]] = [
        {"type": "tool_result", "tool_use_id": "x", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "y", "content": [{"type": "text"}]},
    ]
    tools = [
        {"role": "tool", "tool_call_id": "x", "content": "sunny"},
        {"role": "tool", "tool_call_id": "y", "content": ""},
    ]
    asked = calling("x", "y")
    assert wire([asked, HumanMessage(results)])[1:] == tools
    more = HumanMessage([*results, {"type": "text", "text": "And?"}])
    assert wire([asked, more])[1:] == [*tools, {"role": "user", "content": "And?"}]


QUESTION_TO_CLAUDE = {"role": "user", "content": [{"type": "text", "text": "Oslo?"}]}
ANSWER_TO_CLAUDE = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "t_1", "content": "rain"}],
}


@pytest.mark.parametrize(
    ("block", "arguments"),
    [
        ({"type": "tool_use", "id": "t_1", "input": {"city": "Oslo"}}, {"city": "Oslo"}),
        ({"type": "tool_use", "id": "t_1", "input": {}}, {}),
        ({"type": "tool_use", "id": "t_1", "input": '{"city": "O"}'}, {"city": "O"}),
        ({"type": "tool_use", "id": "t_1", "input": "{"}, {"invalid_json": "{"}),
        ({"type": "tool_use", "id": "t_1", "input": [1]}, {"invalid_json": "[1]"}),
        ({"type": "tool_use", "id": "t_1"}, {}),
        ({"type": "tool_call", "id": "t_1", "args": {"city": "Oslo"}}, {"city": "Oslo"}),
        (
            {"type": "function_call", "id": "f", "call_id": "t_1", "arguments": "{}"},
            {},
        ),
    ],
)
@pytest.mark.parametrize("is_dict", [True, False])
def test_calls_that_are_only_in_the_content(
    block: dict[str, Any], arguments: Any, is_dict: bool
) -> None:
    """As Anthropic's SDK and datasets have them: langchain-core sets no `tool_calls`."""
    content: list[Any] = [{"type": "text", "text": "I look."}, {**block, "name": "look"}]
    message = {"role": "assistant", "content": content}
    answer: Any = ANSWER_TO_CLAUDE if is_dict else ToolMessage("rain", tool_call_id="t_1")
    history = convert_to_messages([QUESTION_TO_CLAUDE, message, answer])
    _, asked, answered = wire(history)
    (call,) = asked["tool_calls"]
    assert (asked["content"], call["id"]) == ("I look.", "t_1")
    assert call["function"]["name"] == "look"
    assert json.loads(call["function"]["arguments"]) == arguments
    assert answered == {"role": "tool", "tool_call_id": "t_1", "content": "rain"}


def test_a_call_that_middleware_removed_stays_away() -> None:
    block = {"type": "tool_use", "id": "t_1", "name": "look", "input": {}}
    assert "tool_calls" not in one(AIMessage([{"type": "text", "text": "a"}, block]))
    kept = {"name": "look", "args": {}, "id": "t_2", "type": "tool_call"}
    history = [
        AIMessage([block], tool_calls=[kept]),
        ToolMessage("r", tool_call_id="t_1"),
    ]
    (call,) = wire(history)[0]["tool_calls"]
    assert call["id"] == "t_2"


class Array:
    """Has numpy's way to plain values."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def tolist(self) -> Any:
        return self.plain


class Color(str, Enum):
    RED = "red"


class Broken:
    def __str__(self) -> str:
        return "broken"

    def tolist(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.5"), 1.5),
        (Decimal(3), 3),
        (Decimal("NaN"), None),
        (Decimal("0.12345678901234567890123"), "0.12345678901234567890123"),
        (Array(3), 3),
        (Array([1.5, float("inf")]), [1.5, None]),
        (Color.RED, "red"),
        (float("nan"), None),
        ("half \ud83d", "half \ufffd"),
        ({1: "a", "b": b"\x00"}, {"1": "a", "b": "AA=="}),
        (datetime(2026, 11, 29, tzinfo=timezone.utc), "2026-11-29T00:00:00Z"),
        (Broken(), "broken"),
    ],
)
def test_arguments_and_results_have_the_same_json(value: Any, expected: Any) -> None:
    call = {"name": "f", "args": {"a": value}, "id": "x", "type": "tool_call"}
    message = AIMessage("").model_copy(update={"tool_calls": [call]})
    result = ToolMessage("", tool_call_id="x").model_copy(
        update={"content": {"a": value}}
    )
    asked, answered = wire([message, result])
    arguments = asked["tool_calls"][0]["function"]["arguments"]
    assert arguments == answered["content"]
    assert json.loads(arguments) == {"a": expected}


def test_images_of_tools_follow_all_tool_messages_as_a_user_message() -> None:
    image = {"type": "image_url", "image_url": {"url": DATA_URL}}
    messages = [
        ToolMessage([{"type": "text", "text": "see"}, image], tool_call_id="x"),
        ToolMessage("plain", tool_call_id="y"),
    ]
    label = {"type": "text", "text": "Images returned by tool call x:"}
    told = "see\n[The images follow in the next user message.]"
    expected = [
        {"role": "tool", "tool_call_id": "x", "content": told},
        {"role": "tool", "tool_call_id": "y", "content": "plain"},
        {"role": "user", "content": [label, image]},
    ]
    asked = calling("x", "y")
    assert wire([asked, *messages])[1:] == expected
    after = wire([asked, *messages, HumanMessage("h")])[1:]
    assert after == [*expected, {"role": "user", "content": "h"}]


# --- other fields ----------------------------------------------------------------------


def named(name: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def bound(tools: list[Any], **options: Any) -> dict[str, Any]:
    runnable: Any = chat().bind_tools(tools, **options)
    return dict(runnable.kwargs)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        (False, None),
        (True, "required"),
        ("any", "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("f", {"type": "function", "function": {"name": "f"}}),
        ({"name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "function", "function": {"name": "f"}},
            {"type": "function", "function": {"name": "f"}},
        ),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "any"}, "required"),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    assert bound([named("f")], tool_choice=choice).get("tool_choice") == expected


@pytest.mark.parametrize("choice", ["g", {"name": "g"}, {}, 3, ["f"]])
def test_a_tool_choice_that_names_no_tool(choice: Any) -> None:
    with pytest.raises(ValueError, match=r"tool_choice=.*bound tools \('f'\)"):
        bound([named("f")], tool_choice=choice)


def test_tool_names_that_the_api_would_refuse() -> None:
    assert sent_name("a-b_1") == "a-b_1"
    for name in ("", None):
        with pytest.raises(ValueError, match="tool name"):
            bound([named(name)])
    with pytest.raises(ValueError, match="only accepts functions"):
        bound([{"type": "web_search"}])


def sent_name(name: str) -> str:
    """The name under which the API gets to know a tool."""
    (tool,) = chat().request_body("Hi", tools=[named(name)])["tools"]
    return str(tool["function"]["name"])


@given(st.text(min_size=1, max_size=100))
def test_every_tool_name_has_one_that_the_api_accepts(name: str) -> None:
    sent = sent_name(name)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", sent)
    assert sent_name(sent) == sent


def test_names_that_differ_in_a_character_still_differ() -> None:
    assert sent_name("a.b") != sent_name("a/b") != sent_name("a b")


@pytest.mark.parametrize(
    ("model", "extra", "call", "expected"),
    [
        (None, None, None, None),
        ("a", None, None, ["a"]),
        ("a", None, ["b", "a"], ["a", "b"]),
        (["a"], "b", ["c"], ["a", "b", "c"]),
        ([], None, (), None),
    ],
)
def test_stop_sequences_of_model_and_call_are_merged(
    model: Any, extra: Any, call: Any, expected: Any
) -> None:
    asked = chat(stop=model, model_kwargs={"stop": extra})
    assert asked.request_body("Hi", stop=call).get("stop") == expected


def test_response_format() -> None:
    class Joke(BaseModel):
        """A joke."""

        setup: str

    form = bound([], response_format=Joke, strict=True)["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["name"] == "Joke"
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["description"] == "A joke."
    assert form["json_schema"]["schema"]["properties"].keys() == {"setup"}
    for ready in (form, {"type": "json_object"}):
        assert bound([], response_format=ready)["response_format"] == ready
    schema = {"title": "My Joke!", "type": "object", "properties": {}}
    titled = bound([], response_format=schema)["response_format"]
    assert titled["json_schema"]["name"] == "My_Joke_"


def test_what_has_no_json_form_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"can't be encoded as JSON: x\[1\] is of type"):
        chat().invoke("Hi", extra_body={"x": [1, object()]})


def test_what_is_sent_is_valid_json() -> None:
    body = {"a": float("nan"), "b": [float("inf")], "c": "\ud83d", "d": b"\xff", "e": {3}}
    service = Service()
    chat(service).invoke("Hi", extra_body=body)
    (sent,) = service.bodies
    assert {name: sent[name] for name in body} == {
        "a": None,
        "b": [None],
        "c": "\ufffd",
        "d": "/w==",
        "e": [3],
    }


@pytest.mark.usefixtures("at_once")
def test_what_is_remembered_of_services_is_bounded() -> None:
    """Whose streams lose answers beside tools, so that they are requested whole."""

    def is_streamed(address: str) -> bool:
        lost = stream({"role": "assistant", "content": ""})
        usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}
        lost = lost.removesuffix(b"data: [DONE]\n\n")
        lost += f"data: {json.dumps(usage)}\n\n".encode()
        service = Service(lambda body: lost if body.get("stream") else completion())
        model = chat(service, base_url=address).bind_tools([named("f")])
        assert "".join(chunk.text for chunk in model.stream("Hi")) == "Hi"
        return "stream" in service.bodies[0]

    for number in range(300):
        assert is_streamed(f"https://{number}.example.com/v1")
    assert not is_streamed("https://299.example.com/v1")
    assert is_streamed("https://0.example.com/v1")
