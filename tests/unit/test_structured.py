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

from langchain_nscale._structured import METHODS, Method, parser_for, pipeline


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
