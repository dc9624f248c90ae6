"""What a model reads: every conversation arrives whole, whatever its template."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re
import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.messages.tool import invalid_tool_call
from langchain_core.prompts import ChatPromptTemplate

from langchain_nscale import ChatNscale, TemplateRules
from langchain_nscale.templates import FAMILIES, STRICT
from tests.prompts import TEMPLATES, TemplateError

# What stands in for messages that a template insists on.
BEGIN = "[The assistant speaks first.]"
CONTINUE = "[Continue.]"
NO_ANSWER = "[No answer.]"
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at the M-tool",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
MIXTRAL = "mistralai/mixtral-8x22b-instruct-v0.1"
R1 = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
MODELS = pytest.mark.parametrize("model", TEMPLATES)


def body_of(
    model: str,
    messages: list[BaseMessage],
    tools: Any = (),
    rules: Any = None,
    **call: Any,
) -> list[dict[str, Any]]:
    asked = ChatNscale(model=model, service_token="t", template_rules=rules)
    if tools:
        call["tools"] = list(tools)
    body = asked.request_body(messages, **call)
    sent: list[dict[str, Any]] = json.loads(json.dumps(body["messages"]))
    return sent


def as_messages(sent: list[dict[str, Any]]) -> list[BaseMessage]:
    """Messages in the API's form as LangChain's, which are sent as they are."""
    return [
        ChatMessage(**message)
        if message["role"] == "critic"
        else convert_to_messages([message])[0]
        for message in sent
    ]


def call(call_id: str, at: str) -> dict[str, Any]:
    return {"name": "look", "args": {"at": at}, "id": call_id, "type": "tool_call"}


IDS = st.sampled_from(
    # pragma: allowlist nextline secret
    ["abcdefghi", "ABC123def", "call_0", "call_1", "", "chatcmpl-tool-0123456789abcdef"]
)
KINDS = (
    *("system", "user", "assistant", "empty", "critic", "calls", "result"),
    *("invalid", "images", "claude", "removed", "copy"),
)
PIXEL: dict[Any, Any] = {
    "type": "image_url",
    "image_url": {"url": "https://example.com/cat.png"},
}


def turn(draw: st.DrawFn, kind: str, number: int) -> list[BaseMessage]:
    """Messages of one kind, with texts that have their number."""
    text = f"M-{number}."
    ids = draw(st.lists(IDS, min_size=1, max_size=3))
    places = [f"M-{number}-{k}." for k in range(len(ids))]
    answers: list[BaseMessage] = [
        ToolMessage(f"M-{number}-seen-{k}.", tool_call_id=call_id)
        for k, call_id in enumerate(ids)
        if draw(st.booleans())
    ]
    if kind == "calls":
        calls = [call(i, at) for i, at in zip(ids, places, strict=True)]
        beside = draw(st.sampled_from([text, ""]))
        return [AIMessage(beside, tool_calls=calls), *answers]
    if kind == "invalid":
        pairs = zip(ids, places, strict=True)
        bad = [invalid_tool_call(id=i, name="look", args=at) for i, at in pairs]
        return [AIMessage(text, invalid_tool_calls=bad), *answers]
    if kind == "claude":
        content: list[Any] = [{"type": "text", "text": text}]
        block = {"type": "tool_use", "id": "toolu", "input": {"at": places[0]}}
        content.append({**block, "name": "look"})
        return [AIMessage(content), ToolMessage(places[0], tool_call_id="toolu")]
    if kind == "images":
        return [ToolMessage([text, PIXEL], tool_call_id=ids[0])]
    plain: dict[str, BaseMessage] = {
        "system": SystemMessage(text),
        "user": HumanMessage(text),
        "assistant": AIMessage(text),
        "empty": AIMessage(""),
        "critic": ChatMessage(role="critic", content=text),
        "result": ToolMessage(text, tool_call_id=ids[0]),
    }
    return [plain[kind]]


@st.composite
def histories(draw: st.DrawFn) -> list[BaseMessage]:
    """Any roles, any calls, results removed, out of place or repeated."""
    messages: list[BaseMessage] = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), max_size=8))):
        if kind == "copy" and messages:
            messages.append(draw(st.sampled_from(messages)))
        elif kind == "removed" and messages:
            messages.pop()
        elif kind not in ("copy", "removed"):
            messages += turn(draw, kind, number)
    return messages or [HumanMessage("M-only.")]


def marks(value: Any) -> Counter[str]:
    return Counter(re.findall(r"M-[\w-]+\.", str(value)))


def offered(model: str, has_tools: bool) -> list[Any]:
    return [TOOL] if has_tools and TemplateRules.for_model(model).tools else []


@MODELS
@settings(max_examples=40)
@given(messages=histories(), has_tools=st.booleans())
def test_everything_arrives(
    model: str, messages: list[BaseMessage], has_tools: bool
) -> None:
    before = copy.deepcopy(messages)
    tools = offered(model, has_tools)
    sent = body_of(model, messages, tools)
    plain = body_of(model, messages, tools, "as_is")
    for template in TEMPLATES[model]:
        prompt = template(sent, tools)
        assert marks(plain) <= marks(prompt), template.__name__
        assert not tools or "M-tool" in prompt
    assert marks(plain) == marks(sent)
    assert set(marks(sent)) >= {mark for m in before for mark in marks(m.text)}
    assert messages == before


@given(
    messages=histories(),
    rules=st.sampled_from([STRICT, replace(STRICT, tools=False)])
    | st.builds(
        TemplateRules,
        system=st.sampled_from(["anywhere", "joined", "one", "first", "user"]),
        tools=st.booleans(),
        parallel_calls=st.booleans(),
        text_beside_calls=st.booleans(),
        alternating=st.booleans(),
        user=st.sampled_from(["optional", "required", "first", "first_with_tools"]),
        assistant_last=st.booleans(),
        empty_assistant=st.booleans(),
        other_roles=st.booleans(),
        call_ids=st.sampled_from(["any", "nine"]),
    ),
    has_tools=st.booleans(),
)
def test_any_rules(
    messages: list[BaseMessage], rules: TemplateRules, has_tools: bool
) -> None:
    offer = {"tools": [TOOL], "tool_choice": "none"} if has_tools else {}
    before = copy.deepcopy(messages)
    sent = body_of("m", messages, rules=rules, **offer)
    assert messages == before
    assert marks(sent) == marks(body_of("m", messages, rules="as_is"))
    assert body_of("m", as_messages(sent), rules=rules, **offer) == sent


def opening(messages: list[dict[str, Any]]) -> str:
    """The JSON up to the end of the last text."""
    return json.dumps(messages).rstrip('"}] ')


@MODELS
@settings(max_examples=40)
@given(messages=histories(), has_tools=st.booleans(), data=st.data())
def test_a_longer_conversation_begins_with_the_shorter_one(
    model: str, messages: list[BaseMessage], has_tools: bool, data: st.DataObject
) -> None:
    """Except where the page says so: no user yet, or the assistant's message is last."""
    tools = offered(model, has_tools)
    size = data.draw(st.integers(1, len(messages)))
    shorter = messages[:size]
    if not isinstance(shorter[-1], (HumanMessage, ToolMessage)) or not any(
        isinstance(message, HumanMessage) for message in shorter
    ):
        return
    results = {m.tool_call_id for m in messages[size:] if isinstance(m, ToolMessage)}
    if results:  # of calls that had none, or of none
        return
    first, second = body_of(model, shorter, tools), body_of(model, messages, tools)
    assert json.dumps(second).startswith(opening(first))


