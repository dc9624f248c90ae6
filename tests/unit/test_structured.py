from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.exceptions import ModelRefusalError, OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_nscale._structured import (
    METHODS,
    Method,
    complete_json,
    parser_for,
    pipeline,
    without_thoughts,
)


class Joke(BaseModel):
    """A joke."""

    setup: str
    rating: int


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    rating: int


CALL = {"name": "Joke", "args": {"setup": "a", "rating": 1}, "id": "x"}
DICT_CALL = {**CALL, "name": "JokeDict"}
JSON = '{"setup": "a", "rating": 1}'


def answer(method: Method, **fields: Any) -> AIMessage:
    if method == "function_calling":
        return AIMessage("", tool_calls=[CALL, DICT_CALL], **fields)
    return AIMessage(JSON, **fields)


def parse(schema: Any, method: Method, message: AIMessage) -> Any:
    return parser_for(schema, method).parse_result([ChatGeneration(message=message)])


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_read_into_the_schema(method: Method) -> None:
    assert parse(Joke, method, answer(method)) == Joke(setup="a", rating=1)
    assert parse(JokeDict, method, answer(method)) == {"setup": "a", "rating": 1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", [Joke, JokeDict])
@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({"additional_kwargs": {"refusal": "No."}}, ModelRefusalError, "No."),
        (
            {"response_metadata": {"finish_reason": "length"}},
            OutputParserException,
            "max_t",
        ),
        (
            {"response_metadata": {"finish_reason": "content_filter"}},
            OutputParserException,
            "content filter",
        ),
    ],
)
def test_a_reply_that_is_not_whole_says_why(
    method: Method, schema: Any, fields: Any, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        parse(schema, method, answer(method, **fields))


@pytest.mark.parametrize("schema", [Joke, JokeDict])
def test_a_model_that_calls_no_tool_is_an_error_not_none(schema: Any) -> None:
    with pytest.raises(OutputParserException, match=r"json_schema.*Haha") as caught:
        parse(schema, "function_calling", AIMessage("Haha"))
    assert caught.value.llm_output == "Haha"
    bad = {"name": "Joke", "args": "{", "id": "x", "error": "Cut off."}
    with pytest.raises(OutputParserException, match="Cut off"):
        parse(schema, "function_calling", AIMessage("", invalid_tool_calls=[bad]))


@pytest.mark.parametrize("text", ["no json", '{"setup": 3}'])
def test_an_answer_that_does_not_fit_is_an_error(text: str) -> None:
    with pytest.raises(OutputParserException):
        parse(Joke, "json_schema", AIMessage(text))


def chunks(method: Method, reason: str) -> list[AIMessageChunk]:
    texts = ['{"setup": ', '"a", ', '"rating": 1}']
    if method == "function_calling":
        heads: list[Any] = [{"name": "JokeDict", "id": "x"}, {"name": None, "id": None}]
        made = [
            AIMessageChunk(
                content="",
                tool_call_chunks=[{**heads[i > 0], "args": text, "index": 0}],
            )
            for i, text in enumerate(texts)
        ]
    else:
        made = [AIMessageChunk(content=text) for text in texts]
    last = AIMessageChunk(
        content="",
        chunk_position="last",
        response_metadata={"finish_reason": reason},
    )
    return [*made, last]


def streaming(method: Method, reason: str) -> Any:
    def transform(_: Iterator[Any]) -> Iterator[AIMessageChunk]:
        yield from chunks(method, reason)

    return RunnableGenerator(transform)


@pytest.mark.parametrize("method", METHODS)
def test_a_streams_parts_are_given_as_they_come(method: Method) -> None:
    model = streaming(method, "stop")
    chain = pipeline(model, parser_for(JokeDict, method), include_raw=False)
    got = list(chain.stream("tell"))
    assert got[-1] == {"setup": "a", "rating": 1}
    assert {"setup": "a"} in got


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_that_was_cut_off_says_so_at_its_end(method: Method) -> None:
    model = streaming(method, "length")
    chain = pipeline(model, parser_for(JokeDict, method), include_raw=False)
    with pytest.raises(OutputParserException, match="max_tokens"):
        list(chain.stream("tell"))


@pytest.mark.parametrize("method", METHODS)
def test_include_raw_never_raises_for_what_the_model_said(method: Method) -> None:
    good, bad = answer(method), AIMessage("no")
    parser = parser_for(Joke, method)
    whole = pipeline(RunnableLambda(lambda _: good), parser, include_raw=True)
    assert whole.invoke("x") == {
        "raw": good,
        "parsed": Joke(setup="a", rating=1),
        "parsing_error": None,
    }
    broken = pipeline(RunnableLambda(lambda _: bad), parser, include_raw=True).invoke("x")
    assert broken["raw"] == bad
    assert broken["parsed"] is None
    assert isinstance(broken["parsing_error"], OutputParserException)


# --- parts of an answer ---------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def is_part(part: Any, whole: Any) -> bool:
    """Return whether a value can grow into another one while it is being written."""
    if isinstance(part, dict) and isinstance(whole, dict):
        # A key of the same name again would replace the value; JSON's writers have none.
        return all(
            key in whole and is_part(value, whole[key]) for key, value in part.items()
        )
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_part, part, whole))
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    if isinstance(part, (int, float)) and isinstance(whole, (int, float)):
        return isinstance(part, bool) == isinstance(whole, bool)
    return type(part) is type(whole) and part == whole


