"""Ask, stream, run an agent with two tools, and show what it all used.

Talks to Nscale when NSCALE_SERVICE_TOKEN is set, else to the stand-in server.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage

from langchain_nscale import ChatNscale, get_nscale_usage_callback
from langchain_nscale.testing import NscaleServer, ServerReply, ToolCallReply

MODEL = os.environ.get("NSCALE_DEMO_MODEL", "meta-llama/Llama-3.1-8B-Instruct")
QUESTION = "Which is warmer today, Oslo or Lisbon, and by how many degrees?"
TEMPERATURES = {"Oslo": 4.5, "Lisbon": 19.0}


def temperature(city: str) -> float:
    """Today's temperature in a city, in degrees Celsius."""
    return TEMPERATURES[city]


def subtract(a: float, b: float) -> float:
    """The difference a - b."""
    return a - b


def respond(body: Mapping[str, Any]) -> ServerReply | None:
    """Answer the question by rule, as a capable model would."""
    messages = body["messages"]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if not body.get("tools"):
        return ServerReply(
            text="Nscale runs open models on its own GPU clouds in Europe."
        )
    if not results:
        calls = [ToolCallReply("temperature", {"city": city}) for city in TEMPERATURES]
        return ServerReply(tool_calls=calls)
    if len(results) == len(TEMPERATURES):
        oslo, lisbon = (json.loads(result) for result in results)
        return ServerReply(
            tool_calls=[ToolCallReply("subtract", {"a": lisbon, "b": oslo})]
        )
    return ServerReply(text=f"Lisbon is warmer, by {results[-1]} degrees.")


def ask(model: ChatNscale) -> None:
    """One answer, streamed to the terminal token by token."""
    print("\n> In one sentence: what does Nscale do?")
    for chunk in model.stream("In one sentence: what does Nscale do?"):
        print(chunk.text, end="", flush=True)
    print()


def run_agent(model: ChatNscale) -> None:
    """An agent that calls tools until it can answer; its steps as they happen."""
    agent = create_agent(model, [temperature, subtract])
    print(f"\n> {QUESTION}")
    inputs: Any = {"messages": [("user", QUESTION)]}
    for update in agent.stream(inputs, stream_mode="updates"):
        for step in update.values():
            for message in step["messages"]:
                if isinstance(message, AIMessage) and message.tool_calls:
                    for call in message.tool_calls:
                        print(f"  calls {call['name']}({json.dumps(call['args'])})")
                elif isinstance(message, ToolMessage):
                    print(f"  {message.name} answers {message.text}")
                else:
                    print(message.text)


def main() -> int:
    """Run the demo; the exit code is 1 if no usage was reported."""
    with ExitStack() as stack:
        if os.environ.get("NSCALE_SERVICE_TOKEN"):
            model = ChatNscale(model=MODEL)
            print(f"Talking to Nscale at {model.base_url}, model {MODEL}.")
        else:
            server = stack.enter_context(NscaleServer(responder=respond))
            model = ChatNscale(model=MODEL, **server.settings)
            print(
                "NSCALE_SERVICE_TOKEN isn't set: talking to the stand-in server at "
                f"{server.base_url}, which answers by rule."
            )
        prices = model.list_models()
        usage = stack.enter_context(get_nscale_usage_callback(prices))
        ask(model)
        run_agent(model)
    print(f"\n{usage}")
    return 0 if usage.total.total_tokens else 1


if __name__ == "__main__":
    sys.exit(main())
