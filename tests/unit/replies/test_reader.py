from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage

from langchain_nscale.errors import (
    NscaleContextOverflowError,
    NscaleError,
    NscaleInsufficientCreditError,
    NscaleInterruptedStreamError,
    NscaleMalformedResponseError,
    NscaleStreamError,
)
from tests.unit.answers import (
    DONE,
    EVENTS,
    FINISH,
    assembled,
    chunk,
    comparable,
    event,
    failure,
    invoked,
    merge,
    model_of,
    read,
    streamed,
)
from tests.unit.replies.test_sse import cut
from tests.unit.service import Service, chat

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning"
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAME = st.text("abcdefgh_", min_size=1, max_size=10)
JSON_OBJECT = st.dictionaries(TEXT, st.integers() | TEXT | st.booleans(), max_size=3)
ARGUMENTS = JSON_OBJECT.map(json.dumps) | st.sampled_from(
    ["", "null", '{"a": 1', '{"a": "x', "[1, 2]", "{'a': 1}", '{"a": 1}}']
)
CALLS = st.lists(st.tuples(NAME, ARGUMENTS), max_size=3)
COUNT = st.integers(min_value=0, max_value=10**6)
DETAILS = st.none() | st.fixed_dictionaries(
    {}, optional={"cached_tokens": COUNT | st.none(), "reasoning_tokens": COUNT}
)
USAGE = st.none() | st.fixed_dictionaries(
    {"prompt_tokens": COUNT, "completion_tokens": COUNT},
    optional={
        "total_tokens": COUNT,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "cost": st.floats(min_value=0, max_value=1),
    },
)
REASON = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
UNKNOWN = st.dictionaries(
    st.sampled_from(["created", "system_fingerprint", "service_tier", "x_new"]),
    st.integers() | TEXT | st.none(),
)


def pieces(text: str, places: list[int]) -> list[str]:
    marks = sorted({place % (len(text) + 1) for place in places})
    return [
        text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True) if b > a
    ]


def without_invalid(blocks: Sequence[Any]) -> list[Any]:
    """Blocks without the calls that a stream can only mark as invalid."""
    kinds = ("invalid_tool_call", "tool_call_chunk")
    return [block for block in blocks if block["type"] not in kinds]


def ordered(blocks: Sequence[Any]) -> list[str]:
    return sorted(json.dumps(block, sort_keys=True) for block in blocks)


