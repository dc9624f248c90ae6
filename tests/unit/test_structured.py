from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, Literal

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.exceptions import ModelRefusalError, OutputParserException
from pydantic import BaseModel
from typing_extensions import TypedDict

from tests.unit.answers import FINISH, chunk, model_of
from tests.unit.service import Service, chat, completion
from tests.unit.ways import model_for

Method = Literal["function_calling", "json_schema", "json_mode", "prompt"]
METHODS: tuple[Method, ...] = ("function_calling", "json_schema", "json_mode", "prompt")


class Joke(BaseModel):
    """A joke."""

    setup: str
    rating: int


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    rating: int


JSON = '{"setup": "a", "rating": 1}'


def called(name: str, arguments: str = JSON) -> dict[str, Any]:
    return {"id": "x", "function": {"name": name, "arguments": arguments}}


def answer(
    schema: Any, method: Method, finish_reason: str = "stop", **message: Any
) -> dict[str, Any]:
    """The reply of a model that follows a schema."""
    if method == "function_calling":
        calls = [called(schema.__name__)]
        return completion(None, finish_reason, tool_calls=calls, **message)
    return completion(JSON, finish_reason, **message)


def parse(schema: Any, method: Method, reply: Any, **options: Any) -> Any:
    """What structured output makes of a reply, or of its text."""
    service = Service(completion(reply) if isinstance(reply, str) else reply)
    model = chat(service, max_retries=0)
    return model.with_structured_output(schema, method=method, **options).invoke("Tell")


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_read_into_the_schema(method: Method) -> None:
    joke, plain = answer(Joke, method), answer(JokeDict, method)
    assert parse(Joke, method, joke) == Joke(setup="a", rating=1)
    assert parse(JokeDict, method, plain) == {"setup": "a", "rating": 1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", [Joke, JokeDict])
@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({"refusal": "No."}, ModelRefusalError, "No."),
        ({"finish_reason": "length"}, OutputParserException, "max_t"),
        ({"finish_reason": "content_filter"}, OutputParserException, "content filter"),
    ],
)
def test_a_reply_that_is_not_whole_says_why(
    method: Method, schema: Any, fields: Any, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        parse(schema, method, answer(schema, method, **fields))


@pytest.mark.parametrize("schema", [Joke, JokeDict])
def test_a_model_that_calls_no_tool_is_an_error_not_none(schema: Any) -> None:
    with pytest.raises(OutputParserException, match=r"json_schema.*Haha") as caught:
        parse(schema, "function_calling", "Haha")
    assert caught.value.llm_output == "Haha"
    bad = completion(None, tool_calls=[called(schema.__name__, '{"setup": ')])
    with pytest.raises(OutputParserException, match="can't be parsed") as caught:
        parse(schema, "function_calling", bad)
    assert caught.value.llm_output == '{"setup": '


@pytest.mark.parametrize("text", ["no json", '{"setup": 3}'])
def test_an_answer_that_does_not_fit_is_an_error(text: str) -> None:
    with pytest.raises(OutputParserException):
        parse(Joke, "json_schema", text)


def streaming(schema: Any, method: Method, reason: str) -> Iterator[Any]:
    """The parts of an answer whose text or arguments arrive in pieces."""
    texts: list[Any] = ['{"setup": ', '"a", ', '"rating": 1}']
    if method == "function_calling":
        first, *rest = texts
        head = {"index": 0, **called(schema.__name__, first)}
        more = [{"index": 0, "function": {"arguments": text}} for text in rest]
        deltas: list[Any] = [{"tool_calls": [call]} for call in (head, *more)]
    else:
        deltas = [{"content": text} for text in texts]
    model = model_of(*map(chunk, deltas), chunk(finish_reason=reason))
    return model.with_structured_output(schema, method=method).stream("Tell")


@pytest.mark.parametrize("method", METHODS)
def test_a_streams_parts_are_given_as_they_come(method: Method) -> None:
    got = list(streaming(JokeDict, method, "stop"))
    assert got[-1] == {"setup": "a", "rating": 1}
    assert {"setup": "a"} in got


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_that_was_cut_off_says_so_at_its_end(method: Method) -> None:
    with pytest.raises(OutputParserException, match="max_tokens"):
        list(streaming(JokeDict, method, "length"))


@pytest.mark.parametrize("method", METHODS)
def test_include_raw_never_raises_for_what_the_model_said(method: Method) -> None:
    whole = parse(Joke, method, answer(Joke, method), include_raw=True)
    assert whole["raw"].text or whole["raw"].tool_calls
    assert whole["parsed"] == Joke(setup="a", rating=1)
    assert whole["parsing_error"] is None
    broken = parse(Joke, method, "no", include_raw=True)
    assert broken["raw"].text == "no"
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
    cuts = data.draw(st.lists(st.integers(1, len(text)), max_size=2))
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    model = model_of(*(chunk({"content": piece}) for piece in pieces), FINISH)
    schema = {"title": "T", "type": "object", "properties": {}}
    parts = model.with_structured_output(schema, method="json_mode").stream("Tell")
    *before, last = parts
    assert all(is_part(part, whole) for part in before)
    assert last == whole


def test_parts_are_not_parsed_character_by_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """langchain-core walks them in Python, which takes most of the time of a stream."""

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError

    # Older versions do without it.
    monkeypatch.setattr("langchain_core.utils.json.accumulate", fail, raising=False)
    pieces = [chunk({"content": '{"setup": "a", "rating": 1'}), chunk({"content": "}"})]
    model = model_of(*pieces, FINISH)
    parts = list(model.with_structured_output(Joke).stream("Tell"))
    assert parts[0] == parts[-1] == Joke(setup="a", rating=1)


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
    found = parse(schema, "prompt", text)
    found = found if isinstance(found, dict) else found.model_dump()
    assert found == {"setup": "a", "rating": 1}
    only_thoughts = thoughts.format(JSON) + "I can't say."
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
        parse(Joke, "prompt", text)


def test_of_several_values_the_one_that_fits_is_the_answer() -> None:
    for text in (
        f'{{"note": 1}} {JSON}',
        f'{JSON} (not {{"setup": "b", "rating": "many"}})',
        f"{JSON}\nAgain: {JSON}",
        f"[] {JSON} [",
    ):
        assert parse(Joke, "prompt", text) == Joke(setup="a", rating=1)


def test_an_error_names_the_fault_of_a_single_value_that_does_not_fit() -> None:
    with pytest.raises(OutputParserException, match="rating"):
        parse(Joke, "prompt", 'It is {"setup": "a", "rating": "many"}.')


def test_prose_has_no_partial_answers() -> None:
    for text, complete in (
        (f"<think>{WRONG}", []),
        (f"Not {WRONG}, but", [WRONG]),
        (f"Hm.</think>{JSON}", [JSON]),
    ):
        parts: list[Any] = []

        def respond(_: Any, text: str = text, parts: Any = parts) -> httpx2.Response:
            def body() -> Iterator[bytes]:
                yield chunk({"content": text})
                assert parts == []  # with the answer still to come
                yield chunk({"content": " "}) + FINISH

            return httpx2.Response(200, content=body())

        model = model_for(respond)
        chain = model.with_structured_output(JokeDict, method="prompt")
        with suppress(OutputParserException):
            for part in chain.stream("Tell"):
                parts.append(part)  # noqa: PERF402  # the body looks at it
        assert parts == [json.loads(each) for each in complete]


TEXT = st.text(alphabet='{}[]":,a1 \n<>think/', max_size=40)


@given(before=TEXT, after=TEXT, value=st.dictionaries(st.text(), st.integers()))
def test_a_value_is_found_whole_or_not_at_all(
    before: str, after: str, value: dict[str, int]
) -> None:
    text = before + json.dumps(value) + after
    try:
        found = parse({"title": "T", "type": "object"}, "prompt", text)
    except OutputParserException:
        return
    try:
        assert found == json.loads(text.strip(), strict=False)
    except ValueError:
        assert isinstance(found, (dict, list))


@pytest.mark.parametrize("fence", ["", "```json\n", "```", " ```json\n"])
def test_a_tag_in_a_value_is_no_thought(fence: str) -> None:
    joke = '{"setup": "<think>", "rating": 1}'
    for end in ("", "\n```"):
        found = parse(Joke, "prompt", f"{fence}{joke}{end if fence else ''}")
        assert found == Joke(setup="<think>", rating=1)


@given(parts=st.lists(st.sampled_from(["<think>", "</think>", "{", "a"]), max_size=12))
def test_thoughts_are_taken_out_whole(parts: list[str]) -> None:
    before = "".join(parts)
    assert parse(Joke, "prompt", f"{before}</think>{JSON}") == Joke(setup="a", rating=1)
    with pytest.raises(OutputParserException):
        parse(Joke, "prompt", f"{before}<think>{JSON}")
    if "<think>" not in parts:
        assert parse(Joke, "prompt", before + JSON) == Joke(setup="a", rating=1)


def test_tools_of_another_form_are_sent_as_they_are() -> None:
    service = Service(completion("{}"))
    tools = [{"type": "another"}]
    structured = chat(service, extra_body={"tools": tools}).with_structured_output(Joke)
    with suppress(OutputParserException):
        structured.invoke("Hi")
    assert service.bodies[0]["tools"] == tools
