"""Brings a conversation into the form that a model's chat template carries.

It is the step between `messages` and the body. Nothing is lost: what a template has no
place for is moved or described. A conversation that fits is returned as it is, and
messages are copied, never modified.

Each message depends only on those before it, so a server's prompt cache keeps the
beginning of a growing conversation. There are two exceptions: a last message that
can't be the last (`assistant_last`), and a conversation without a user message (`user`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import is_
from typing import Any

from langchain_nscale.templates import STRICT, STRICT_WITHOUT_TOOLS, TemplateRules

Message = dict[str, Any]

# What stands in for messages that a template insists on.
BEGIN = "[The assistant speaks first.]"
CONTINUE = "[Continue.]"
NO_ANSWER = "[No answer.]"

_ROLES = {"system", "user", "assistant", "tool"}
_NINE = re.compile(r"[a-zA-Z0-9]{9}")


def fit(
    messages: list[Message],
    rules: TemplateRules,
    *,
    has_tools: bool = False,
    is_continued: bool = False,
) -> list[Message]:
    """Return a conversation in the form that a template carries; the same list if it is.

    Every call in it must be followed by its answer. If `is_continued`, the model
    continues the last message.
    """
    if not rules.tools:
        messages = _without_calls(messages)
    elif not (rules.parallel_calls and rules.text_beside_calls):
        messages = _separate_calls(messages, rules)
    if not rules.other_roles:
        messages = _known_roles(messages)
    if rules.system != "anywhere":
        messages = _place_system(messages, rules.system)
    if not rules.empty_assistant:
        messages = _without_empty_answers(messages)
    if rules.alternating or rules.user != "optional":
        messages = _begin_with_user(messages, rules, has_tools=has_tools)
    if rules.alternating:
        messages = _alternate(messages)
    if not (rules.assistant_last or is_continued) and _is_answer(messages[-1]):
        messages = [*messages, _user(CONTINUE)]
    return _with_short_ids(messages) if rules.call_ids == "nine" else messages


def fit_request(
    messages: list[Message], rules: TemplateRules, body: Mapping[str, Any]
) -> list[Message]:
    """Fit messages in the API's form; `body` has the other fields of their request."""
    has_tools = bool(body.get("tools"))
    if rules is STRICT and not has_tools:
        rules = STRICT_WITHOUT_TOOLS
    is_continued = body.get("continue_final_message") is True
    return fit(messages, rules, has_tools=has_tools, is_continued=is_continued)


def _user(content: Any) -> Message:
    return {"role": "user", "content": content}


def _is_answer(message: Message) -> bool:
    """Return whether a message is the assistant's, without calls."""
    return message["role"] == "assistant" and not message.get("tool_calls")


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(content or [])


def _join(first: Any, second: Any) -> Any:
    """Join the contents of two messages."""
    if not first or not second:
        return first or second or ""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _label(label: str, content: Any) -> Any:
    """Put a label on a separate line before a content."""
    if isinstance(content, str):
        return f"{label}\n{content}"
    return [*_parts(label), *_parts(content)]


def _merge(first: Message, second: Message) -> Message:
    """Merge two messages of the same role."""
    merged = {**first, **second, "content": _join(first["content"], second["content"])}
    if first.get("name") != second.get("name"):
        merged.pop("name", None)
    for key in ("reasoning", "reasoning_content"):
        if key in merged:
            merged[key] = _join(first.get(key), second.get(key))
    return merged


# --- calls ------------------------------------------------------------------------------


def _without_calls(messages: list[Message]) -> list[Message]:
    """Send calls and results as text, marked as what they are."""
    if not any(message["role"] == "tool" for message in messages):
        return messages
    names: dict[str, str] = {}
    result = []
    for message in messages:
        if calls := message.get("tool_calls"):
            names.update((call["id"], call["function"]["name"]) for call in calls)
            message = {k: v for k, v in message.items() if k != "tool_calls"}  # noqa: PLW2901
            content = _join(message["content"], "\n\n".join(map(_described, calls)))
            result.append({**message, "content": content})
        elif message["role"] == "tool":
            name = names.get(message["tool_call_id"], "")
            label = f"[Result of the tool {name}, call {message['tool_call_id']}:]"
            result.append(_user(_label(label, message["content"])))
        else:
            result.append(message)
    return result


def _described(call: Mapping[str, Any]) -> str:
    function = call["function"]
    return (
        f"[Called the tool {function['name']}, call {call['id']}:]\n"
        f"{function['arguments']}"
    )


def _separate_calls(messages: list[Message], rules: TemplateRules) -> list[Message]:
    """Separate calls from each other, and from the text beside them."""
    result: list[Message] = []
    answers = iter(messages)
    for message in answers:
        if _has_to_be_separated(message, rules):
            result += _separated(message, answers, rules)
        else:
            result.append(message)
    return _unless_same(messages, result)


def _has_to_be_separated(message: Message, rules: TemplateRules) -> bool:
    calls = message.get("tool_calls") or ()
    return bool(calls) and (
        (len(calls) > 1 and not rules.parallel_calls)
        or (bool(message["content"]) and not rules.text_beside_calls)
    )


