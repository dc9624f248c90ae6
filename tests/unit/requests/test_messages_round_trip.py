"""Messages -> request -> the service's echo -> messages: nothing changes on the way."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)

from tests.unit.answers import invoked
from tests.unit.service import Service, chat

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SAID = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAME = st.text("abc_", min_size=1, max_size=6)
ARGS = st.dictionaries(TEXT, VALUE, max_size=3)
IMAGE = st.sampled_from(["https://example.org/a.png", "data:image/png;base64,iVBORw0K"])
PART = SAID.map(lambda text: {"type": "text", "text": text}) | IMAGE.map(
    lambda url: {"type": "image_url", "image_url": {"url": url}}
)


@st.composite
def assistants(draw: st.DrawFn, texts: st.SearchStrategy[str] = SAID) -> AIMessage:
    calls = draw(st.lists(st.tuples(NAME, ARGS), max_size=2))
    reasoning = draw(st.just("") | SAID)
    return AIMessage(
        draw(texts),
        tool_calls=[
            {"name": name, "args": args, "id": f"call_{i}", "type": "tool_call"}
            for i, (name, args) in enumerate(calls)
        ],
        additional_kwargs={"reasoning_content": reasoning} if reasoning else {},
    )


@st.composite
def turns(draw: st.DrawFn) -> list[BaseMessage]:
    """What an assistant says, and the result of each call."""
    message = draw(assistants(TEXT))
    ids = [str(call["id"]) for call in message.tool_calls]
    return [message, *(ToolMessage(draw(TEXT), tool_call_id=each) for each in ids)]


SINGLE = (
    TEXT.map(SystemMessage)
    | st.builds(HumanMessage, TEXT, name=st.none() | NAME)
    | st.lists(PART, min_size=1, max_size=3).map(
        lambda parts: HumanMessage(list[str | dict[Any, Any]](parts))
    )
)
MESSAGES = st.lists(
    turns() | SINGLE.map(lambda message: list[BaseMessage]([message])),
    min_size=1,
    max_size=5,
).map(lambda found: [message for turn in found for message in turn])


def seen(message: BaseMessage) -> dict[str, Any]:
    """What the API can carry of a message."""
    content: Any = message.content
    if isinstance(content, list) and all(part["type"] == "text" for part in content):
        # Texts alone are sent as one string: not every model's template takes lists.
        content = "\n".join(part["text"] for part in content)
    return {
        "type": message.type,
        "content": content,
        "name": message.name,
        "calls": getattr(message, "tool_calls", None),
        "answers": getattr(message, "tool_call_id", None),
    }


def sent(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    """The messages of the request, as the service reads them."""
    service = Service()
    chat(service, reasoning_history="always", template_rules="as_is").invoke(messages)
    (body,) = service.bodies
    return list(body["messages"])


@given(MESSAGES)
def test_messages_come_back_as_they_went(messages: list[BaseMessage]) -> None:
    back = convert_to_messages(sent(messages))
    assert list(map(seen, back)) == list(map(seen, messages))


@given(assistants())
def test_a_reply_that_is_sent_back_is_the_same_reply(message: AIMessage) -> None:
    # Blank lines between reasoning and answer are dropped when a reply is read.
    assume(not (message.additional_kwargs and message.text.startswith(("\r", "\n"))))
    first, *_ = sent([message])
    back = invoked({"choices": [{"message": first, "finish_reason": "stop"}]})
    assert seen(back) == seen(message)
    assert back.additional_kwargs == message.additional_kwargs
    again, *_ = sent([back])
    assert again == first