@given(
    text=TEXT,
    reasoning=TEXT,
    reasoning_field=st.sampled_from(["reasoning", "reasoning_content"]),
    refusal=st.just("") | TEXT,
    calls=CALLS,
    usage=USAGE,
    running_usage=st.booleans(),
    reason=REASON,
    unknown=UNKNOWN,
    places=st.lists(st.integers(min_value=0), max_size=6),
    byte_places=st.lists(st.integers(min_value=0), max_size=12),
)
def test_a_streamed_reply_equals_the_invoked_one(  # a reply has many parts
    text: str,
    reasoning: str,
    reasoning_field: str,
    refusal: str,
    calls: list[tuple[str, str]],
    usage: dict[str, Any] | None,
    running_usage: bool,
    reason: str,
    unknown: dict[str, Any],
    places: list[int],
    byte_places: list[int],
) -> None:
    head = {"id": "chatcmpl-1", "model": "m", **unknown}
    whole_calls = [
        {"id": f"call-{i}", "type": "function", "function": {"name": n, "arguments": a}}
        for i, (n, a) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text or None, "tool_calls": whole_calls}
    message |= {reasoning_field: reasoning, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    one = invoked({**head, "choices": [choice], "usage": usage})

    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{reasoning_field: piece} for piece in pieces(reasoning, places)]
    deltas += [{"content": piece} for piece in pieces(text, places)]
    deltas += [{"refusal": piece} for piece in pieces(refusal, places)]
    for i, call in enumerate(whole_calls):
        function: Any = call["function"]
        deltas.append(
            {
                "tool_calls": [
                    {**call, "index": i, "function": {**function, "arguments": ""}}
                ]
            }
        )
        for piece in pieces(function["arguments"], places):
            deltas.append(
                {"tool_calls": [{"index": i, "function": {"arguments": piece}}]}
            )
    chunks = [{**head, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append(
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    )
    if running_usage:
        chunks = [{**c, "usage": usage} for c in chunks]
    else:
        chunks.append({**head, "choices": [], "usage": usage})
    data = b"".join(event(c) for c in chunks) + DONE
    other = merge(read(cut(data, byte_places)))

    assert comparable(other) == comparable(one)
    assert without_invalid(other.content_blocks) == without_invalid(one.content_blocks)

    in_blocks = merge(read(cut(data, byte_places), output_version="v1"))
    assert isinstance(in_blocks.content, list)
    without_index = [
        {key: value for key, value in block.items() if key != "index"}
        for block in in_blocks.content_blocks
    ]
    # A whole message keeps the calls in two lists, so that their order among all is gone.
    assert ordered(without_invalid(without_index)) == ordered(
        without_invalid(one.content_blocks)
    )
    assert comparable(in_blocks)["tool_calls"] == comparable(one)["tool_calls"]

    by_events = assembled(cut(data, byte_places))
    metadata = {**by_events.response_metadata}
    assert metadata.pop("output_version") == "v1"
    assert metadata == one.response_metadata
    for field in ("text", "additional_kwargs", "tool_calls", "usage_metadata"):
        assert getattr(by_events, field) == getattr(one, field), field
    invalid = [(call["id"], call["args"] or "") for call in by_events.invalid_tool_calls]
    assert invalid == [(call["id"], call["args"]) for call in one.invalid_tool_calls]
    blocks = [block["type"] for block in by_events.content_blocks]
    assert ("reasoning" in blocks) == bool(reasoning)


# --- single fields -------------------------------------------------------------------


def test_the_guides_first_example_has_neither_id_model_nor_finish_reason() -> None:
    message = invoked({"choices": [{"message": {"content": "Hi"}}], "usage": None})
    assert message.content == "Hi"
    assert message.usage_metadata is None
    assert message.response_metadata == {"model_name": "m", "model_provider": "nscale"}


def test_metadata_says_which_model_answered_and_how_it_ended() -> None:
    message = streamed(
        chunk({"content": "a"}),
        chunk({}, finish_reason="stop", stop_reason="###"),
        event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        DONE,
    )
    assert str(message.id).startswith("lc_run-")  # servers repeat theirs
    assert message.response_metadata == {
        "id": "c-1",
        "model_name": "m",
        "model_provider": "nscale",
        "finish_reason": "stop",
        "stop_reason": "###",
        "token_usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }


def test_each_scalar_is_on_one_chunk_though_the_server_repeats_it() -> None:
    chunks = read([chunk({"content": "a"}, finish_reason="stop"), FINISH, FINISH, DONE])
    assert [c.response_metadata.get("finish_reason") for c in chunks] == [None, "stop"]
    assert merge(chunks).response_metadata["finish_reason"] == "stop"
    assert [c.chunk_position for c in chunks] == [None, "last"]


def test_running_usage_counts_once_and_the_last_report_wins() -> None:
    usage = [{"prompt_tokens": 10, "completion_tokens": i} for i in range(1, 5)]
    chunks = read(
        [
            *[
                event({"choices": [{"delta": {"content": "a"}}], "usage": u})
                for u in usage
            ],
            FINISH,
            DONE,
        ]
    )
    assert [bool(c.usage_metadata) for c in chunks] == [False] * 4 + [True]
    assert merge(chunks).usage_metadata == {
        "input_tokens": 10,
        "output_tokens": 4,
        "total_tokens": 14,
        "input_token_details": {},
        "output_token_details": {},
    }


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ("many", None),
        ({}, None),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": float("nan"), "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        *[
            (
                usage,
                {
                    "input_tokens": 9,
                    "output_tokens": 5,
                    "total_tokens": 14,
                    "input_token_details": {},
                    "output_token_details": {},
                },
            )
            for usage in (
                {"input_tokens": 9, "output_tokens": 5},
                {"prompt_tokens": "9", "completion_tokens": "5"},
                {"prompt_tokens": 9, "total_tokens": 14},
                {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 3},
            )
        ],
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": None},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            {
                "input_tokens": 9,
                "output_tokens": 5,
                "total_tokens": 14,
                "input_token_details": {"cache_read": 4},
                "output_token_details": {"reasoning": 3},
            },
        ),
        (
            {"prompt_tokens": 1.0, "completion_tokens": "x", "total_tokens": 1},
            {
                "input_tokens": 1,
                "output_tokens": 0,
                "total_tokens": 1,
                "input_token_details": {},
                "output_token_details": {},
            },
        ),
    ],
)
def test_usage_in_langchains_form(usage: Any, expected: Any) -> None:
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    assert invoked({"choices": [choice], "usage": usage}).usage_metadata == expected