@MODELS
@settings(max_examples=40)
@given(messages=histories(), has_tools=st.booleans())
def test_only_what_a_template_rejects_or_loses_is_changed(
    model: str, messages: list[BaseMessage], has_tools: bool
) -> None:
    rules = TemplateRules.for_model(model)
    tools = offered(model, has_tools)
    plain = body_of(model, messages, tools, "as_is")
    if body_of(model, messages, tools) == plain:
        return
    with_tools = offered(model, has_tools=True)
    if rules.system == "user":
        # Mistral Nemo only loses it in the steps to come, after the results of tools.
        rest = [m for m in plain if m["role"] != "system"]
        if not rest or body_of(model, as_messages(rest), tools) == rest:
            return
    # The steps before and after count too, since their requests have to begin alike.
    assert any(
        is_lossy(template, plain[:size], offers)
        for template in TEMPLATES[model]
        for offers in (tools, with_tools)
        for size in range(1, len(plain) + 1)
    )


def is_lossy(template: Any, messages: Any, tools: Any) -> bool:
    for more in (
        [],
        [{"role": "assistant", "content": "a"}, {"role": "user", "content": "u"}],
    ):
        try:
            prompt = template([*messages, *more], tools)
        except TemplateError:
            return True
        if not marks(messages) <= marks(prompt):
            return True
    return False


