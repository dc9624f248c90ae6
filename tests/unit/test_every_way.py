"""Every reply is the same message in every way of calling."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from langchain_core.tools import StructuredTool
from pydantic import BaseModel

from tests.unit.recordings import CHAT, recordings
from tests.unit.ways import WAYS, model_for, outcome

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning"
)
CHATS = {
    name: recording
    for name, recording in recordings().items()
    if recording.path == CHAT and isinstance(recording.request, dict)
}
SENT = ("max_tokens", "max_completion_tokens", "n", "response_format", "stop", "tools")


@pytest.mark.parametrize("name", CHATS)
def test_a_recorded_reply(name: str) -> None:
    recording = CHATS[name]

    def answer(request: httpx2.Request) -> httpx2.Response:
        response = recording.response()
        response.request = request
        return response

    request = recording.request
    fields = {key: request[key] for key in SENT if request.get(key) is not None}
    check(lambda: model_for(answer).bind(**fields))


def check(new_model: Any) -> dict[str, Any]:
    """Compare all ways of calling a model; return what each says."""
    expected = outcome(WAYS["invoke"], new_model())
    for name, way in WAYS.items():
        found = outcome(way, new_model())
        if found != expected:
            pytest.fail(f"{name}:\n{found}\ninvoke:\n{expected}")
    return expected


# --- replies that no recording has ------------------------------------------------------


class Answer(BaseModel):
    """An answer."""

    n: int


def read_file(path: str) -> str:
    """Read a file."""
    return path


TOOL = StructuredTool.from_function(read_file, name="files.read")
SENT_NAME = "files_read_601e4eb6"


def whole(message: Any, finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return {"id": "c-1", "model": "m", "choices": [choice], "usage": usage, **more}


def call(name: str, arguments: str | None) -> dict[str, Any]:
    return {
        "id": "a",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


REPLIES: dict[str, Any] = {
    "a refusal after text": whole({"content": "Hm.", "refusal": "No."}),
    "a refusal after reasoning": whole({"reasoning": "Hm.", "refusal": "No."}),
    "a refusal alone": whole({"content": None, "refusal": "No."}),
    "reasoning and text": whole({"reasoning": "Hm.", "content": "Yes."}),
    "an empty answer": whole({"content": ""}),
    "a call": whole({"tool_calls": [call(SENT_NAME, '{"path": "a"}')]}, "tool_calls"),
    "a cut call": whole({"tool_calls": [call(SENT_NAME, '{"path": "a')]}, "length"),
    "two calls, one broken": whole(
        {"tool_calls": [call(SENT_NAME, "{}"), call(SENT_NAME, "[1]")]}, "tool_calls"
    ),
    "calls that are announced and missing": whole({"content": None}, "tool_calls"),
    "an answer that is cut off": whole({"content": "Half an answ"}, "length"),
    "an error after a call": whole(
        {"tool_calls": [call(SENT_NAME, '{"path": "a"}')]},
        error={"message": "upstream failed", "code": 502},
    ),
    "a reply given up": whole({"content": "Half"}, "abort"),
    "parts": whole(
        {"content": [{"type": "image", "url": "x"}, {"type": "text", "text": "a"}]}
    ),
}


def events_of(body: dict[str, Any], size: int = 3) -> bytes:
    """The same reply as a stream."""
    (choice,) = body["choices"]
    head = {key: body[key] for key in ("id", "model")}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for key, value in choice["message"].items():
        if isinstance(value, str):
            deltas += [{key: value[i : i + size]} for i in range(0, len(value), size)]
        elif key == "content":
            deltas += [{key: [part]} for part in value or ()]
        else:
            deltas += pieces_of_calls(value, size)
    events: list[Any] = [{**head, "choices": [{"index": 0, "delta": d}]} for d in deltas]
    if "error" in body:
        events.append({"error": body["error"]})
    else:
        end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        events += [
            {**head, "choices": [end]},
            {**head, "choices": [], "usage": body["usage"]},
        ]
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)


def pieces_of_calls(calls: list[Any], size: int) -> list[dict[str, Any]]:
    deltas = []
    for index, each in enumerate(calls):
        name, arguments = each["function"]["name"], each["function"]["arguments"]
        function: dict[str, Any] = {"name": name[:size]}
        deltas.append({"tool_calls": [{**each, "index": index, "function": function}]})
        pieces: list[dict[str, Any]] = [{"name": name[size:]}]
        pieces += [
            {"arguments": (arguments or "")[i : i + size]}
            for i in range(0, len(arguments or ""), size)
        ]
        deltas += [{"tool_calls": [{"index": index, "function": p}]} for p in pieces]
    return deltas


def answering(body: Any) -> Any:
    """Answer with a body: as a stream where one is requested, whole otherwise."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if json.loads(request.content).get("stream"):
            kind = {"content-type": "text/event-stream"}
            return httpx2.Response(200, content=events_of(body), headers=kind)
        return httpx2.Response(200, json=body)

    return answer


@pytest.mark.parametrize("version", [None, "v1"])
@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_with_its_tools(name: str, version: str | None) -> None:
    handler = answering(REPLIES[name])
    settings = {} if version is None else {"output_version": version}
    said = check(lambda: model_for(handler, **settings).bind_tools([TOOL]))
    names = [each["name"] for each in said.get("calls", [])]
    names += [each[0] for each in said.get("invalid", [])]
    assert set(names) <= {"files.read", "Ann"}


@pytest.mark.parametrize("text", ['{"n": 1}', '{"n": "many"}', "no JSON"])
def test_what_an_answer_parses_to(text: str) -> None:
    handler = answering(whole({"content": text}))
    said = check(lambda: model_for(handler).bind(response_format=Answer))
    if text == '{"n": 1}':
        assert said["kwargs"] == {"parsed": Answer(n=1)}
    else:
        assert said["error"].__name__ == "OutputParserException"