def test_unknown_fields_are_kept() -> None:
    message = invoked(
        {
            "service_tier": "x",
            "choices": [
                {
                    "message": {"content": "a", "annotations": [{"b": 1}], "mood": None},
                    "matched_stop": 7,
                }
            ],
        }
    )
    assert message.response_metadata["service_tier"] == "x"
    assert message.response_metadata["annotations"] == [{"b": 1}]
    assert message.response_metadata["matched_stop"] == 7
    assert "mood" not in message.response_metadata


def test_unknown_fields_of_a_stream_are_joined() -> None:
    message = streamed(
        chunk({"content": "a", "notes": "x", "list": [1], "n": 1}),
        chunk({"notes": "y", "list": [2], "n": 2}),
        FINISH,
    )
    assert message.response_metadata["notes"] == "xy"
    assert message.response_metadata["list"] == [1, 2]
    assert message.response_metadata["n"] == 2


def test_both_reasoning_fields_at_once_count_once() -> None:
    both = {"reasoning": "because", "reasoning_content": "because", "content": "a"}
    for message in (
        streamed(chunk(both), FINISH),
        invoked({"choices": [{"message": both}]}),
    ):
        assert message.content_blocks == [
            {"type": "reasoning", "reasoning": "because"},
            {"type": "text", "text": "a"},
        ]


def test_log_probabilities_are_joined() -> None:
    tokens: list[Any] = [
        {"token": t, "logprob": -1.0, "top_logprobs": []} for t in ("a", "b")
    ]
    whole = {"message": {"content": "ab"}, "logprobs": {"content": tokens}}
    message = streamed(
        *[
            chunk({"content": t["token"]}, logprobs={"content": [t], "refusal": None})
            for t in tokens
        ],
        chunk({}, logprobs={"content": []}),
        chunk({}, logprobs={"content": [tokens[0]]}),
        FINISH,
    )
    expected = {"content": [*tokens, tokens[0]]}
    assert message.response_metadata["logprobs"] == expected
    one = invoked({"choices": [whole]})
    assert one.response_metadata["logprobs"] == {"content": tokens}


def test_content_in_parts_as_some_models_write_it() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hi"},
        {"type": "text", "text": "!"},
    ]
    message = invoked({"choices": [{"message": {"content": content}}]})
    assert message.content == "Hi!"
    assert message.additional_kwargs == {"reasoning_content": "hm"}


def test_every_choice_has_its_message_and_usage_counts_once() -> None:
    choices = [{"message": {"content": t}, "finish_reason": "stop"} for t in "ab"]
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    body = {"id": "c", "choices": choices, "usage": usage}
    model = model_of(json.dumps(body).encode(), kind="application/json", n=2)
    ends: list[Any] = []

    class Handler(BaseCallbackHandler):
        def on_llm_end(self, response: Any, **_: Any) -> None:
            ends.append(response)

    model.invoke("Hi", {"callbacks": [Handler()]})
    (result,) = ends
    messages = [generation.message for generation in result.generations[0]]
    assert [message.content for message in messages] == ["a", "b"]
    assert all(isinstance(message, AIMessage) for message in messages)
    usages = [message.usage_metadata for message in messages]
    assert usages[0]["total_tokens"] == 5
    assert usages[1] is None
    assert result.llm_output == {
        "id": "c",
        "model_name": "m",
        "model_provider": "nscale",
        "token_usage": usage,
    }