# --- one example of each rule -----------------------------------------------------------

PARALLEL = [
    SystemMessage("s"),
    HumanMessage("u"),
    AIMessage("a", tool_calls=[call("call_0", "x"), call("call_1", "y")]),
    ToolMessage("t", tool_call_id="call_0"),
    ToolMessage("v", tool_call_id="call_1"),
    AIMessage("b"),
    HumanMessage("w"),
]


def lines(messages: list[dict[str, Any]]) -> list[str]:
    """Each message in short: its role, its text, and where its calls look."""
    return [
        " ".join(
            [
                message["role"][0],
                *([repr(message["content"])] if message["content"] else []),
                *(json.loads(c["function"]["arguments"])["at"] for c in calls),
            ]
        )
        for message in messages
        for calls in [message.get("tool_calls") or []]
    ]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen3-8B", ["s 's'", "u 'u'", "a 'a' x y", "t 't'", "t 'v'"]),
        ("unknown/model", ["s 's'", "u 'u'", "a 'a' x y", "t 't'", "t 'v'"]),
        (LLAMA, ["s 's'", "u 'u'", "a 'a'", "a x", "t 't'", "a y", "t 'v'"]),
        (
            "mistralai/Devstral-Small-2505",
            ["s 's'", "u 'u'", "a 'a'", f"u {CONTINUE!r}", "a x y", "t 't'", "t 'v'"],
        ),
        (
            MIXTRAL,
            ["u 's\\n\\nu'", "a 'a'", f"u {CONTINUE!r}", "a x y", "t 't'", "t 'v'"],
        ),
    ],
)
def test_parallel_calls_with_text(model: str, expected: list[str]) -> None:
    assert lines(body_of(model, PARALLEL)) == [*expected, "a 'b'", "u 'w'"]


def test_calls_as_text() -> None:
    sent = body_of(R1, PARALLEL[:4])
    assert [message["role"][0] for message in sent] == [*"suauu"]
    assert sent[2]["content"] == (
        "a\n\n[Called the tool look, call call_0:]\n"
        '{"at":"x"}\n\n[Called the tool look, call call_1:]\n{"at":"y"}'
    )
    assert sent[3]["content"] == "[Result of the tool look, call call_0:]\nt"


@pytest.mark.parametrize(
    ("rules", "messages", "expected"),
    [
        ({"system": "anywhere"}, "ssus", "s1 s2 u3 s4"),
        ({}, "ssus", "s1+2 u3 s4"),
        ({}, "us", "u1 s2"),
        ({"system": "one"}, "ussus", "u1 s2+3 u4 u[5]"),
        ({"system": "first"}, "ssus", "s1+2 u3 u[4]"),
        ({"system": "first"}, "us", "u1 u[2]"),
        ({"system": "user"}, "ssus", "u1+2+3 u[4]"),
        ({"system": "user"}, "sa", "u1 a2"),
        ({"alternating": True}, "uua", "u1+2 a3"),
        ({"alternating": True}, "uaa", "u1 a2+3"),
        ({"alternating": True}, "au", f"u{BEGIN} a1 u2"),
        ({"user": "required"}, "s", f"s1 u{BEGIN}"),
        ({"user": "required"}, "au", "a1 u2"),
        ({"user": "first"}, "au", f"u{BEGIN} a1 u2"),
        ({"user": "first_with_tools"}, "au", "a1 u2"),
        ({"assistant_last": False}, "ua", f"u1 a2 u{CONTINUE}"),
        ({"empty_assistant": False}, "ueu", f"u1 a{NO_ANSWER} u3"),
        ({"other_roles": False}, "uc", "u1 u[2]"),
    ],
)
def test_what_a_rule_does(rules: dict[str, Any], messages: str, expected: str) -> None:
    roles = {"s": "system", "u": "user", "a": "assistant", "e": "assistant"}
    plain = [
        {
            "role": roles.get(letter, "critic"),
            "content": "" if letter == "e" else str(number),
        }
        for number, letter in enumerate(messages, 1)
    ]
    sent = body_of("m", as_messages(plain), rules=TemplateRules(**rules))
    shown = " ".join(m["role"][0] + m["content"].replace("\n\n", "+") for m in sent)
    assert re.sub(r"\[Message of the \w+:\]\n(\d)", r"[\1]", shown) == expected


