"""Values of headers and queries can be secret: they are sent, and shown nowhere."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, dumps
from langchain_core.prompt_values import StringPromptValue
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from langchain_nscale import ChatNscale, NscaleEmbeddings
from tests.pages.runner import ROOT
from tests.unit.service import Service, chat, completion

# pragma: allowlist nextline secret
SECRET = "sk-tenant-42"
SETTINGS: dict[str, dict[str, Any]] = {
    "default_headers": {"default_headers": {"X-Api-Key": SECRET}},
    "default_query": {"default_query": {"key": SECRET}},
    "a query in the address": {"base_url": f"https://x/v1?key={SECRET}"},
}
CALLS: dict[str, dict[str, Any]] = {
    "extra_headers": {"extra_headers": {"X-Api-Key": SECRET}},
    "extra_query": {"extra_query": {"key": SECRET}},
}


class Counting(Service):
    """Numbers its answers, and counts the requests that have the secret."""

    def __init__(self) -> None:
        super().__init__(lambda _: completion(f"answer {len(self.requests)}"))

    @property
    def with_secret(self) -> int:
        sent = [[*each.headers.values(), str(each.url)] for each in self.requests]
        return sum(any(SECRET in text for text in texts) for texts in sent)


def make(service: Service | None = None, **settings: Any) -> ChatNscale:
    return chat(service, **settings)


class Tracer(BaseTracer):
    """Keeps everything that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def _persist_run(self, run: Run) -> None:
        self.text += repr(vars(run))

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> Any:
        self.text += repr((args, kwargs))
        return super().on_chat_model_start(*args, **kwargs)


WAYS: dict[str, Callable[[ChatNscale, Any, dict[str, Any]], Any]] = {
    "invoke": lambda model, config, call: model.invoke("hi", config, **call),
    "stream": lambda model, config, call: list(model.stream("hi", config, **call)),
    "batch": lambda model, config, call: model.batch(["hi"], config, **call),
    "generate": lambda model, config, call: model.generate_prompt(
        [StringPromptValue(text="hi")], **config, **call
    ),
    "bound": lambda model, config, call: model.bind(**call).invoke("hi", config),
    "bound tools": lambda model, config, call: model.bind_tools([], **call).invoke(
        "hi", config
    ),
    "bound twice": lambda model, config, call: (
        model.bind(stop=["x"]).bind(**call).invoke("hi", config)
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*SETTINGS, *CALLS])
def test_they_are_sent_but_in_no_trace(way: str, name: str) -> None:
    service, tracer = Counting(), Tracer()
    model = make(service, **SETTINGS.get(name, {}))
    WAYS[way](model, {"callbacks": [tracer]}, CALLS.get(name, {}))
    assert service.with_secret == len(service.requests) == 1
    assert tracer.text
    assert SECRET not in tracer.text
    if name in CALLS:
        assert "X-Api-Key" in tracer.text or "'key'" in tracer.text  # names are shown


@pytest.mark.parametrize("value", ["X: 1", ["X"], 5])
def test_what_is_no_dict_is_in_no_trace_either(value: Any) -> None:
    tracer = Tracer()
    for name in CALLS:
        with pytest.raises(ValueError, match=f"`{name}` is of type"):
            make().invoke("hi", {"callbacks": [tracer]}, **{name: value})
    assert f"'extra_headers': {value!r}" not in tracer.text
    assert "**********" in tracer.text


@pytest.mark.parametrize("name", SETTINGS)
def test_dumps_leave_them_out(name: str) -> None:
    for made in (
        make(**SETTINGS[name]),
        NscaleEmbeddings(**{"model": "m", "service_token": "t", **SETTINGS[name]}),
    ):
        assert SECRET not in dumps(made)
        assert SECRET not in repr(made)
        assert SECRET not in json.dumps(made.model_dump(), default=str)
        assert SECRET not in made.model_dump_json()


def test_the_page_names_every_setting_that_dumps_leave_out() -> None:
    page = (ROOT / "docs" / "saving.md").read_text(encoding="utf-8")
    excluded = {name for name, field in ChatNscale.model_fields.items() if field.exclude}
    assert {name for name in excluded if f"`{name}`" not in page} == set()
    assert excluded > set(SETTINGS) & set(ChatNscale.model_fields)


@pytest.mark.parametrize("name", CALLS)
def test_dumps_of_bound_models_leave_them_out(name: str) -> None:
    bound = make().bind(**CALLS[name])
    assert SECRET not in dumps(bound)
    assert SECRET not in repr(bound)
    assert SECRET not in repr(dumpd(bound))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_and_pickles_keep_them(
    name: str, copied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSCALE_SERVICE_TOKEN", "t")
    model = make(**SETTINGS[name])
    service = Counting()
    for other in (copied(model), pickle.loads(pickle.dumps(model)), model.model_copy()):
        other.http_client = service.client
        other.invoke("hi")
    assert service.with_secret == len(service.requests) == 3


# --- caches -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SETTINGS, *CALLS])
def test_caches_tell_them_apart_without_showing_them(name: str) -> None:
    cache = InMemoryCache()
    service = Counting()

    def ask(secret: str) -> str:
        settings = replaced(SETTINGS.get(name, {}), secret)
        call = replaced(CALLS.get(name, {}), secret)
        return make(service, cache=cache, **settings).invoke("hi", **call).text

    first = ask(SECRET)
    assert ask("another") != first
    assert ask(SECRET) == first
    assert len(service.requests) == 2
    assert SECRET not in repr(list(cache._cache))


def replaced(values: dict[str, Any], secret: str) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(json.dumps(values).replace(SECRET, secret))
    return text


def test_the_key_of_a_cache_is_the_same_without_them() -> None:
    model = make()
    assert model._get_llm_string() == super(ChatNscale, model)._get_llm_string()


@given(
    one=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    other=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
)
def test_only_calls_with_equal_queries_share_a_cached_answer(
    one: dict[str, str], other: dict[str, str]
) -> None:
    service, cache = Service(), InMemoryCache()
    model = chat(service, cache=cache)
    model.invoke("hi", extra_query=one)
    model.invoke("hi", extra_query=other)
    requests = 1 if one == other else 2
    assert len(service.requests) == requests
    # What is sent with every call differs from what is sent with one.
    for query in (one, dict(reversed(one.items()))):
        chat(service, cache=cache, default_query=query).invoke("hi")
        assert len(service.requests) == requests + 1
