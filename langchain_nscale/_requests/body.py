"""Builds the JSON body of a chat request."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal

from langchain_nscale._model_facts import is_known_model
from langchain_nscale._requests.fitting import fit_request
from langchain_nscale._requests.schemas import response_format
from langchain_nscale._requests.tool_formats import format_tools
from langchain_nscale._requests.tools import (
    api_name,
    check_choice_without_tools,
    convert_tool_choice,
    tool_names,
    with_api_names,
)
from langchain_nscale.templates import TemplateRules

ReasoningHistory = Literal["never", "tool_turns", "always"]

# Arguments of a call that change how it is sent, not what.
CALL_SETTINGS = {"extra_headers", "extra_query", "max_retries", "timeout"}
# Arguments that never become fields of the request.
_NEVER_FIELDS = (
    {"extra_body", "ls_structured_output_format"}
    | {"stream", "stream_options", "stream_usage"}
    | CALL_SETTINGS
)
# Fields of the Chat Completions API, vLLM's own included: the prompt, ...
_API_FIELDS = frozenset(
    {"add_generation_prompt", "add_special_tokens", "chat_template", "documents", "model"}
    | {"chat_template_kwargs", "continue_final_message", "echo", "media_io_kwargs"}
    | {"mm_processor_kwargs", "prompt_cache_key", "cache_salt", "truncate_prompt_tokens"}
    # ... what to generate, ...
    | {"function_call", "functions", "parallel_tool_calls", "tool_choice", "tools"}
    | {"guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json"}
    | {"guided_regex", "guided_whitespace_pattern", "response_format"}
    | {"structural_tag", "structured_outputs", "audio", "modalities", "verbosity"}
    | {"enable_thinking", "include_reasoning", "reasoning", "reasoning_effort"}
    | {"thinking", "thinking_token_budget", "prediction", "web_search_options"}
    # ... how to choose tokens, ...
    | {"allowed_token_ids", "bad_words", "frequency_penalty", "length_penalty"}
    | {"logit_bias", "logits_processors", "min_p", "n", "presence_penalty", "seed"}
    | {"repetition_penalty", "temperature", "top_k", "top_p", "use_beam_search"}
    # ... where to stop, ...
    | {"ignore_eos", "include_stop_str_in_output", "max_completion_tokens", "max_tokens"}
    | {"min_tokens", "stop", "stop_token_ids"}
    # ... what to return, ...
    | {"detokenize", "logprobs", "prompt_logprobs", "return_token_ids", "top_logprobs"}
    | {"return_tokens_as_token_ids", "skip_special_tokens", "stream", "stream_options"}
    | {"spaces_between_special_tokens"}
    # ... and how the service treats the request.
    | {"kv_transfer_params", "metadata", "priority", "request_id", "safety_identifier"}
    | {"service_tier", "store", "user", "vllm_xargs"}
)

_KNOWN = _API_FIELDS | _NEVER_FIELDS


@dataclass(eq=False, repr=False)  # not frozen: created for each call
class BodySettings:
    """The settings of a model that shape its requests."""

    parameters: Mapping[str, Any]  # fields of the request, `model` included
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] | None = None
    stop: str | Sequence[str] | None = None
    stream_usage: bool = True
    reasoning_history: ReasoningHistory = "never"
    # Returns what a model's template carries; `None` to send messages as they are.
    template_rules: Callable[[str], TemplateRules | None] = TemplateRules.for_model
    accepts_images: Callable[[str], bool] = lambda _: True


def request_body(
    settings: BodySettings,
    messages: Sequence[Any],
    call: Mapping[str, Any],
    *,
    stop: str | Sequence[str] | None = None,
    stream: bool = False,
) -> dict[str, Any]:
    """Build the body of a chat request.

    The order of precedence, from lowest to highest, is: the model's parameters, its
    `model_kwargs`, the arguments of the call (`None` removes a field), the model's
    `extra_body`, the call's `extra_body`, and `stream`. Stop sequences are combined
    instead, and so are `stream_options`, which the call's `stream_usage` and then the
    model's complete. `max_completion_tokens` replaces `max_tokens`.
    """
    check_call(call)
    extra = {**(settings.extra_body or {}), **dict_argument(call, "extra_body")}
    fields = {**settings.parameters, **settings.model_kwargs, **call}
    model = extra.get("model", fields["model"])
    for name in (fields["model"], model):
        if not isinstance(name, str) or not name:
            msg = (
                f"`model` is {reprlib.repr(name)}: pass the ID of a model, or omit the "
                "argument."
            )
            raise ValueError(msg)
    fields = {name: value for name, value in fields.items() if value is not None}
    fields["stop"] = merge_stop(
        settings.stop, settings.model_kwargs.get("stop"), call.get("stop"), stop
    )
    _drop_replaced_limit(fields, extra)
    if schema := fields.get("response_format"):
        fields["response_format"] = response_format(schema)
    _convert_tools(fields)
    body = {**fields, **extra}
    if "messages" not in body:
        sent = fitted(settings, api_messages(settings, messages, model), body)
        body = {"messages": sent, **body}
        _check_tools(settings, body)
    _check_messages(body["messages"])
    options = _stream_options(settings, call, extra)
    for name in _NEVER_FIELDS & body.keys():
        del body[name]
    _complete(body)
    if stream:
        body["stream"] = True
        if options:
            body["stream_options"] = options
    return body


def _drop_replaced_limit(fields: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Leave one limit of the output, since engines let the wrong one of two decide."""
    if "max_completion_tokens" in fields or "max_completion_tokens" in extra:
        fields.pop("max_tokens", None)
    if "max_tokens" in extra:
        fields.pop("max_completion_tokens", None)