@given(
    whole=st.dictionaries(st.text(), VALUES),
    ascii_only=st.booleans(),
    fence=st.sampled_from(["", "```json\n", " ```"]),
    data=st.data(),
)
def test_parts_of_an_answer_grow_into_it(
    whole: dict[str, Any], ascii_only: bool, fence: str, data: st.DataObject
) -> None:
    text = fence + json.dumps(whole, ensure_ascii=ascii_only)
    cut = data.draw(st.integers(1, len(text)))
    parser = parser_for({"title": "T", "type": "object", "properties": {}}, "json_mode")
    message = AIMessageChunk(content=text[:cut])
    part = parser.parse_result([ChatGeneration(message=message)], partial=True)
    assert part is None or is_part(part, whole)
    if cut == len(text):
        assert part == whole


def test_parts_are_not_parsed_character_by_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """langchain-core walks them in Python, which takes most of the time of a stream."""

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError

    # Older versions do without it.
    monkeypatch.setattr("langchain_core.utils.json.accumulate", fail, raising=False)
    parser = parser_for(Joke, "json_schema")
    message = AIMessageChunk(content='{"setup": "a", "rating": 1')
    part = parser.parse_result([ChatGeneration(message=message)], partial=True)
    assert part == Joke(setup="a", rating=1)


# --- the answer among other values ------------------------------------------------------

WRONG = '{"setup": "no", "rating": 5}'
THOUGHTS = [
    "<think>\nMaybe {}? No.\n</think>\n\n",
    "<thinking>{}</thinking>",
    "[THINK]{}[/THINK]",
    "<|channel>thought\n{}<channel|>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "Maybe {}? No.\n</think>",
    "<think>{0}</think> Hm. <think>{0}</think>",
]
ANSWERS = ["{}", "The answer: {}.", "```json\n{}\n```", "As in [1] or {{a, b}}:\n{}"]


@pytest.mark.parametrize("thoughts", ["", *THOUGHTS])
@pytest.mark.parametrize("form", ANSWERS)
@pytest.mark.parametrize("schema", [Joke, JokeDict])
def test_a_value_in_the_thoughts_is_not_the_answer(
    schema: Any, form: str, thoughts: str
) -> None:
    text = thoughts.format(WRONG) + form.format(JSON)
    found = parse(schema, "prompt", AIMessage(text))
    found = found if isinstance(found, dict) else found.model_dump()
    assert found == {"setup": "a", "rating": 1}
    only_thoughts = AIMessage(thoughts.format(JSON) + "I can't say.")
    if thoughts:
        with pytest.raises(OutputParserException):
            parse(schema, "prompt", only_thoughts)


@pytest.mark.parametrize(
    "text",
    [
        f"A wrong answer would be {WRONG}.\nThe answer: {JSON}",
        f"Draft:\n```json\n{WRONG}\n```\nBetter:\n```json\n{JSON}\n```",
        f"{WRONG}\n{JSON[:-3]}",
        f"<think>{JSON}",
    ],
)
def test_it_is_an_error_where_the_answer_is_not_clear(text: str) -> None:
    with pytest.raises(OutputParserException):
        parse(Joke, "prompt", AIMessage(text))


def test_of_several_values_the_one_that_fits_is_the_answer() -> None:
    for text in (
        f'{{"note": 1}} {JSON}',
        f'{JSON} (not {{"setup": "b", "rating": "many"}})',
        f"{JSON}\nAgain: {JSON}",
        f"[] {JSON} [",
    ):
        assert parse(Joke, "prompt", AIMessage(text)) == Joke(setup="a", rating=1)


def test_an_error_names_the_fault_of_a_single_value_that_does_not_fit() -> None:
    with pytest.raises(OutputParserException, match="rating"):
        parse(Joke, "prompt", AIMessage('It is {"setup": "a", "rating": "many"}.'))


def test_prose_has_no_partial_answers() -> None:
    parser = parser_for(JokeDict, "prompt")
    for text in (f"<think>{WRONG}", f"Not {WRONG}, but", f"Hm.</think>{JSON}"):
        message = AIMessageChunk(content=text)
        found = parser.parse_result([ChatGeneration(message=message)], partial=True)
        assert found is None


TEXT = st.text(alphabet='{}[]":,a1 \n<>think/', max_size=40)


@given(before=TEXT, after=TEXT, value=st.dictionaries(st.text(), st.integers()))
def test_a_value_is_found_whole_or_not_at_all(
    before: str, after: str, value: dict[str, int]
) -> None:
    text = before + json.dumps(value) + after
    try:
        found = complete_json(text)
    except ValueError:
        return
    try:
        assert found == json.loads(text.strip(), strict=False)
    except ValueError:
        assert isinstance(found, (dict, list))


@given(parts=st.lists(st.sampled_from(["<think>", "</think>", "{", "a"]), max_size=12))
def test_thoughts_are_taken_out_whole(parts: list[str]) -> None:
    rest = without_thoughts("".join(parts))
    assert "think" not in rest
    if "<think>" not in parts and "</think>" not in parts:
        assert rest == "".join(parts)