@pytest.mark.usefixtures("at_once")
def test_the_way_it_came_is_in_the_metadata() -> None:
    body = {"choices": [{"message": {"content": "a"}}]}
    failed = httpx2.Response(503, headers={"retry-after-ms": "0"})
    good = httpx2.Response(200, json=body, headers={"inference-id": "inf-1"})
    service = Service(failed, failed, good)
    message = chat(service, include_response_headers=True).invoke("Hi")
    assert message.response_metadata["request_id"] == "inf-1"
    assert message.response_metadata["retries"] == 2
    assert message.response_metadata["headers"]["inference-id"] == "inf-1"


# --- tool calls ----------------------------------------------------------------------


def fragment(index: int | None = None, **fields: Any) -> bytes:
    function = {k: v for k, v in fields.items() if k in ("name", "arguments")}
    call: dict[str, Any] = {"function": function}
    if index is not None:
        call["index"] = index
    if "id" in fields:
        call["id"] = fields["id"]
    return chunk({"tool_calls": [call]})


A, B = {"a": 1}, {"b": 2}

FRAGMENTS = {
    "as OpenAI sends them": [
        fragment(0, id="x", name="f", arguments=""),
        fragment(0, arguments='{"a"'),
        fragment(0, arguments=": 1}"),
        fragment(1, id="y", name="g", arguments=""),
        fragment(1, arguments='{"b": 2}'),
    ],
    "interleaved": [
        fragment(0, id="x", name="f", arguments=""),
        fragment(1, id="y", name="g", arguments='{"b"'),
        fragment(0, arguments='{"a": 1'),
        fragment(1, arguments=": 2}"),
        fragment(0, arguments="}"),
    ],
    "two calls with the same index": [
        fragment(0, id="x", name="f", arguments='{"a": 1}'),
        fragment(0, id="y", name="g", arguments='{"b": '),
        fragment(0, arguments="2}"),
    ],
    "no index, ids first only": [
        fragment(id="x", name="f", arguments='{"a": '),
        fragment(arguments="1}"),
        fragment(id="y", name="g", arguments='{"b": '),
        fragment(arguments="2}"),
    ],
    "no index, ids repeated, interleaved": [
        fragment(id="x", name="f", arguments='{"a": '),
        fragment(id="y", name="g", arguments='{"b": '),
        fragment(id="x", name="f", arguments="1}"),
        fragment(id="y", name="g", arguments="2}"),
    ],
    "id and name on every chunk": [
        fragment(0, id="x", name="f", arguments='{"a": '),
        fragment(0, id="x", name="f", arguments="1}"),
        fragment(1, id="y", name="g", arguments='{"b": 2}'),
        fragment(1, id="y", name="g", arguments=""),
    ],
    "name in a later chunk": [
        fragment(0, id="x", arguments=""),
        fragment(0, name="f", arguments='{"a": 1}'),
        fragment(1, id="y", arguments=""),
        fragment(1, name="g", arguments='{"b": 2}'),
    ],
    "arguments already parsed": [
        fragment(0, id="x", name="f", arguments=A),
        fragment(1, id="y", name="g", arguments=B),
    ],
}


@pytest.mark.parametrize("fragments", FRAGMENTS.values(), ids=FRAGMENTS.keys())
def test_calls_are_told_apart(fragments: list[bytes]) -> None:
    message = streamed(*fragments, FINISH)
    assert [(c["id"], c["name"], c["args"]) for c in message.tool_calls] == [
        ("x", "f", A),
        ("y", "g", B),
    ]
    assert message.invalid_tool_calls == []


