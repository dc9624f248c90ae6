from __future__ import annotations

import asyncio
import gc
import json
import pickle
import sys
import weakref
from collections.abc import Iterator
from contextvars import copy_context
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import opentelemetry.metrics
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableLambda
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from langchain_nscale import (
    ModelUsage,
    NscaleModel,
    NscaleServerError,
    NscaleUsageCallbackHandler,
    get_nscale_usage_callback,
    langsmith_costs,
    list_models,
)
from langchain_nscale._usage.ledger import Call, Ledger
from tests.unit.service import Service, embeddings, vectors

PRICES = {"m": (0.5, "2.00")}


def list_at(price: int) -> None:
    """Fetch a list in which input has a price."""
    listed = {"id": "m", "pricing": {"input": price, "output": 0}}
    client = Service({"data": [listed]}).client
    list_models(service_token="t", http_client=client)


def embed_with(*reports: NscaleUsageCallbackHandler) -> None:
    service = Service({**vectors([1.0]), "usage": {"prompt_tokens": 3}})
    embeddings(service, callbacks=list(reports)).embed_documents(["a"])


def used(given: int = 10, made: int = 5, **more: Any) -> dict[str, Any]:
    counts = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    return {**counts, **more}


def run(
    usage: NscaleUsageCallbackHandler,
    counts: dict[str, Any] | None = None,
    error: BaseException | None = None,
    **metadata: Any,
) -> None:
    """A call as langchain-core reports it."""
    run_id = uuid4()
    told = {"ls_model_name": "m", "ls_provider": "nscale"}
    usage.on_chat_model_start({}, [[]], run_id=run_id, metadata=told)
    if error is not None:
        usage.on_llm_error(error, run_id=run_id)
        return
    message = AIMessage("x", response_metadata=metadata)
    message.usage_metadata = counts  # type: ignore[assignment]  # a dict of the same keys
    result = LLMResult(generations=[[ChatGeneration(message=message)]])
    usage.on_llm_end(result, run_id=run_id)


