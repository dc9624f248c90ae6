"""The chat model of the command line, which starts without LangChain's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from pydantic import ConfigDict

from langchain_nscale._cli.inputs import Message
from langchain_nscale._replies.reply import Reply
from langchain_nscale._replies.whole import Delta
from langchain_nscale._settings.fields import ChatFields

# Passes the deltas of a reply on, and then the reply.
_WRITER: Any = SimpleNamespace(write=lambda _, new: new, finish=lambda reply: [reply])


class Model(ChatFields):
    """`ChatNscale` without what LangChain adds to it: settings, requests and replies."""

    model_config = ConfigDict(defer_build=False, title="ChatNscale")

    def ask(
        self, messages: Sequence[Message], *, stream: bool = True, **call: Any
    ) -> Iterator[Delta | Reply]:
        """Yield what a reply consists of as it arrives, and then the whole reply.

        Raises:
            NscaleError: The call failed.
        """
        sent: Sequence[Any] = messages
        if not all(isinstance(message["content"], str) for message in messages):
            from langchain_core.messages import convert_to_messages  # noqa: PLC0415  # slow

            sent = convert_to_messages(messages)  # images are checked and converted
        return self._receive(lambda: _WRITER, sent, None, call, stream=stream)
