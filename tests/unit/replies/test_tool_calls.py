"""Tool calls in every way servers are known to stream them, and which are executable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from tests.unit.answers import DONE, chunk, every_way, invoked, read
from tests.unit.service import Service, chat, completion, stream

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning"
)
# A call as the model means it: ID, name and arguments.
Meant = tuple[str, str, dict[str, Any]]
Fragment = dict[str, Any]
NAMES = ["get_weather", "get_time", "time", "now", "search"]
PARAMETERS = {"type": "object", "properties": {"a": {}}, "required": ["a"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
    for name in NAMES
]


def fragment(
    index: int | None = None,
    call_id: str | None = None,
    name: str | None = None,
    args: Any = None,
) -> Fragment:
    function = {"name": name, "arguments": args}
    return {"index": index, "id": call_id, "function": function}


def cut(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def by_index(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for i, (call_id, name, args) in enumerate(calls):
        yield fragment(i, call_id, name, "")
        for piece in cut(json.dumps(args), size):
            yield fragment(i, None, None, piece)


def interleaved(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for i, (call_id, name, _) in enumerate(calls):
        yield fragment(i, call_id, name, "")
    pieces = [cut(json.dumps(args), size) for _, _, args in calls]
    for turn in range(max(map(len, pieces))):
        for i, of_call in enumerate(pieces):
            if turn < len(of_call):
                yield fragment(i, None, None, of_call[turn])


def always_index_0(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        yield {**each, "index": 0}


def always_index_0_ids_repeated(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        yield {**each, "index": 0, "id": calls[each["index"]][0]}


def without_index(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        yield {**each, "index": None}


def without_index_interleaved(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in interleaved(calls, size):
        yield {**each, "index": None, "id": calls[each["index"]][0]}


def all_on_each(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        call_id, name, _ = calls[each["index"]]
        function = {**each["function"], "name": name}
        yield {"index": each["index"], "id": call_id, "function": function}


def name_later(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        if each["id"]:
            yield {**each, "function": None}
        yield {"index": each["index"], "function": each["function"]}


def new_ids(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for number, each in enumerate(by_index(calls, size)):
        yield {**each, "id": each["id"] or f"other-{number}"}


def new_ids_with_name(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for number, each in enumerate(by_index(calls, size)):
        name = calls[each["index"]][1]
        function = {**each["function"], "name": name}
        yield {**each, "id": each["id"] or f"other-{number}", "function": function}


def new_ids_without_index(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in new_ids(calls, size):
        yield {**each, "index": None}


def index_of_the_tool_first(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        name = each["function"]["name"]
        yield {**each, "index": NAMES.index(name) + 1} if name else each


def index_missing_first(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        yield {**each, "index": None} if each["id"] else each


def one_id(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        yield {**each, "id": each["id"] and "same"}


def one_id_on_each(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        yield {**each, "id": "same"}


def one_id_interleaved(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in interleaved(calls, size):
        yield {**each, "id": each["id"] and "same"}


def one_id_whole(calls: list[Meant], _: int) -> Iterator[Fragment]:
    for i, (_id, name, args) in enumerate(calls):
        yield fragment(i, "same", name, json.dumps(args))


def name_in_pieces(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        name = each["function"]["name"]
        if not name:
            yield each
            continue
        first, *rest = cut(name, 3)
        yield fragment(each["index"], each["id"], first, "")
        for piece in rest:
            yield fragment(each["index"], None, piece, None)


def name_repeated_from_its_beginning(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        name = each["function"]["name"]
        if name:
            yield fragment(each["index"], each["id"], name[:2], "")
        yield each


def with_placeholder(text: str) -> Callable[[list[Meant], int], Iterator[Fragment]]:
    def way(calls: list[Meant], size: int) -> Iterator[Fragment]:
        for each in by_index(calls, size):
            if each["id"]:
                each["function"]["arguments"] = text
            yield each

    return way


def with_two_placeholders(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in with_placeholder("{}")(calls, size):
        yield each
        if each["id"]:
            yield fragment(each["index"], None, None, "{}")


def arguments_repeated(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for i, meant in enumerate(calls):
        yield from ({**each, "index": i} for each in by_index([meant], size))
        yield fragment(i, None, None, json.dumps(meant[2]))


def call_repeated(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for i, meant in enumerate(calls):
        yield from ({**each, "index": i} for each in by_index([meant], size))
        yield fragment(i, meant[0], meant[1], json.dumps(meant[2]))


def parsed(calls: list[Meant], _: int) -> Iterator[Fragment]:
    for i, (call_id, name, args) in enumerate(calls):
        yield fragment(i, call_id, name, args)


def parsed_without_index_and_id(calls: list[Meant], _: int) -> Iterator[Fragment]:
    for _id, name, args in calls:
        yield {"function": {"name": name, "arguments": args}}


def with_tokens_of_harmony(calls: list[Meant], size: int) -> Iterator[Fragment]:
    for each in by_index(calls, size):
        if name := each["function"]["name"]:
            each["function"]["name"] = f"functions.{name}<|channel|>commentary"
        yield each


WAYS = {
    "OpenAI, vLLM": by_index,
    "interleaved (Mistral)": interleaved,
    "index 0 for all (vLLM before 0.6)": always_index_0,
    "index 0 for all, IDs repeated": always_index_0_ids_repeated,
    "no index (Gemini's API)": without_index,
    "no index, interleaved": without_index_interleaved,
    "all on each (LM Studio)": all_on_each,
    "name after the ID (some of vLLM's parsers)": name_later,
    "new IDs (gpt-oss on vLLM, vllm#23522)": new_ids,
    "new IDs, name repeated": new_ids_with_name,
    "new IDs, no index": new_ids_without_index,
    "index of the tool first (sglang#6310)": index_of_the_tool_first,
    "index missing on the first": index_missing_first,
    "one ID for all (llama.cpp#27966)": one_id,
    "one ID for all, on each": one_id_on_each,
    "one ID for all, interleaved": one_id_interleaved,
    "one ID for all, whole": one_id_whole,
    "name in pieces": name_in_pieces,
    "name repeated from its beginning": name_repeated_from_its_beginning,
    "placeholder {}": with_placeholder("{}"),
    "placeholder {}, twice": with_two_placeholders,
    "placeholder null": with_placeholder("null"),
    "placeholder, empty string": with_placeholder('""'),
    "arguments repeated whole": arguments_repeated,
    "call repeated whole": call_repeated,
    "parsed arguments (Ollama)": parsed,
    "parsed arguments, no index or ID": parsed_without_index_and_id,
    "tokens of the format in the name (vllm#32587)": with_tokens_of_harmony,
}
ARGUMENTS = st.dictionaries(
    st.sampled_from(["city", "n", "{"]),
    st.integers() | st.sampled_from(["Oslo", "}{", '"', ""]) | st.lists(st.integers()),
    min_size=1,
    max_size=2,
)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@settings(max_examples=30)
@given(
    calls=st.lists(st.tuples(st.sampled_from(NAMES), ARGUMENTS), min_size=1, max_size=3),
    size=st.integers(min_value=1, max_value=40),
)
def test_the_calls_are_those_that_the_model_meant(
    way: Any, calls: list[tuple[str, dict[str, Any]]], size: int
) -> None:
    meant = [(f"id-{i}", name, args) for i, (name, args) in enumerate(calls)]
    deltas = [chunk({"tool_calls": [each]}) for each in way(meant, size)]
    deltas.append(chunk(finish_reason="tool_calls"))
    for name, message in every_way(deltas, model_kwargs={"tools": TOOLS}).items():
        found = [(call["name"], call["args"]) for call in message.tool_calls]
        assert found == [(tool, args) for _, tool, args in meant], name
        assert message.invalid_tool_calls == [], name
        assert len({call["id"] for call in message.tool_calls}) == len(found), name


def test_a_name_is_shown_as_soon_as_it_is_complete() -> None:
    deltas = [fragment(0, "a", "now", ""), fragment(0, None, None, '{"a": 1}')]
    pieces = [chunk({"tool_calls": [each]}) for each in deltas]
    chunks = read([*pieces, END, DONE], model_kwargs={"tools": TOOLS})
    found = [(c["name"], c["args"]) for each in chunks for c in each.tool_call_chunks]
    assert found == [("now", ""), (None, '{"a": 1}')]


# --- calls that are not executable ------------------------------------------------------

TRUNCATED = "The call was cut off before its arguments were complete."
SCATTERED = "The arguments of this call can't be told from those of other calls."
NOT_OFFERED = (
    "The model was not offered a tool of this name, and the call has no arguments."
)

END = chunk(finish_reason="tool_calls")


def in_every_way(
    *fragments: Fragment, end: bytes = END, tools: Any = TOOLS, **request: Any
) -> Iterator[tuple[list[str], list[tuple[Any, Any, Any]]]]:
    """The names of the executable calls, and the others, by way of reading."""
    deltas = [*(chunk({"tool_calls": [each]}) for each in fragments), end]
    body = {**request, **({"tools": tools} if tools else {})}
    for message in every_way(deltas, extra_body=body).values():
        yield (
            [call["name"] for call in message.tool_calls],
            [
                (c["name"], c["args"] or "", c["error"])
                for c in message.invalid_tool_calls
            ],
        )


def test_a_call_whose_arguments_may_be_anothers_is_not_executable() -> None:
    lost = fragment(0, "b", None, '{"city": "Oslo"}')
    other = fragment(1, "c", None, '{"city": "Rome"}')
    for valid, invalid in in_every_way(fragment(0, "a", "now", ""), lost, other):
        assert valid == ["now"]
        assert [name for name, _, _ in invalid] == [None]
    same = [fragment(0, "a", "now", ""), fragment(1, "a", "time", '{"n": 1}')]
    for valid, invalid in in_every_way(*same):
        assert valid == ["time"]
        assert invalid == [("now", "", SCATTERED)]


def test_a_call_of_an_unknown_tool_without_arguments_is_not_executable() -> None:
    # vLLM 0.32.0, parser llama3_json, streams {"name": "Ann", "age": 3} like that.
    ann = {"index": 0, "id": "a", "function": {"name": "Ann"}}
    good = fragment(1, "b", "now", "{}")
    for valid, invalid in in_every_way(ann, good):
        assert valid == ["now"]
        assert invalid == [("Ann", "", NOT_OFFERED)]
    for valid, _ in in_every_way(ann, tools=None):
        assert valid == ["Ann"]  # the request's tools are unknown


@pytest.mark.parametrize(
    "choice",
    [
        {"stop_reason": "\n\n"},
        {"matched_stop": "\n\n"},
        {"provider_specific_fields": {"stop_reason": "\n\n"}},
    ],
    ids=["vLLM", "SGLang", "LiteLLM"],
)
def test_a_call_that_a_stop_string_ended_is_not_executable(choice: Any) -> None:
    calls = [fragment(0, "a", "now", "{}"), fragment(1, "b", "search", '{"q": "a"}')]
    end = chunk(finish_reason="tool_calls", **choice)
    for valid, invalid in in_every_way(*calls, end=end):
        assert valid == ["now"]
        ((name, args, error),) = invalid
        assert (name, args) == ("search", '{"q": "a"}')
        assert "stop string" in error
        assert "'\\n\\n'" in error


@pytest.mark.parametrize("reason", [None, 128009, "", []])
def test_a_stop_token_ends_no_call(reason: Any) -> None:
    end = chunk(finish_reason="tool_calls", stop_reason=reason)
    for valid, invalid in in_every_way(fragment(0, "a", "now", "{}"), end=end):
        assert (valid, invalid) == (["now"], [])


USAGE = {"prompt_tokens": 9000, "completion_tokens": 120, "total_tokens": 9120}
PLAIN = {"type": "function", "function": {"name": "now", "parameters": {}}}
OPTIONAL = {
    "type": "function",
    "function": {"name": "now", "parameters": {"properties": {"zone": {}}}},
}


@pytest.mark.parametrize(
    ("args", "options", "usage", "is_whole"),
    [
        ('{"n": 1}', {"max_tokens": 120}, USAGE, False),
        ('{"n": 1}', {"max_tokens": 121}, USAGE, True),
        ('{"n": 1}', {"max_tokens": 100, "n": 2}, USAGE, True),
        ('{"n": 1}', {"max_tokens": 60, "n": 2}, USAGE, False),
        ('{"n": 1}', {}, USAGE, True),
        ('{"n": 1}', {"max_tokens": 9}, None, True),
        ("", {"max_tokens": 1000}, None, False),
        ("", {"max_tokens": 1000, "tools": None}, None, False),
        ("", {"max_tokens": 1000, "tools": [OPTIONAL]}, None, False),
        ("", {"max_tokens": 1000, "tools": [PLAIN]}, None, True),
        ("", {"max_tokens": 1000}, USAGE, True),
        ("", {}, None, True),
    ],
)
def test_only_the_requests_own_limit_cuts_a_call(
    args: str, options: Any, usage: Any, is_whole: bool
) -> None:
    end = chunk(finish_reason="tool_calls")
    if usage:
        end += b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    for valid, invalid in in_every_way(fragment(0, "a", "now", args), end=end, **options):
        assert valid == (["now"] if is_whole else [])
        assert [error for *_, error in invalid] == ([] if is_whole else [TRUNCATED])


def test_a_repeated_id_is_made_unique_and_always_in_the_same_way() -> None:
    calls = [fragment(i, "x", "now", "{}") for i in range(3)]
    body = {"id": "c-1", "choices": [{"message": {"tool_calls": calls}}]}
    ids = [call["id"] for call in invoked(body).tool_calls]
    assert ids[0] == "x"
    assert len(set(ids)) == 3
    assert all(str(each)[-9:].isalnum() for each in ids[1:])
    assert ids == [call["id"] for call in invoked(body).tool_calls]


@pytest.mark.parametrize("kind", ["tool_calls", "invalid_tool_calls"])
def test_ids_of_calls_without_a_result_are_not_used_again(kind: str) -> None:
    earlier: dict[str, Any] = {"name": "f", "args": {}, "id": "call_1"}
    if kind == "invalid_tool_calls":
        earlier |= {"args": "{", "error": None}
    call = {"id": "call_1", "function": {"name": "f", "arguments": "{}"}}
    service = Service(completion(None, tool_calls=[call]))
    asked: Any = {kind: [earlier]}
    history = [HumanMessage("a"), AIMessage("", **asked), HumanMessage("b")]
    message = chat(service).invoke(history)
    assert message.tool_calls[0]["id"] != "call_1"


@pytest.mark.parametrize(
    "pieces",
    [
        [fragment(0, "a", "get"), fragment(0, None, "_weather")],
        [fragment(0, "a", "get"), fragment(0, None, "get_weather")],
        [fragment(None, "a", "get_"), fragment(None, None, "weather")],
        [fragment(0, "a", "get_"), fragment(0, "b", "weather")],
    ],
    ids=["another tool's name", "repeated", "without an index", "with new IDs"],
)
def test_a_name_in_pieces_is_one_name(pieces: list[Fragment]) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("get", *NAMES)]
    pieces = [*pieces, fragment(pieces[0]["index"], None, None, "{}")]
    service = Service(stream(*({"tool_calls": [each]} for each in pieces)))
    message = chat(service, streaming=True).bind_tools(tools).invoke("Hi")
    assert [call["name"] for call in message.tool_calls] == ["get_weather"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (fragment(0, "a", "get"), fragment(0, "b", "get_weather")),
        (fragment(0, "a", "time"), fragment(0, None, "now")),
        (fragment(0, "a", "time"), fragment(0, None, "unknown")),
        (fragment(0, "a", "unknown"), fragment(0, None, "now")),
        (fragment(0, "a", "unknown"), fragment(0, "b", "other")),
        (fragment(None, None, "unknown"), fragment(None, None, "other")),
    ],
)
def test_a_name_that_continues_no_other_begins_a_call(
    first: Fragment, second: Fragment
) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("get", *NAMES)]
    service = Service(stream({"tool_calls": [first]}, {"tool_calls": [second]}))
    message = chat(service, streaming=True).bind_tools(tools).invoke("Hi")
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    expected = [each["function"]["name"] for each in (first, second)]
    assert sorted(str(call["name"]) for call in calls) == sorted(expected)