@pytest.mark.parametrize("absent", [{}, {"id": None}, {"id": ""}, {"id": "null"}])
def test_calls_without_id_get_one_that_is_the_same_in_every_chunk(
    absent: dict[str, Any],
) -> None:
    pieces = [
        fragment(0, name="f", arguments='{"a": ', **absent),
        fragment(0, arguments="1}", **absent),
        fragment(1, name="f", arguments='{"a": 1}', **absent),
    ]
    message = streamed(*pieces, FINISH)
    function = {"name": "f", "arguments": '{"a": 1}'}
    calls = [{"function": function, **absent}] * 2
    one = invoked({"id": "c-1", "choices": [{"message": {"tool_calls": calls}}]})
    ids = [call["id"] for call in message.tool_calls]
    assert len(set(ids)) == 2
    # vLLM passes on the last nine characters to Mistral models: letters and digits.
    assert all(str(call_id)[-9:].isalnum() for call_id in ids)
    assert one.tool_calls == message.tool_calls


def test_calls_without_index_or_id_are_told_apart_by_name_and_completeness() -> None:
    message = streamed(
        fragment(name="f", arguments='{"a": 1}'),
        fragment(name="f", arguments='{"a": '),
        fragment(name="f", arguments="1}"),
        fragment(name="g", arguments='{"b": 2}'),
        FINISH,
    )
    calls = [(c["name"], c["args"]) for c in message.tool_calls]
    assert calls == [("f", A), ("f", A), ("g", B)]


def test_without_a_completion_id_made_up_ids_are_still_unique() -> None:
    body = {"choices": [{"message": {"tool_calls": [{"function": {"name": "f"}}]}}]}
    ids = {invoked(body).tool_calls[0]["id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize("calls", [None, []])
def test_no_tool_calls_however_it_is_written(calls: Any) -> None:
    message = invoked({"choices": [{"message": {"content": "a", "tool_calls": calls}}]})
    assert message.tool_calls == []


# --- bad replies ----------------------------------------------------------------------

BAD_COMPLETIONS = [
    {},
    [],
    "text",
    3,
    {"choices": None},
    {"choices": []},
    {"choices": {}},
    {"choices": [None]},
    {"choices": [{"message": "text"}]},
    {"choices": [{"message": {"content": 3}}]},
    {"choices": [{"message": {"content": [{"type": "text", "text": 3}]}}]},
    {"choices": [{"message": {"reasoning_content": 3}}]},
    {"choices": [{"message": {"refusal": {"a": 1}}}]},
    {"choices": [{"message": {"tool_calls": {"a": 1}}}]},
    {"choices": [{"message": {"tool_calls": ["f"]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": None}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": {"name": 3}}]}}]},
]


@pytest.mark.parametrize("completion", BAD_COMPLETIONS)
def test_a_body_that_is_no_completion_is_a_typed_error_with_the_body(
    completion: Any,
) -> None:
    with pytest.raises(NscaleMalformedResponseError) as caught:
        invoked(completion)
    assert caught.value.body == completion
    assert "base_url" in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b'{"choices": [', b"\xff\xfe", b"null"]
)
def test_a_body_that_is_no_json_object(body: bytes) -> None:
    with pytest.raises(NscaleMalformedResponseError) as caught:
        invoked(body, kind="text/html")
    assert caught.value.status_code == 200


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {not json}\n\n",
        b"data: \xff\xfe\n\n",
        b"data: [1]\n\n",
        event({"choices": [{"delta": {"content": 3}}]}),
        event({"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}}]}),
    ],
)
def test_a_bad_event_comes_after_all_that_was_good(bad: bytes) -> None:
    seen, error = failure(chunk({"content": "good"}) + bad)
    assert type(error) is NscaleMalformedResponseError
    assert seen == ["good"]
    assert error.partial is not None
    assert error.partial.content == "good"


