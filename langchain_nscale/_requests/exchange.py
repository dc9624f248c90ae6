"""The requests of one call: usually one, and sometimes another one."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from langchain_nscale._error_bodies import error_message, error_object
from langchain_nscale._requests.fitting import fit_request
from langchain_nscale.templates import STRICT, violated_rule

if TYPE_CHECKING:
    from langchain_nscale.errors import NscaleError

SchemaWithTools = Literal["separate", "together"]

logger = logging.getLogger(__name__)

_MAX_REMEMBERED = 256
_MAX_STRICT = 64  # models that a client remembers


class _Lossy:
    """The models whose streams lose answers when there are tools, by address and ID.

    Such a stream is paid for, so it is requested once per process. The oldest entries go
    first; losing one costs another such stream.
    """

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = Lock()

    def add(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._keys[key] = None
            while len(self._keys) > _MAX_REMEMBERED:
                self._keys.popitem(last=False)

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._keys


_lossy = _Lossy()


class Exchange:
    """The requests of one call.

    A schema beside tools takes two requests, because vLLM constrains the whole reply to
    the schema then, so that no tool can be called (0.21.0; 0.32.0 unless a tool is strict
    and its parser has a grammar for calls): one with the tools and, if the reply has no
    calls, one with the schema in their place. Both are requested whole, because the
    parsers of some models lose JSON answers in streams (llama3_json; vllm#48294), and so
    is everything that a stream has been seen to lose.
    """

    def __init__(
        self,
        body: Mapping[str, Any],
        address: str,
        schema_with_tools: SchemaWithTools,
        call_ids: Collection[str] = (),  # of the conversation
        strict_models: set[str] | None = None,
    ) -> None:
        """Begin a call with the request as the caller means it.

        A conversation that the chat template rejects is repeated in the strict form, and
        the model added to `strict_models`, unless that is `None`.
        """
        self._body = body
        self._strict_models = strict_models
        self.call_ids = call_ids
        self._key = (address, str(body["model"]))
        # The usage of replies that the caller does not get.
        self.earlier: list[Mapping[str, Any] | None] = []
        has_both = (
            bool(body.get("tools"))
            and expects_json(body)
            and body.get("tool_choice") in (None, "auto")
        )
        self._step: Literal["all", "tools", "strict", "schema"] = "all"
        if has_both:
            self._step = "tools" if schema_with_tools == "separate" else "strict"
        n = body.get("n")
        self._is_whole = has_both or (isinstance(n, int) and n > 1)
        self._is_whole |= bool(body.get("tools")) and self._key in _lossy

    @property
    def may_go_on(self) -> bool:
        """Whether a reply without calls is followed by another request."""
        return self._step == "tools"

    def body(self) -> Mapping[str, Any]:
        """Return the current request."""
        body = {**self._body}
        if self._is_whole:
            body.pop("stream", None)
            body.pop("stream_options", None)
        if self._step == "schema":
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                body.pop(name, None)
        if self._step == "tools":
            del body["response_format"]
        if self._step in ("tools", "strict"):
            body["tools"] = list(map(_strict, body["tools"]))
        return body

    def revise(self, error: NscaleError) -> bool:
        """Put a rejected conversation in the strict form; return whether it changed."""
        message = error_message(error_object(error.body) or {})
        if self._strict_models is None or violated_rule(message or "") is None:
            return False
        body = self.body()
        messages = fit_request(body["messages"], STRICT, body)
        self._body = {**self._body, "messages": messages}
        return messages is not body["messages"]

    def accept(self) -> None:
        """Remember that the service has accepted the strict form."""
        model, models = self._body["model"], self._strict_models
        if models is None or model in models:
            return
        if len(models) >= _MAX_STRICT:
            models.clear()
        models.add(model)
        logger.warning(
            "The chat template of %s rejected a conversation, and accepted its strict "
            "form. All are sent so from now on; `template_rules` overrides this.",
            model,
        )

    def go_on(self, usage: Mapping[str, Any] | None) -> None:
        """Ask for the answer by the schema, after a reply without calls."""
        self._step = "schema"
        self.earlier.append(usage)

    def lost(self, usage: Mapping[str, Any] | None) -> None:
        """Note that a stream lost its whole reply, so that no other is requested."""
        if not self._is_whole:
            _lossy.add(self._key)
            self._is_whole = True
        self.earlier.append(usage)


def expects_json(body: Mapping[str, Any]) -> bool:
    """Return whether a request constrains the answer to JSON."""
    form = body.get("response_format")
    return isinstance(form, dict) and form.get("type") in ("json_schema", "json_object")


def _strict(tool: Any) -> Any:
    """Return a tool that is strict unless it says otherwise."""
    # vLLM 0.32.0 constrains calls to the tools' schemas then, and allows calls beside a
    # schema; 0.21.0 ignores it.
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping):
        return tool
    return {**tool, "function": {"strict": True, **function}}