def test_tools_need_a_user_message_with_llama() -> None:
    sent = body_of(LLAMA, [SystemMessage("s")], [TOOL])
    assert lines(sent) == ["s 's'", f"u {BEGIN!r}"]


def test_a_message_that_is_continued_stays_the_last() -> None:
    messages = [HumanMessage("u"), AIMessage("a")]
    call = {"continue_final_message": True, "add_generation_prompt": False}
    assert lines(body_of(MIXTRAL, messages, **call)) == ["u 'u'", "a 'a'"]


def test_images_of_neighbors_are_kept() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    sent = body_of(
        "mistralai/Mistral-Small-3.2", [HumanMessage("u"), HumanMessage([image])]
    )
    assert sent == [{"role": "user", "content": [{"type": "text", "text": "u"}, image]}]


def ids_of(messages: list[dict[str, Any]]) -> list[str]:
    calls = [c["id"] for m in messages for c in m.get("tool_calls") or []]
    results = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    assert calls == results
    return calls


def test_ids_of_nine_letters_or_digits() -> None:
    taken = hashlib.sha256(b"call_0").hexdigest()[:9]
    # pragma: allowlist nextline secret
    ids = ["abcDEF123", "call_0", "call_0", "", taken, "abcDEF12_"]
    messages: list[BaseMessage] = [HumanMessage("u")]
    for call_id in ids:
        messages += [
            AIMessage("", tool_calls=[call(call_id, "x")]),
            ToolMessage("t", tool_call_id=call_id),
        ]
    sent = ids_of(body_of(MIXTRAL, messages))
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", call_id) for call_id in sent)
    # pragma: allowlist nextline secret
    assert sent[:2] == ["abcDEF123", taken]
    assert sent[1] == sent[2]  # the same ID
    assert len(set(sent)) == len(set(ids))
    assert ids_of(body_of(MIXTRAL, messages[:5])) == sent[:2]
    assert ids_of(body_of(LLAMA, messages)) == ids


def test_parallel_calls_with_the_same_id() -> None:
    # pragma: allowlist nextline secret
    calls = [call("abcDEF123", "x"), call("abcDEF123", "y")]
    results = [ToolMessage("t", tool_call_id="abcDEF123") for _ in calls]
    history = [HumanMessage("u"), AIMessage("", tool_calls=calls), *results]
    sent = ids_of(body_of(MIXTRAL, history))
    assert sent[0] == "abcDEF123" != sent[1]


# --- tools that a template does not show ------------------------------------------------


def test_tools_that_a_model_never_sees_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"R1-Distill-Llama-8B can't call tools") as info:
        body_of(R1, [HumanMessage("u")], [TOOL])
    for way_out in ("method='prompt'", "`template_rules`", "tool_calling=True"):
        assert way_out in str(info.value)
    assert body_of(R1, PARALLEL)  # a history with calls is no tool