def test_events_that_say_nothing_are_passed_over() -> None:
    usage = event({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    empty = event({"choices": [], "usage": None})
    message = streamed(b"data:\n\n", empty, chunk({"content": "a"}), FINISH, usage, DONE)
    assert message.content == "a"
    assert message.usage_metadata is not None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "boom", "code": 500}, NscaleError),
        ({"message": "boom"}, NscaleStreamError),
        ("boom", NscaleStreamError),
        (
            {"message": "none", "error_type": "INSUFFICIENT_CREDIT"},
            NscaleInsufficientCreditError,
        ),
        (
            {"message": "This model's maximum context length is 10 tokens"},
            NscaleContextOverflowError,
        ),
    ],
)
def test_an_error_inside_a_stream_is_typed_and_has_what_came_before(
    error: Any, kind: type[NscaleError]
) -> None:
    _, raised = failure(chunk({"content": "half"}), event({"error": error}))
    assert isinstance(raised, kind)
    assert raised.partial is not None
    assert raised.partial.content == "half"
    assert raised.body == {"error": error}


def test_an_error_object_with_status_200_is_an_error() -> None:
    with pytest.raises(NscaleStreamError, match="boom"):
        invoked({"error": {"message": "boom"}})


# --- ends ----------------------------------------------------------------------------


def test_a_stream_without_any_end_is_never_whole() -> None:
    _, error = failure(chunk({"content": "half"}))
    assert type(error) is NscaleInterruptedStreamError
    assert "finish reason" in str(error)
    assert error.partial is not None
    assert error.partial.content == "half"


def test_an_empty_stream_is_interrupted_and_has_nothing() -> None:
    _, error = failure()
    assert type(error) is NscaleInterruptedStreamError
    assert error.partial is None


def test_cut_off_calls_in_what_had_come_are_not_for_execution() -> None:
    cut_off = fragment(0, id="x", name="f", arguments='{"path": "/')
    _, error = failure(cut_off, fault=httpx2.ReadError("reset"))
    assert type(error) is NscaleInterruptedStreamError
    assert error.partial is not None
    assert error.partial.tool_calls == []
    assert error.partial.invalid_tool_calls[0]["name"] == "f"


def test_a_finished_answer_needs_no_done() -> None:
    chunks = read([chunk({"content": "a"}), FINISH])
    assert chunks[-1].chunk_position == "last"


def test_nothing_after_done_is_read() -> None:
    late = chunk({"content": "late"}) + b": ping\n\n"
    (last,) = read([FINISH + DONE, late], fault=httpx2.ReadError("reset"))
    assert last.chunk_position == "last"


# --- the other form than asked for ------------------------------------------------------


def test_a_stream_in_place_of_a_whole_reply() -> None:
    data = chunk({"content": "a"}) + chunk({"content": "b"}) + FINISH + DONE
    assert comparable(invoked(data, kind=EVENTS)) == comparable(streamed(data))


def test_a_whole_reply_in_place_of_a_stream() -> None:
    function = {"name": "f", "arguments": '{"a": 1'}
    message = {"content": "a", "tool_calls": [{"id": "x", "function": function}]}
    body = {"id": "c", "choices": [{"message": message, "finish_reason": "length"}]}
    whole = invoked(body)
    assert whole.invalid_tool_calls[0]["args"] == '{"a": 1'
    assert comparable(streamed(json.dumps(body).encode())) == comparable(whole)


def test_a_whole_reply_without_content_begins_once() -> None:
    body = {"id": "c", "choices": [{"message": {"content": None}}]}
    model = model_of(json.dumps(body).encode())
    found = list(model.stream_events("Hi", version="v3"))
    assert [event["event"] for event in found] == ["message-start", "message-finish"]


@given(
    data=st.binary(max_size=300)
    | st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "choices",
                            "delta",
                            "message",
                            "content",
                            "tool_calls",
                            "function",
                            "name",
                            "arguments",
                            "index",
                            "id",
                            "usage",
                            "error",
                            "finish_reason",
                            "logprobs",
                            "reasoning",
                            "type",
                            "text",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
        max_size=3,
    ).map(lambda values: b"".join(event(value) for value in values)),
)
def test_nothing_but_our_own_errors_ever_comes_out(data: bytes) -> None:
    with suppress(NscaleError):
        read([data])
    with suppress(NscaleError):
        invoked(data.removeprefix(b"data: ").removesuffix(b"\n\n"))
