"""Histories of every kind, with a mark in each text, argument, result and tool."""

from __future__ import annotations

import re
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_nscale import ChatNscale, TemplateRules

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "M_tool tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def system(text: str) -> BaseMessage:
    return SystemMessage(text)


def user(text: str) -> BaseMessage:
    return HumanMessage(text)


def answer(text: str) -> BaseMessage:
    return AIMessage(text)


def asks(*numbers: int, text: str = "", why: str = "") -> BaseMessage:
    """A message with calls, text, and reasoning."""
    calls = [
        {
            "name": "get_weather",
            "args": {"city": f"M_call{number}"},
            "id": f"chatcmpl-tool-{number:032x}",
            "type": "tool_call",
        }
        for number in numbers
    ]
    extra = {"reasoning_content": why} if why else {}
    return AIMessage(text, tool_calls=calls, additional_kwargs=extra)


def result(number: int) -> BaseMessage:
    return ToolMessage(f"M_result{number}", tool_call_id=f"chatcmpl-tool-{number:032x}")


_S, _U, _V = system("M_system"), user("M_user1"), user("M_user2")
_LOOP = {
    "one call": [_U, asks(1), result(1)],
    "a call with text": [_U, asks(1, text="M_beside"), result(1)],
    "parallel calls": [_U, asks(1, 2), result(1), result(2)],
    "parallel calls with text": [_U, asks(1, 2, text="M_beside"), result(1), result(2)],
    "three calls": [_U, asks(1, 2, 3), result(2), result(1), result(3)],
    "two rounds": [
        *(_U, asks(1, text="M_beside"), result(1)),
        *(asks(2, 3, text="M_more"), result(2), result(3)),
    ],
    "reasoning in a loop": [_U, asks(1, why="M_think"), result(1)],
}
HISTORIES: dict[str, list[BaseMessage]] = {
    "user": [_U],
    "system": [_S],
    "system, user": [_S, _U],
    "two systems": [system("M_system1"), system("M_system2"), _U],
    "late system": [_U, answer("M_answer"), _S, _V],
    "last system": [_U, answer("M_answer"), _S],
    "early and late system": [system("M_first"), _U, answer("M_answer"), _S, _V],
    "system before an answer": [_U, _S, answer("M_answer"), _V],
    "assistant first": [answer("M_answer"), _U],
    "system, assistant first": [_S, answer("M_answer"), _U],
    "two users": [_U, _V],
    "two assistants": [_U, answer("M_answer1"), answer("M_answer2"), _V],
    "assistant last": [_U, answer("M_answer")],
    "empty assistant": [_U, answer(""), _V],
    "call first": [_S, asks(1), result(1)],
    "call and answer first": [asks(1, text="M_beside"), result(1), answer("M_a"), _V],
    "summary": [_S, user("M_summary"), asks(1), result(1), _U, answer("M_answer"), _V],
    "no result": [_U, asks(1), _V],
    "result without a call": [_U, result(7), _V],
    "reasoning": [
        _U,
        AIMessage("M_answer", additional_kwargs={"reasoning_content": "M_think"}),
        _V,
    ],
}
for _name, _history in _LOOP.items():
    _done = [*_history, answer("M_answer")]
    HISTORIES |= {
        f"{_name}, open": _history,
        f"{_name}, answered": [*_done, _V],
        f"{_name}, interrupted": [*_history, _V],
        f"{_name}, with system": [_S, *_history],
        f"{_name}, with system, answered": [_S, *_done, _V],
        f"{_name}, late system": [*_history, _S],
        f"{_name}, again": [*_done, _V, asks(8, 9), result(8), result(9)],
    }


def body_of(
    model: str,
    history: list[BaseMessage],
    *,
    has_tools: bool,
    rules: TemplateRules | None = None,
    reasoning: Any = "never",
) -> dict[str, Any]:
    """Return the body that ChatNscale sends."""
    asked = ChatNscale(
        model=model,
        service_token="t",
        reasoning_history=reasoning,
        template_rules=rules,
    )
    call: dict[str, Any] = {"tools": [TOOL]} if has_tools else {}
    return asked.request_body(history, **call)


def lost(body: dict[str, Any], prompt: Any) -> str:
    """Return what of a request is missing from a prompt, or its error."""
    if isinstance(prompt, dict):
        return str(prompt["error"])
    marks = re.findall(r"M_\w+", str(body["messages"]) + str(body.get("tools")))
    shown = set(re.findall(r"M_\w+", prompt))
    return " ".join(mark for mark in dict.fromkeys(marks) if mark not in shown)