class TestSpend:
    def test_by_prices_given(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run(usage, used(1_000_000, 1_000_000))
        assert usage.cost == Decimal("2.5")
        assert usage.by_model["m"].known_cost == Decimal("2.5")

    def test_by_models_given(self) -> None:
        listed = [NscaleModel("M", input_price=Decimal(1), output_price=Decimal(3))]
        usage = NscaleUsageCallbackHandler(listed)
        run(usage, used(1_000_000, 1_000_000))
        assert usage.cost == 4

    def test_by_the_newest_list(self) -> None:
        usage = NscaleUsageCallbackHandler()
        run(usage, used(1_000_000, 0))
        assert usage.cost is None
        list_at(7)
        assert usage.cost == 7

    def test_a_free_model_costs_nothing(self) -> None:
        usage = NscaleUsageCallbackHandler({"m": (0, 0)})
        run(usage, used())
        assert usage.cost == 0

    def test_an_unknown_price_makes_it_unknown_and_never_zero(self) -> None:
        usage = NscaleUsageCallbackHandler({"other": (1, 1)})
        run(usage, used())
        assert usage.cost is None
        assert usage.as_dict()["total"]["cost"] is None
        assert "unknown" in str(usage)
        run(usage, used(1_000_000, 0), model_name="other")
        assert usage.cost is None
        assert usage.total.known_cost == 1
        assert "at least 1.000000" in str(usage)

    def test_a_reply_without_usage_makes_it_unknown(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run(usage, None)
        assert usage.total.unreported == 1
        assert usage.cost is None

    def test_the_price_of_the_model_asked_for(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run(usage, used(1_000_000, 0), model_name="m-fp8-build-7")
        assert list(usage.by_model) == ["m-fp8-build-7"]
        assert usage.cost == Decimal("0.5")

    def test_images_have_no_price_for_tokens(self) -> None:
        image = NscaleModel(
            "m", input_price=Decimal(0), output_price=Decimal(1), kind="image"
        )
        usage = NscaleUsageCallbackHandler([image])
        run(usage, used())
        assert usage.cost is None

    @pytest.mark.parametrize("price", [("free", 1), (1, None), (-1, 1)])
    def test_what_is_no_price(self, price: Any) -> None:
        with pytest.raises(ValueError, match=r"`prices`.*'m'"):
            NscaleUsageCallbackHandler({"m": price})

    def test_langchains_cache_is_free(self) -> None:
        usage, theirs = NscaleUsageCallbackHandler(PRICES), UsageMetadataCallbackHandler()
        reply = AIMessage("x", response_metadata={"model_name": "m"})
        reply.usage_metadata = used()  # type: ignore[assignment]  # a dict of the same keys
        model = GenericFakeChatModel(messages=iter([reply]), cache=InMemoryCache())
        for _ in range(3):
            model.invoke("Hi", {"callbacks": [usage, theirs]})
        total = usage.by_model["m"]
        assert (total.calls, total.cache_hits) == (3, 2)
        assert total.input_tokens == theirs.usage_metadata["m"]["input_tokens"] == 30
        assert total.cost == (10 * Decimal("0.5") + 5 * 2) / 1_000_000


class TestCounts:
    def test_tokens(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        details = {
            "input_token_details": {"cache_read": 4},
            "output_token_details": {"reasoning": 3},
        }
        run(usage, used(10, 5, **details))
        run(usage, used(1, 2))
        total = usage.by_model["m"]
        assert (total.input_tokens, total.cached_tokens) == (11, 4)
        assert (total.output_tokens, total.reasoning_tokens) == (7, 3)
        assert total.total_tokens == 18

    def test_errors_and_retries(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run(usage, error=NscaleServerError("x", retries=2))
        run(usage, error=ValueError("x"))
        run(usage, used(), retries=1)
        total = usage.by_model["m"]
        assert total.errors == {"NscaleServerError": 1, "ValueError": 1}
        assert (total.calls, total.failed, total.retries) == (3, 2, 3)
        assert total.cost is not None  # an error before the first token isn't paid for

    @pytest.mark.parametrize("error", [GeneratorExit(), asyncio.CancelledError()])
    def test_giving_up_is_no_error(self, error: BaseException) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run(usage, error=error)
        assert (usage.total.failed, usage.total.cancelled) == (0, 1)
        assert usage.cost is None  # what the service counts of it, nobody knows

    def test_an_error_after_the_first_token(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run_id = uuid4()
        usage.on_chat_model_start({}, [[]], run_id=run_id)
        usage.on_llm_new_token("x", run_id=run_id)
        usage.on_llm_error(ValueError("x"), run_id=run_id)
        assert usage.by_model["unknown"].unreported == 1

    def test_times(self) -> None:
        now = 0.0
        ledger = Ledger(lambda _: None)
        ledger.begin("a", Call("m", began=now, clock=lambda: now))
        now = 1.5
        ledger.first_token("a")
        now = 4.0
        ledger.first_token("a")  # only the first counts
        ledger.end("a", used())
        ledger.begin("b", Call("m", began=2.0, clock=lambda: now))
        ledger.end("b", used())
        total = ledger.entries()["m"]
        assert total.mean_seconds == pytest.approx(3.0)
        assert total.longest == pytest.approx(4.0)
        assert total.mean_seconds_to_first_token == pytest.approx(1.5)
        assert total.streams == 1

    def test_a_missing_total_is_the_sum(self) -> None:
        ledger = Ledger(lambda _: None)
        ledger.begin("a", Call("m"))
        ledger.end("a", {"input_tokens": 3, "output_tokens": 2})
        assert ledger.entries()["m"].total_tokens == 5

    def test_the_longest_of_short_calls(self) -> None:
        assert NscaleUsageCallbackHandler().total.longest == 0.0
        ledger = Ledger(lambda _: None)
        ledger.begin("a", Call("m", began=1.0, clock=lambda: 1.5))
        ledger.end("a", used())
        assert ledger.entries()["m"].longest == pytest.approx(0.5)

    def test_what_has_not_begun_cannot_end(self) -> None:
        usage = NscaleUsageCallbackHandler()
        usage.on_llm_end(LLMResult(generations=[]), run_id=uuid4())
        usage.on_llm_new_token("x", run_id=uuid4())
        assert usage.by_model == {}

    def test_a_result_without_messages(self) -> None:
        usage = NscaleUsageCallbackHandler()
        run_id = uuid4()
        params = {"model": "p"}
        usage.on_chat_model_start({}, [[]], run_id=run_id, invocation_params=params)
        usage.on_llm_end(LLMResult(generations=[[]]), run_id=run_id)
        assert usage.by_model["p"].unreported == 1


COUNTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.booleans(),
    ),
    max_size=20,
)


@given(COUNTS)
def test_sums_are_exact(calls: list[tuple[str, int, int, bool]]) -> None:
    prices = {"a": ("0.1", "0.3"), "b": ("0.01", "0.03"), "c": ("1", "2")}
    usage = NscaleUsageCallbackHandler(prices, metrics=False)
    for model, given_, made, hit in calls:
        run(
            usage,
            used(given_, made, **({"total_cost": 0} if hit else {})),
            model_name=model,
        )
    for model, (read, written) in prices.items():
        own = [call for call in calls if call[0] == model]
        total = usage.by_model.get(model, ModelUsage())
        assert total.input_tokens == sum(call[1] for call in own)
        assert total.output_tokens == sum(call[2] for call in own)
        paid = [call for call in own if not call[3]]
        costs = (c[1] * Decimal(read) + c[2] * Decimal(written) for c in paid)
        assert total.cost == sum(costs, Decimal(0)) / 1_000_000
    assert usage.total.calls == len(calls)
    assert usage.total.total_tokens == sum(call[1] + call[2] for call in calls)


class TestBlocks:
    @pytest.fixture
    def model(self) -> GenericFakeChatModel:
        def replies() -> Iterator[AIMessage]:
            while True:
                reply = AIMessage("x", response_metadata={"model_name": "m"})
                reply.usage_metadata = used()  # type: ignore[assignment]  # likewise
                yield reply

        return GenericFakeChatModel(messages=replies())

    def test_nested(self, model: GenericFakeChatModel) -> None:
        with get_nscale_usage_callback() as outer:
            model.invoke("1")
            with get_nscale_usage_callback() as inner:
                model.invoke("2")
            model.invoke("3")
        model.invoke("4")
        assert (outer.total.calls, inner.total.calls) == (3, 1)
        assert outer.total.input_tokens == 30

    def test_a_block_inside_a_chain_that_began_outside(
        self, model: GenericFakeChatModel
    ) -> None:
        seen = []

        def step(text: str) -> Any:
            with get_nscale_usage_callback() as inner:
                reply = model.invoke(text)
            seen.append(inner.total.calls)
            return reply

        with get_nscale_usage_callback() as outer:
            RunnableLambda(step).invoke("Hi")
        assert seen == [1]
        assert outer.total.calls == 1  # not once by inheritance, once by the block

    def test_a_block_that_was_not_entered_says_so(
        self, model: GenericFakeChatModel
    ) -> None:
        usage: Any = get_nscale_usage_callback()
        with pytest.raises(AttributeError, match=r"`with get_nscale_usage_callback\(\)"):
            _ = usage.total
        with pytest.raises(AttributeError, match=r"NscaleUsageCallbackHandler\(\)"):
            model.invoke("Hi", {"callbacks": [usage]})
        assert not hasattr(usage, "cost")

    def test_an_exception_ends_a_block(self, model: GenericFakeChatModel) -> None:
        with pytest.raises(RuntimeError), get_nscale_usage_callback() as usage:
            raise RuntimeError
        model.invoke("Hi")
        assert usage.total.calls == 0

    async def test_tasks_have_their_own(self, model: GenericFakeChatModel) -> None:
        async def task(calls: int) -> int:
            with get_nscale_usage_callback() as usage:
                for _ in range(calls):
                    await model.ainvoke("Hi")
                    await asyncio.sleep(0)
                return usage.total.calls

        with get_nscale_usage_callback() as around:
            assert await asyncio.gather(*map(task, range(5))) == [0, 1, 2, 3, 4]
        assert around.total.calls == 10

    def test_no_hook_is_left_per_block(self) -> None:
        from langchain_core.tracers import context  # noqa: PLC0415  # its list is private

        before = len(context._configure_hooks)
        for _ in range(3):
            with get_nscale_usage_callback():
                pass
        assert len(context._configure_hooks) == before

    def test_embeddings_are_counted_once_in_each_report(self) -> None:
        handler = NscaleUsageCallbackHandler()
        with get_nscale_usage_callback() as usage:
            embed_with(handler, usage)
            assert (handler.total.calls, usage.total.calls) == (1, 1)
            copy_context().run(embed_with)
        embed_with()
        assert (handler.total.calls, usage.total.calls) == (1, 2)

    def test_the_first_token_by_events(self) -> None:
        usage = NscaleUsageCallbackHandler()
        for seen, streams in (
            (["message-start"], 0),
            (["message-start", "content-block-start"], 1),
        ):
            run_id = uuid4()
            usage.on_chat_model_start({}, [[]], run_id=run_id)
            for event in seen:
                usage.on_stream_event({"event": event}, run_id=run_id)
            usage.on_llm_end(LLMResult(generations=[[]]), run_id=run_id)
            assert usage.total.streams == streams


class TestRendering:
    def test_json(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run(usage, used())
        run(usage, used(), model_name="n")
        run(usage, error=ValueError("x"))
        shown = json.loads(usage.to_json(indent=1))
        assert shown == usage.as_dict()
        assert set(shown["models"]) == {"m", "n"}
        assert shown["models"]["m"]["errors"] == {"ValueError": 1}
        assert shown["models"]["m"]["cost"] == pytest.approx(0.000015)
        assert shown["total"]["calls"] == 3

    def test_table(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        assert str(usage).splitlines() == [str(usage)]  # the head alone
        run(usage, used(1_234_567, 5))
        head, row = str(usage).splitlines()
        assert head.split()[:4] == ["model", "calls", "input", "output"]
        assert row.split()[:4] == ["m", "1", "1,234,567", "5"]
        assert row.endswith("0.617294")
        run(usage, error=ValueError("x"))
        assert str(usage).split()[:3] == ["model", "calls", "errors"]
        run(usage, used(), model_name="n")
        assert str(usage).splitlines()[-1].startswith("total")

    def test_repr(self) -> None:
        usage = NscaleUsageCallbackHandler()
        assert repr(usage) == (
            "NscaleUsageCallbackHandler(calls=0, total_tokens=0, cost=0)"
        )


class TestPickles:
    def test_counts_travel(self) -> None:
        usage = NscaleUsageCallbackHandler(PRICES)
        run(usage, used(1_000_000, 0), model_name="m-7")
        usage.on_chat_model_start({}, [[]], run_id=uuid4())  # stays behind
        again = pickle.loads(pickle.dumps(usage))
        assert again.as_dict() == usage.as_dict()
        run(again, used())
        assert again.total.calls == 2

    def test_merge(self) -> None:
        one, two = (NscaleUsageCallbackHandler(PRICES) for _ in "12")
        run(one, used(1_000_000, 0))
        run(two, used(1_000_000, 0), model_name="m-7")
        run(two, error=ValueError("x"))
        one.merge(pickle.loads(pickle.dumps(two)))
        assert one.total.calls == 3
        assert one.cost == 1
        assert one.total.errors == {"ValueError": 1}


class TestMetrics:
    @staticmethod
    def read(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
        data: Any = reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def test_as_the_conventions_have_them(self) -> None:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        with get_nscale_usage_callback(meter_provider=provider) as usage:
            run(usage, used(10, 5), model_name="m-7")
            with get_nscale_usage_callback() as inner:  # isn't to count it twice
                run(inner, used(10, 5), model_name="m-7")
        found = self.read(reader)
        common = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "nscale",
            "gen_ai.request.model": "m",
            "gen_ai.response.model": "m-7",
        }
        tokens = {
            point.attributes["gen_ai.token.type"]: point
            for point in found["gen_ai.client.token.usage"]
        }
        assert tokens["input"].sum == 20
        assert tokens["output"].sum == 10
        assert dict(tokens["input"].attributes) == {
            **common,
            "gen_ai.token.type": "input",
        }
        assert tokens["input"].explicit_bounds[:3] == (1, 4, 16)
        (duration,) = found["gen_ai.client.operation.duration"]
        assert dict(duration.attributes) == common
        assert duration.count == 2
        assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)

    def test_errors_and_embeddings(self) -> None:
        reader = InMemoryMetricReader()
        usage = NscaleUsageCallbackHandler(meter_provider=MeterProvider([reader]))
        run(usage, error=NscaleServerError("x"))
        embed_with(usage)
        found = self.read(reader)
        errors = [
            point.attributes.get("error.type")
            for point in found["gen_ai.client.operation.duration"]
        ]
        assert set(errors) == {"NscaleServerError", None}
        (tokens,) = found["gen_ai.client.token.usage"]
        assert tokens.attributes["gen_ai.operation.name"] == "embeddings"
        assert tokens.sum == 3

    def test_none_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
        usage = NscaleUsageCallbackHandler()
        run(usage, used())
        assert usage.total.calls == 1

    @pytest.fixture
    def as_global(self, monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        monkeypatch.setattr(opentelemetry.metrics, "get_meter_provider", lambda: provider)
        return reader

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("opentelemetry.instrumentation.genai.langchain", "LangChainInstrumentor"),
            ("opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
        ],
    )
    def test_what_an_instrumentation_records_is_not_recorded_twice(
        self,
        module: str,
        name: str,
        as_global: InMemoryMetricReader,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        instrumentor = SimpleNamespace(is_instrumented_by_opentelemetry=True)
        fake = SimpleNamespace(**{name: lambda: instrumentor})
        monkeypatch.setitem(sys.modules, module, fake)
        usage = NscaleUsageCallbackHandler()
        run(usage, used(10, 5))
        assert self.read(as_global) == {}
        embed_with(usage)  # nobody else records it
        (tokens,) = self.read(as_global)["gen_ai.client.token.usage"]
        assert tokens.sum == 3
        run(NscaleUsageCallbackHandler(metrics=True), used(10, 5))
        instrumentor.is_instrumented_by_opentelemetry = False
        run(usage, used(10, 5))
        found = self.read(as_global)["gen_ai.client.token.usage"]
        assert sum(point.sum for point in found) == 3 + 2 * 15
        assert usage.total.total_tokens == 33  # the report has all of them

    def test_handlers_share_their_instruments(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Without an SDK, the API keeps each for ever: one handler per web request leaks.
        made = []

        class Provider:
            def get_meter(self, name: str, version: str) -> Any:
                made.append((name, version))
                return MeterProvider().get_meter(name)

        provider = Provider()
        monkeypatch.setattr(opentelemetry.metrics, "get_meter_provider", lambda: provider)
        for _ in range(3):
            NscaleUsageCallbackHandler()
            with get_nscale_usage_callback():
                pass
        assert len(made) == 1
        NscaleUsageCallbackHandler(meter_provider=Provider())
        assert len(made) == 2

    def test_handlers_need_no_garbage_collector(self) -> None:
        handler = NscaleUsageCallbackHandler()
        seen = weakref.ref(handler)
        gc.disable()
        try:
            del handler
            assert seen() is None
        finally:
            gc.enable()

    def test_none_if_not_wanted(self) -> None:
        reader = InMemoryMetricReader()
        usage = NscaleUsageCallbackHandler(
            metrics=False, meter_provider=MeterProvider([reader])
        )
        run(usage, used())
        assert self.read(reader) == {}


METADATA = {"ls_provider": "nscale", "ls_model_name": "M"}


class TestLangSmithCosts:
    def test_added(self) -> None:
        metadata = {**METADATA, "usage_metadata": used(1_000_000, 500_000)}
        added = langsmith_costs(PRICES)(metadata)
        costs = {"input_cost": 0.5, "output_cost": 1.0, "total_cost": 1.5}
        assert added["usage_metadata"] == {**used(1_000_000, 500_000), **costs}
        assert "input_cost" not in metadata["usage_metadata"]  # a copy

    @pytest.mark.parametrize(
        "metadata",
        [
            {},
            METADATA,
            {**METADATA, "ls_model_name": "other", "usage_metadata": used()},
            {**METADATA, "ls_provider": "openai", "usage_metadata": used()},
            {**METADATA, "usage_metadata": used(total_cost=0)},
        ],
    )
    def test_nothing_to_add(self, metadata: dict[str, Any]) -> None:
        assert langsmith_costs(PRICES)(metadata) == metadata

    def test_by_the_newest_list(self) -> None:
        add_costs = langsmith_costs()
        metadata = {**METADATA, "usage_metadata": used(1_000_000, 0)}
        assert add_costs(metadata) == metadata
        list_at(7)
        assert add_costs(metadata)["usage_metadata"]["total_cost"] == 7