def _separated(
    message: Message, answers: Iterator[Message], rules: TemplateRules
) -> Iterator[Message]:
    """Yield the text of a message, then its calls, and the answers between them."""
    calls = message["tool_calls"]
    plain = {"role": "assistant", "content": None}
    if "name" in message:
        plain["name"] = message["name"]
    if message["content"] and not rules.text_beside_calls:
        yield {**plain, "content": message["content"]}
        message = {**message, "content": None}
    if rules.parallel_calls:
        yield {**message, "tool_calls": calls}
        return
    for call in calls:
        yield {**message, "tool_calls": [call]}
        yield next(answers)
        message = plain


def _with_short_ids(messages: list[Message]) -> list[Message]:
    """Replace IDs other than nine letters or digits with a hash.

    An ID depends only on those of earlier messages.
    """
    owners: dict[str, tuple[str, int]] = {}
    waiting: list[tuple[str, str]] = []  # calls without an answer: old and new ID
    result = []
    for message in messages:
        if calls := message.get("tool_calls"):
            waiting = []
            for old in (call["id"] for call in calls):
                repeats = sum(old == other for other, _ in waiting)
                waiting.append((old, _short_id((old, repeats), owners)))
            if any(old != new for old, new in waiting):
                calls = [
                    {**call, "id": new}
                    for call, (_, new) in zip(calls, waiting, strict=True)
                ]
                message = {**message, "tool_calls": calls}  # noqa: PLW2901
        elif message["role"] == "tool":
            old = message["tool_call_id"]
            answered = next(pair for pair in waiting if pair[0] == old)
            waiting.remove(answered)
            if answered[1] != old:
                message = {**message, "tool_call_id": answered[1]}  # noqa: PLW2901
        result.append(message)
    return _unless_same(messages, result)


def _unless_same(messages: list[Message], result: list[Message]) -> list[Message]:
    """Return the result, or the list itself if it has the same messages."""
    is_same = len(result) == len(messages) and all(map(is_, result, messages))
    return messages if is_same else result


def _short_id(key: tuple[str, int], owners: dict[str, tuple[str, int]]) -> str:
    """Return nine letters or digits for an ID, which no other ID has.

    The key is the ID, and how often the same message has it before. `owners`, what each
    short ID stands for, is extended.
    """
    old, number = key
    short = old if number == 0 else ""
    while not _NINE.fullmatch(short) or owners.get(short, key) != key:
        text = f"{old}#{number}" if number else old
        short = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:9]
        number += 1
    owners[short] = key
    return short


# --- roles ------------------------------------------------------------------------------


def _known_roles(messages: list[Message]) -> list[Message]:
    """Make messages of other roles user messages, marked with the role."""
    known = [m if m["role"] in _ROLES else _as_user(m, m["role"]) for m in messages]
    return _unless_same(messages, known)


def _as_user(message: Message, role: str) -> Message:
    return {**message, **_user(_label(f"[Message of the {role}:]", message["content"]))}


def _place_system(messages: list[Message], place: str) -> list[Message]:
    """Join the first system messages, and put others where the template shows them."""
    start = 0
    if place == "one":
        start = next((n for n, m in enumerate(messages) if m["role"] == "system"), 0)
    end = start
    while end < len(messages) and messages[end]["role"] == "system":
        end += 1
    rest = messages[end:]
    if place != "joined" and "system" in [message["role"] for message in rest]:
        rest = [_as_user(m, "system") if m["role"] == "system" else m for m in rest]
    elif end - start < (1 if place == "user" else 2):
        return messages
    joined = [reduce(_merge, messages[start:end])] if end > start else []
    if joined and place == "user":
        joined = [{**joined[0], "role": "user"}]
        if rest and rest[0]["role"] == "user":
            joined = [_merge(joined[0], rest.pop(0))]
    return [*messages[:start], *joined, *rest]


def _without_empty_answers(messages: list[Message]) -> list[Message]:
    filled = [
        {**m, "content": NO_ANSWER} if _is_answer(m) and not m["content"] else m
        for m in messages
    ]
    return _unless_same(messages, filled)


def _begin_with_user(
    messages: list[Message], rules: TemplateRules, *, has_tools: bool
) -> list[Message]:
    """Insert a user message before the first other one, if the template needs it."""
    roles = [message["role"] for message in messages]
    if rules.user == "required":
        is_needed = "user" not in roles
    else:
        first = next((role for role in roles if role != "system"), "")
        always = rules.user == "first" or rules.alternating
        is_needed = first != "user" and (
            always or (has_tools and rules.user == "first_with_tools")
        )
    if not is_needed:
        return messages
    start = 0
    while start < len(roles) and roles[start] == "system":
        start += 1
    return [*messages[:start], _user(BEGIN), *messages[start:]]


def _alternate(messages: list[Message]) -> list[Message]:
    """Merge neighbors of the same role, and keep apart what can't be merged."""
    # Calls and results don't count. Text before a call is followed by a user message,
    # since the answer to come would be the second of the assistant's in a row.
    result: list[Message] = []
    last = ""
    for message in messages:
        role = message["role"]
        if role == "assistant" and not _is_answer(message):
            if last == "assistant":
                result.append(_user(CONTINUE))
                last = "user"
        elif role in ("user", "assistant"):
            if role == last and result[-1]["role"] == role:
                result[-1] = _merge(result[-1], message)
                continue
            if role == last == "user":  # after the results of calls
                result.append({"role": "assistant", "content": NO_ANSWER})
            elif role == last:
                result.append(_user(CONTINUE))
            last = role
        result.append(message)
    return _unless_same(messages, result)
