"""The service in unit tests: answers requests without a socket, and records them.

Tests of mappings and errors go through the public API: they ask a model of `chat` or
`embeddings`, and look at `Service.bodies` and at what the model returns.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2

from langchain_nscale import ChatNscale, NscaleEmbeddings

Answer = Any  # a JSON object, the bytes of a stream, a response, or an error to raise


def completion(
    content: str | None = "Hi", finish_reason: str = "stop", **message: Any
) -> dict[str, Any]:
    """Return a reply that is not streamed."""
    whole = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": whole, "finish_reason": finish_reason}
    return {"id": "c-1", "model": "m", "choices": [choice]}


def stream(*deltas: dict[str, Any], finish_reason: str = "stop") -> bytes:
    """Return a complete streamed reply."""
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish_reason})
    events = [json.dumps({"id": "c-1", "choices": [choice]}) for choice in choices]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def vectors(*vectors: list[float]) -> dict[str, Any]:
    """Return the reply to a request for embeddings."""
    data = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return {"object": "list", "model": "m", "data": data}


class Service:
    """Gives these answers one after the other; the last one again and again.

    A function among them gets the request's body and returns an answer.
    """

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[httpx2.Request] = []
        self._answers = list(answers or [completion()])
        transport = httpx2.MockTransport(self._respond)
        self.client = httpx2.Client(transport=transport)
        self.async_client = httpx2.AsyncClient(transport=transport)

    @property
    def bodies(self) -> list[Any]:
        """The JSON of all requests so far that have a body."""
        return [json.loads(each.content) for each in self.requests if each.content]

    @property
    def settings(self) -> dict[str, Any]:
        """What connects a model to this service."""
        return {
            "service_token": "t",
            "http_client": self.client,
            "http_async_client": self.async_client,
        }

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if callable(answer):
            answer = answer(json.loads(request.content or b"null"))
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, content=answer, headers=headers)
        return answer if isinstance(answer, httpx2.Response) else _as_json(answer)


def _as_json(answer: Any) -> httpx2.Response:
    return httpx2.Response(200, json=answer)


def chat(service: Service | None = None, **settings: Any) -> ChatNscale:
    """Return a chat model of a service."""
    connection = (service or Service()).settings
    return ChatNscale(**{"model": "m", **connection, **settings})


def embeddings(service: Service | None = None, **settings: Any) -> NscaleEmbeddings:
    """Return embeddings of a service."""
    connection = (service or Service(vectors([1.0, 0.5]))).settings
    return NscaleEmbeddings(**{"model": "m", **connection, **settings})
