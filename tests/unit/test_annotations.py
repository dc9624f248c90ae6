"""langchain-core resolves the annotations of a method to see what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, get_type_hints

import httpx2
import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableLambda,
)
from pydantic import BaseModel

from langchain_nscale import ChatNscale, NscaleEmbeddings
from tests.unit import service

PUBLIC_MODULES = (
    "langchain_nscale",
    "langchain_nscale.errors",
    "langchain_nscale.models",
    "langchain_nscale.openai",
    "langchain_nscale.testing",
    "langchain_nscale.usage",
)


class Person(BaseModel):
    """A person."""

    name: str


def find_person(name: str) -> str:
    """Find a person."""
    return name


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public callable, and every public method of every public class."""
    for module in map(import_module, PUBLIC_MODULES):
        for name in list(dir(module)):
            public = getattr(module, name)
            home = getattr(public, "__module__", "")
            if name.startswith("_") or not str(home).startswith("langchain_nscale"):
                continue
            if inspect.isclass(public):
                yield from methods(public)
            elif callable(public):
                yield f"{home}.{name}", public


def methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for owner in cls.__mro__:
        for name, value in list(vars(owner).items()):
            method = getattr(value, "__func__", getattr(value, "fget", value))
            # Named tuples and pydantic add methods of their own modules.
            is_ours = (
                str(getattr(method, "__module__", "")).startswith("langchain_nscale")
                and getattr(method, "__globals__", {}).get("__name__") == owner.__module__
            )
            if is_ours and (not name.startswith("_") or name == "__init__"):
                yield f"{cls.__module__}.{cls.__qualname__}.{name}", method


@pytest.mark.parametrize(
    "function", [pytest.param(f, id=name) for name, f in dict(functions()).items()]
)
def test_annotations_can_be_resolved(function: Callable[..., Any]) -> None:
    assert isinstance(get_type_hints(function), dict)


@pytest.mark.parametrize("cls", [ChatNscale, NscaleEmbeddings])
def test_annotations_of_the_fields_can_be_resolved(cls: type) -> None:
    assert get_type_hints(cls)["service_token"]


# --- with wrappers of langchain-core ----------------------------------------------------


CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "find_person", "arguments": '{"name": "Ann"}'},
}


def answer(body: dict[str, Any]) -> Any:
    """Fail for the model "down"; answer with JSON, or a call if there are tools."""
    if body["model"] == "down":
        return httpx2.Response(400, json={"error": {"message": "down"}})
    if "input" in body:
        return service.vectors([1.0, 0.5])
    if "tools" in body:
        return service.completion(None, tool_calls=[CALL])
    return service.completion('{"name": "Ann"}')


def make(model: str = "m") -> ChatNscale:
    return service.chat(service.Service(answer), model=model)


WRAPPERS: dict[str, Callable[[], Any]] = {
    "with_fallbacks": lambda: make("down").with_fallbacks([make()]),
    "configurable_alternatives": lambda: make().configurable_alternatives(
        ConfigurableField(id="llm"), other=make("down")
    ),
    "configurable_fields": lambda: make().configurable_fields(
        temperature=ConfigurableField(id="temperature")
    ),
    "bind": lambda: make().bind(temperature=0),
    "with_config": lambda: make().with_config(tags=["a"]),
}
METHODS: dict[str, Callable[[Any], Runnable[Any, Any]]] = {
    "bind_tools": lambda model: model.bind_tools([find_person]),
    "with_structured_output": lambda model: model.with_structured_output(Person),
    "with_structured_output, raw": lambda model: model.with_structured_output(
        Person, include_raw=True
    ),
}


def check(output: Any) -> None:
    if isinstance(output, AIMessage):
        assert [call["name"] for call in output.tool_calls] == ["find_person"]
        return
    parsed = output["parsed"] if isinstance(output, dict) else output
    assert parsed == Person(name="Ann")


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("method", METHODS)
async def test_wrapped_models_have_the_methods_that_return_a_runnable(
    wrapper: str, method: str
) -> None:
    """Reported: NameError: name 'Method' is not defined."""
    runnable = METHODS[method](WRAPPERS[wrapper]())
    check(runnable.invoke("Who?"))
    check(await runnable.ainvoke("Who?"))


@pytest.mark.parametrize("method", METHODS)
async def test_their_results_can_be_wrapped(method: str) -> None:
    bad, good = METHODS[method](make("down")), METHODS[method](make())
    for runnable in (
        bad.with_fallbacks([good]),
        good.with_retry(stop_after_attempt=2),
        good.with_config(tags=["a"]),
    ):
        check(runnable.invoke("Who?"))
        check(await runnable.ainvoke("Who?"))


async def test_retried_models_answer() -> None:
    model = make().with_retry(stop_after_attempt=2)
    assert model.invoke("Who?").text == '{"name": "Ann"}'
    assert (await model.ainvoke("Who?")).text == '{"name": "Ann"}'


def embeddings(model: str = "m") -> RunnableLambda[str, list[float]]:
    made = service.embeddings(service.Service(answer), model=model)
    return RunnableLambda(made.embed_query, made.aembed_query)


async def test_embeddings_work_in_the_same_wrappers() -> None:
    """LangChain's embeddings are no runnables: chains use their methods."""
    for runnable in (
        embeddings("down").with_fallbacks([embeddings()]),
        embeddings().with_retry(stop_after_attempt=2),
        embeddings().bind(),
    ):
        assert runnable.invoke("hi") == [1.0, 0.5]
        assert await runnable.ainvoke("hi") == [1.0, 0.5]