def test_tools_that_a_fine_tune_may_never_see_are_a_warning_once() -> None:
    model = "acme/DeepSeek-R1-Distill-Llama-8B-legal"
    with pytest.warns(UserWarning, match="legal can't call tools"):
        sent = body_of(model, PARALLEL, [TOOL])
    assert not ids_of(sent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert body_of(model, PARALLEL, [TOOL]) == sent


def test_every_rule_has_its_reason() -> None:
    for family in FAMILIES:
        changed = {
            name
            for name, value in vars(family.rules).items()
            if value != getattr(TemplateRules(), name)
        }
        extra = {"system"} if family.rules.system == "joined" else set()
        assert set(family.facts) - extra == changed - extra, family.name
        assert re.search(r"\d{4}-\d\d-\d\d", family.checked)


def test_families() -> None:
    assert TemplateRules.for_model("unsloth/meta-llama-3.1-8b") == (
        TemplateRules.for_model(LLAMA)
    )
    assert TemplateRules.for_model("nobody/knows") == TemplateRules()
    assert all(TemplateRules.for_model(model) != TemplateRules() for model in TEMPLATES)


# --- what the model shows of it ---------------------------------------------------------


def quiet(model: str, **more: Any) -> ChatNscale:
    return ChatNscale(model=model, service_token="t", **more)


def test_the_body_that_would_be_sent() -> None:
    model = quiet(LLAMA, temperature=0)
    bound: Any = model.bind_tools([TOOL])
    body = model.request_body(PARALLEL, stop=["x"], **bound.kwargs)
    assert lines(body["messages"])[2:4] == ["a 'a'", "a x"]
    assert (body["stop"], body["temperature"]) == (["x"], 0)
    assert body["tools"][0]["function"]["name"] == "look"
    assert model.request_body("u", stream=True)["stream"] is True
    asked = ChatPromptTemplate.from_messages([("user", "{q}")]).invoke({"q": "u"})
    assert model.request_body(asked) == model.request_body([("user", "u")])
    with pytest.raises(ValueError, match="can't call tools"):
        quiet(R1).request_body("u", tools=[TOOL])


def test_what_is_sent_is_counted() -> None:
    class Letters:
        def encode(self, text: str, **_: Any) -> list[int]:
            return [1] * len(text)

    for exact in ({}, {"tokenizer": Letters()}):
        as_is = quiet(LLAMA, template_rules="as_is", **exact)
        plain = as_is.get_num_tokens_from_messages(PARALLEL)
        assert quiet(LLAMA, **exact).get_num_tokens_from_messages(PARALLEL) > plain
        assert quiet("m", **exact).get_num_tokens_from_messages(PARALLEL) == plain
        assert quiet(LLAMA, **exact).get_num_tokens_from_messages([]) == 0
        assert quiet(R1, **exact).get_num_tokens_from_messages(PARALLEL, [TOOL])
    assert quiet(LLAMA).get_num_tokens_from_messages([HumanMessage([{"type": "file"}])])


def test_an_id_that_the_server_repeats_is_replaced_although_another_was_sent() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        sent = json.loads(request.content)["messages"]
        assert "call_0" not in str(sent)
        function = {"name": "look", "arguments": "{}"}
        calls = [{"id": "call_0", "type": "function", "function": function}]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return httpx2.Response(200, json={"id": "c", "choices": [choice]})

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    reply = quiet(MIXTRAL, http_client=client).invoke(PARALLEL, tools=[TOOL])
    assert reply.tool_calls[0]["id"] != "call_0"


def test_rules_survive_serialization() -> None:
    model = quiet(LLAMA, template_rules={"parallel_calls": True, "system": "first"})
    rules = TemplateRules(parallel_calls=True, system="first")
    assert model.template_rules == rules
    assert pickle.loads(pickle.dumps(model)).template_rules == rules  # ours
    assert model.model_copy().template_rules == rules
    arguments = dumpd(model)["kwargs"]
    assert ChatNscale(**{**arguments, "service_token": "t"}).template_rules == rules
    typo: Any = {"system": "last"}
    for wrong in ("sometimes", typo, {"unknown": 1}, TemplateRules(**typo)):
        with pytest.raises(ValueError, match="template_rules"):
            quiet(LLAMA, template_rules=wrong)