def check_call(call: Mapping[str, Any]) -> None:
    """Reject arguments of a call that neither the API nor LangChain knows."""
    for name in call:
        if name not in _KNOWN:
            similar = get_close_matches(name, _KNOWN, n=1)
            hint = f" Did you mean `{similar[0]}`?" if similar else ""
            msg = (
                f"`{name}` is not a field of Nscale's API.{hint} To send it as is, pass "
                "it in `extra_body`."
            )
            raise ValueError(msg)


def dict_argument(call: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an argument that must be a dict, or an empty dict if it is not set."""
    value = call.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        # Not the value, because headers and queries can be secret.
        msg = f"`{name}` is of type {type(value).__name__}: use a dict."
        raise ValueError(msg)  # noqa: TRY004  # like every other invalid setting
    return value


def _check_messages(messages: object) -> None:
    """Reject `messages` from pass-through fields unless it is a list of dicts."""
    if not isinstance(messages, (list, tuple)) or not all(
        isinstance(message, Mapping) for message in messages
    ):
        msg = (
            f"`messages` is {reprlib.repr(messages)}: pass messages to the model itself, "
            "or use a list of messages in the API's form."
        )
        raise ValueError(msg)


def _convert_tools(fields: dict[str, Any]) -> None:
    """Convert tools and their options, and omit the options if there are no tools."""
    tools = format_tools(fields.pop("tools", None) or ())
    choice = fields.pop("tool_choice", None)
    if not tools:
        check_choice_without_tools(choice)
        fields.pop("parallel_tool_calls", None)
        return
    choice = convert_tool_choice(choice, tool_names(tools))
    if isinstance(choice, dict):
        name = api_name(choice["function"]["name"])
        choice = {"type": "function", "function": {"name": name}}
    if choice is not None:
        fields["tool_choice"] = choice
    fields["tools"] = with_api_names(tools)


def _complete(body: dict[str, Any]) -> None:
    """Send options that depend on each other together, or not at all."""
    if "top_logprobs" in body:
        if body.get("logprobs") is False or body["top_logprobs"] is None:
            body.pop("top_logprobs")
        else:
            body["logprobs"] = True
    if not body.get("stop"):
        body.pop("stop", None)
    if not body.get("tools"):
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            body.pop(name, None)


def _stream_options(
    settings: BodySettings, call: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for source in (settings.model_kwargs, call, extra):
        if "stream_options" in source:
            options |= dict_argument(source, "stream_options")
    usage = call.get("stream_usage")
    if settings.stream_usage if usage is None else usage:
        options.setdefault("include_usage", True)
    return options


def api_messages(
    settings: BodySettings, messages: Sequence[Any], model: str
) -> list[dict[str, Any]]:
    """Convert messages to the API's form, if they are not dicts that have it."""
    if messages and isinstance(messages[0], dict):  # the command line's
        return list(messages)
    from langchain_nscale._requests.messages import (  # noqa: PLC0415  # imports messages
        answer_every_call,
        convert_messages,
    )

    plain = convert_messages(
        messages,
        reasoning_history=settings.reasoning_history,
        text_only_model=None if settings.accepts_images(model) else model,
        tool_name=api_name,
    )
    return answer_every_call(plain)


def fitted(
    settings: BodySettings, messages: list[dict[str, Any]], body: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return messages as the model's chat template carries them; `body` has the rest."""
    rules = settings.template_rules(body["model"])
    return messages if rules is None else fit_request(messages, rules, body)


def _check_tools(settings: BodySettings, body: Mapping[str, Any]) -> None:
    """Report tools that the model never sees: reject them if its template is known."""
    if not body.get("tools") or body.get("tool_choice") == "none":
        return
    model = body["model"]
    rules = settings.template_rules(model)
    if rules is None or rules.tools:
        return
    if is_known_model(model):
        raise ValueError(_NO_TOOLS.format(model))
    _warn_of_tools(model)


_NO_TOOLS = (
    "{} can't call tools: its chat template leaves them out of the prompt. Use another "
    "model or, for an answer in a schema, `with_structured_output` with "
    "method='prompt'. If your service serves it with a template that shows tools, pass "
    "`template_rules`, or a `profile` with tool_calling=True."
)


@lru_cache(maxsize=256)  # once for each model
def _warn_of_tools(model: str) -> None:
    warnings.warn(_NO_TOOLS.format(model), stacklevel=2)


def merge_stop(*sources: object) -> list[str] | None:
    """Combine stop sequences without duplicates; return `None` if there are none."""
    merged: dict[str, None] = {}
    for source in filter(None, sources):
        sequences: Any = [source] if isinstance(source, str) else source
        is_list = isinstance(sequences, Iterable) and not isinstance(sequences, Mapping)
        texts = list(sequences) if is_list else [None]
        if not all(isinstance(text, str) for text in texts):
            msg = f"`stop` is {reprlib.repr(source)}: use a text or a list of texts."
            raise ValueError(msg)
        merged.update(dict.fromkeys(filter(None, texts)))
    return list(merged) or None
