"""What the page about the engine says of vLLM itself, without this package in between."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.vllm.engine import KEY, Engine, running
from tests.vllm.environment import VERSION
from tests.vllm.test_tools import CALL

pytestmark = pytest.mark.skipif(
    VERSION == "0.21.0", reason="The page says what newer versions do."
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def post(
    engine: Engine, text: str = "Say hello.", headers: Any = (), **fields: Any
) -> tuple[int, str]:
    """Return status and body of a chat request."""
    body = {
        "model": "smol",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 60,
        "temperature": 0,
        **fields,
    }
    request = urllib.request.Request(  # noqa: S310  # loopback
        f"{engine.base_url}/chat/completions",
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {KEY}",
            **dict(headers),
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def choice(reply: tuple[int, str]) -> dict[str, Any]:
    status, body = reply
    assert status == 200, body
    first: dict[str, Any] = json.loads(body)["choices"][0]
    return first


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "five stop strings": ({"stop": list("abcde")}, "at most 4"),
    "structured_outputs beside response_format": (
        {
            "response_format": RESPONSE_FORMAT,
            "structured_outputs": {"choice": ["a"]},
        },
        "",
    ),
    "allowed_tools": (
        {
            "tools": [WEATHER],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [WEATHER]},
            },
        },
        "",
    ),
    "a custom tool": ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, ""),
    "no tools in a list": ({"tools": []}, ""),
    "an unknown effort": ({"reasoning_effort": "enormous"}, "reasoning_effort"),
}


@pytest.mark.parametrize(("fields", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(engine: Engine, fields: dict[str, Any], said: str) -> None:
    status, body = post(engine, **fields)
    assert status == 400, body
    assert said in body


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": SCHEMA},
        {"guided_choice": ["yes", "no"]},
        {"no_such_field": 1},
        {"priority": 3},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_fields_that_are_ignored(engine: Engine, fields: dict[str, Any]) -> None:
    plain = choice(post(engine))["message"]["content"]
    assert choice(post(engine, **fields))["message"]["content"] == plain


def test_a_second_name_is_answered_with_the_first(engine: Engine) -> None:
    _, body = post(engine, model="smol-too")
    assert json.loads(body)["model"] == "smol"


def test_efforts(engine: Engine) -> None:
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
        assert post(engine, reasoning_effort=effort)[0] == 200


def test_an_id_is_that_of_the_request(engine: Engine) -> None:
    _, body = post(engine, headers={"X-Request-Id": "mine"})
    assert json.loads(body)["id"] == "chatcmpl-mine"


def test_usage_in_every_chunk_needs_include_usage_as_well(engine: Engine) -> None:
    options = {"continuous_usage_stats": True}
    _, body = post(engine, stream=True, stream_options=options)
    assert '"usage":{' not in body
    _, body = post(engine, stream=True, stream_options={**options, "include_usage": True})
    assert body.count('"usage":{') > 2


def test_calls_that_are_not_wanted_are_text(engine: Engine) -> None:
    reply = post(engine, CALL, tools=[WEATHER], tool_choice="none")
    message = choice(reply)["message"]
    assert message["content"].startswith("<tool_call>")
    assert not message.get("tool_calls")


def test_calls_that_are_not_wanted_vanish_with_other_parsers() -> None:
    said = (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
        "</function>\n</tool_call>"
    )
    options = ("--enable-auto-tool-choice", "--tool-call-parser", "qwen3_coder")
    with running(*options) as engine:
        text = f"[[say: {said}]]"
        message = choice(post(engine, text, tools=[WEATHER], tool_choice="none"))
        assert not message["message"]["content"]
        assert not message["message"].get("tool_calls")


def test_a_schema_beside_tools_blocks_the_tools_unless_one_is_strict(
    engine: Engine,
) -> None:
    text = CALL
    fields: dict[str, Any] = {"response_format": RESPONSE_FORMAT, "max_tokens": 100}
    blocked = choice(post(engine, text, tools=[WEATHER], **fields))["message"]
    assert not blocked.get("tool_calls")
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}
    called = choice(post(engine, text, tools=[strict], **fields))["message"]
    assert called["tool_calls"][0]["function"]["name"] == "get_weather"
