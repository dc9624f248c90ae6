from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_nscale import (
    NscaleMalformedResponseError,
    get_nscale_usage_callback,
    list_models,
)
from langchain_nscale.models import (
    NscaleModel,
    Price,
    as_price,
    parse_model,
    parse_models,
    similar_ids,
)
from tests.unit.service import Service, chat, completion

LLAMA = {
    "id": "meta-llama/Llama-3.1-8B-Instruct",
    "object": "model",
    "created": 1757808000,
    "owned_by": "Meta",
    "context_length": 131072,
    "pricing": {"input": 0.06, "output": "0.06"},
    "region": "no",
}


def test_a_whole_entry() -> None:
    model = parse_model(LLAMA)
    assert model == NscaleModel(
        id="meta-llama/Llama-3.1-8B-Instruct",
        owned_by="Meta",
        created=datetime(2025, 9, 14, tzinfo=timezone.utc),
        context_length=131072,
        input_price=Decimal("0.06"),
        output_price=Decimal("0.06"),
        kind="chat",
        profile=model.profile,
        extra={"region": "no"},
    )
    assert model.profile is not None
    assert model.profile["tool_calling"] is True
    assert model.price == Price(Decimal("0.06"), Decimal("0.06"))


def test_an_entry_with_an_id_only() -> None:
    assert parse_model({"id": "x"}) == NscaleModel("x")
    assert NscaleModel("x").price is None


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (
            {"id": "Qwen/Qwen3-Embedding-8B", "pricing": {"input": 1, "output": 0}},
            "embedding",
        ),
        ({"id": "black-forest-labs/FLUX.1-schnell", "pricing": {"input": 0}}, "image"),
        ({"id": "stabilityai/stable-diffusion-xl-base-1.0"}, "image"),
        ({"id": "new", "context_length": 4096, "pricing": {"output": 1}}, "chat"),
        ({"id": "new", "context_length": 4096, "pricing": {"output": 0}}, None),
        ({"id": "new"}, None),
    ],
)
def test_kinds(entry: dict[str, Any], kind: str | None) -> None:
    assert parse_model(entry).kind == kind


def test_an_image_models_price_is_not_one_for_tokens() -> None:
    pricing = {"input": 0, "output": 0.0013}
    model = parse_model({"id": "black-forest-labs/FLUX.1-schnell", "pricing": pricing})
    assert model.output_price == Decimal("0.0013")
    assert model.price is None


@pytest.mark.parametrize(
    ("value", "price"),
    [
        (0, Decimal(0)),
        (0.1, Decimal("0.1")),
        ("0.04", Decimal("0.04")),
        (" $1.20 ", Decimal("1.20")),
        *(
            (wrong, None)
            for wrong in (None, True, "", "free", "NaN", "-1", -1, [1], 1e999)
        ),
    ],
)
def test_prices(value: object, price: Decimal | None) -> None:
    assert as_price(value) == price


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["object", "owned_by", "created", "context_length", "pricing", "more"]
)


@given(st.dictionaries(FIELDS, JSON))
def test_no_field_can_break_an_entry(entry: dict[str, Any]) -> None:
    model = parse_model({**entry, "id": "m"})
    assert model.id == "m"
    assert ("more" in model.extra) == ("more" in entry)


def test_lists(caplog: pytest.LogCaptureFixture) -> None:
    body = {"object": "list", "data": [LLAMA, {"id": ""}, "x", {"id": "y"}]}
    listed = parse_models(body)
    assert [model.id for model in listed] == [LLAMA["id"], "y"]
    assert caplog.text.count("without an ID") == 2
    assert parse_models({"data": []}) == []
    assert parse_models([{"id": "bare"}]) == [NscaleModel("bare")]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data": {}}', b"7"])
def test_what_is_not_a_list(body: bytes) -> None:
    client = httpx2.Client(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=body))
    )
    with pytest.raises(NscaleMalformedResponseError, match="list of models"):
        list_models(service_token="t", http_client=client)


IDS = [
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
]


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("meta-llama/llama-3.1-8b-instruct", IDS[0]),
        ("Llama-3.1-8B", IDS[0]),
        ("meta-llama/Llama-3.3-70B-Instruct", IDS[0]),
        ("qwen/qwen-3-8b", IDS[2]),
        ("Qwen3-14B-FP8", IDS[3]),
    ],
)
def test_similar_ids(asked: str, first: str) -> None:
    assert similar_ids(asked, IDS)[0] == first


def test_nothing_is_near() -> None:
    assert similar_ids("gpt-4o", IDS) == []
    assert similar_ids("x", []) == []


def test_a_known_price_is_the_newest() -> None:
    used = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}

    def cost(model: str) -> Decimal | None:
        with get_nscale_usage_callback() as usage:
            service = Service({**completion(), "model": model, "usage": used})
            chat(service, model=model).invoke("Hi")
            return usage.cost

    for token, price in (("one", 1), ("two", 2)):
        listed = {"id": "A/b", "pricing": {"input": price, "output": price}}
        service = Service({"data": [{"id": "c"}, listed]})
        list_models(service_token=token, http_client=service.client)
    assert cost("a/B") == 4
    assert cost("c") is None
    assert cost("d") is None
