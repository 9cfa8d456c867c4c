"""Columns made of arrays and values are written as the events with these values; what no event may hold is refused."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.core.commands import SubmitOrder
from skeet.core.errors import InvalidInput
from skeet.core.market import Bar, BookDelta, Signal, Trade
from skeet.core.record import Event, Meta
from skeet.core.values import EXACT, Side
from skeet.schemas.codec import numbered_codec
from skeet.schemas.columns import plan
from skeet.schemas.columns.building import ListValues, OptionalValues, Value, columns_of, texts_by_id
from skeet.schemas.columns.columns import DecimalColumn
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.encoding import ColumnEncoder
from skeet.schemas.golden import sample

CODEC = numbered_codec()
TRADE: dict[str, Value] = {
    "instrument_id": "BINANCE:BTC/USDT",
    "ts_event": np.array([1_760_000_000_000_000_000, -1]),
    "ts_init": 5,
    "trade_id": ["7", "é"],
    "price_mantissa": np.array([1, 2**62]),
    "size_mantissa": np.array([3, 4], np.int16),
    "price_scale": 8,
    "size_scale": 8,
    "aggressor_side": np.array([1, 2]).astype(np.int32),
    "backfilled": np.array([False, True]),
}


def written(event_class: type[Event], rows: int, values: dict[str, Value]) -> list[bytes]:
    return list(ColumnEncoder(CODEC, event_class).encode(columns_of(event_class, rows, values)))


def trade(**fields: Any) -> bytes:
    one: dict[str, Any] = {"instrument_id": "BINANCE:BTC/USDT", "ts_init": 5, "price_scale": 8, "size_scale": 8}
    return CODEC.encode(Trade(**(one | fields)))


def test_arrays_and_single_values_become_events() -> None:
    first = trade(
        ts_event=1_760_000_000_000_000_000,
        trade_id="7",
        price_mantissa=1,
        size_mantissa=3,
        aggressor_side=Side.BUY,
    )
    second = trade(
        ts_event=-1,
        trade_id="é",
        price_mantissa=2**62,
        size_mantissa=4,
        aggressor_side=Side.SELL,
        backfilled=True,
    )
    assert written(Trade, 2, TRADE) == [first, second]


def test_ids_and_texts_of_a_decoded_batch_are_used_again() -> None:
    names = ["b", "a", "b"]
    trades = [CODEC.encode(dataclasses.replace(sample(Trade), instrument_id=name)) for name in names]
    read = ColumnDecoder(CODEC, Trade).decode_records(trades)
    instruments = read.texts("instrument_id")
    assert instruments.ids is not None
    assert instruments.known is not None
    values: dict[str, Value] = {
        "instrument_id": texts_by_id(instruments.known, instruments.ids[::-1]),
        "ts_event": read.longs("ts_event"),
        "ts_init": read.longs("ts_init"),
        "name": "ema",
        "version": "1",
        "interval": "tick",
        "parameters": ListValues(ends=np.array([1, 1, 1]), items={"key": ["n"], "value": ["20"]}),
        "values": ListValues(
            ends=np.array([1, 3, 3]), items={"key": ["ema", "x", "y"], "value": np.array([0.5, 1.0, 2.0])}
        ),
        "causation_id": read.texts("trade_id"),
        "cause_at": "trades/0/7",
    }
    maps: list[tuple[dict[str, str], dict[str, float]]] = [
        ({"n": "20"}, {"ema": 0.5}), ({}, {"x": 1.0, "y": 2.0}), ({}, {}),
    ]  # fmt: skip
    one = sample(Trade)
    expected = [
        CODEC.encode(
            Signal(
                instrument_id=name,
                ts_event=one.ts_event,
                ts_init=one.ts_init,
                name="ema",
                version="1",
                interval="tick",
                parameters=parameters,
                values=found,
                causation_id=one.trade_id,
                cause_at="trades/0/7",
            )
        )
        for name, (parameters, found) in zip(reversed(names), maps, strict=True)
    ]
    assert written(Signal, 3, values) == expected


def bars(volumes: Value, rows: int) -> list[bytes]:
    given: dict[str, Value] = {field.name: getattr(sample(Bar), field.name) for field in dataclasses.fields(Bar)}
    return written(Bar, rows, given | {"quote_volume": volumes})


def bar(volume: Decimal) -> bytes:
    return CODEC.encode(dataclasses.replace(sample(Bar), quote_volume=volume))


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-(2**66), 2**66) | st.integers(-300, 300))
def test_decimals_are_exact_and_as_short_as_fastavro_writes_them(unscaled: int) -> None:
    volume = Decimal(unscaled).scaleb(-18, EXACT)
    assert bars([volume], 1) == [bar(volume)]


def test_decimals_may_be_one_for_all_or_halves() -> None:
    assert bars(Decimal("-1.5"), 2) == [bar(Decimal("-1.5"))] * 2
    halves = DecimalColumn(high=np.array([0, -1]), low=np.array([7, -7]), scale=18)
    assert bars(halves, 2) == [bar(Decimal("7e-18")), bar(Decimal("-7e-18"))]


def test_optional_values_are_there_or_not() -> None:
    order = sample(SubmitOrder)
    values: dict[str, Value] = {f.name: getattr(sample(Meta), f.name) for f in dataclasses.fields(Meta)}
    values |= {f.name: getattr(order, f.name) for f in dataclasses.fields(SubmitOrder)}
    some = OptionalValues(present=np.array([True, False]), values=[Decimal(3), Decimal(9)])
    orders = [dataclasses.replace(order, limit_price=price) for price in (Decimal(3), None)]
    expected = [CODEC.encode(each, sample(Meta)) for each in orders]
    assert written(SubmitOrder, 2, values | {"limit_price": some}) == expected
    assert written(SubmitOrder, 1, values | {"limit_price": None}) == expected[1:]


REFUSED: dict[str, dict[str, Value]] = {
    "expected instrument_id": {"mood": 1},
    "expected 2": {"ts_event": np.array([1, 2, 3])},
    "values of float64": {"ts_event": np.array([1.5, 2.5])},
    "values of uint64": {"ts_event": np.array([1, 2**63], np.uint64)},
    "'SHORT'; expected one of UNKNOWN, BUY, SELL": {"aggressor_side": "SHORT"},
    "row 1 cannot be written": {"aggressor_side": np.array([1, 3]).astype(np.int32)},
    "cannot be written in UTF-8": {"trade_id": ["\ud800", "x"]},
    "expected text or bytes": {"trade_id": np.array([1, 2])},
    "row 0 cannot be written": {"trade_id": [b"\xff", b"x"]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_no_trade_may_hold_is_refused(message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        written(Trade, 2, TRADE | REFUSED[message])


@pytest.mark.parametrize("volume", ["1e-19", "1e20", "NaN", "Infinity"])
def test_decimals_that_no_column_holds_are_refused(volume: str) -> None:
    with pytest.raises(InvalidInput, match="quote_volume"):
        bars([Decimal(volume)], 1)


def test_a_number_is_no_decimal() -> None:
    with pytest.raises(InvalidInput, match=r"1\.5\); expected a Decimal"):
        bars(np.array([1.5]), 1)


@pytest.mark.parametrize("ends", [[2, 1], [-1, 1], [3, 1]])
def test_lists_that_run_backwards_are_refused(ends: list[int]) -> None:
    values: dict[str, Value] = {f.name: getattr(sample(BookDelta), f.name) for f in dataclasses.fields(BookDelta)}
    for side in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"):
        values[side] = ListValues(ends=np.array(ends), items={"item": np.array([5])})
    with pytest.raises(InvalidInput, match="cannot be written"):
        written(BookDelta, 2, values)


def test_columns_of_another_class_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"expected those of skeet\.market\.Signal"):
        ColumnEncoder(CODEC, Signal).encode(columns_of(Trade, 2, TRADE))


@pytest.mark.parametrize(
    "kind",
    ["float", ["long", "null"], ["null", "long", "string"], ["null", {"type": "array", "items": "long"}]],
    ids=str,
)
def test_a_type_that_no_column_holds_is_named(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"fields": [{"name": "mood", "type": kind}]}
    monkeypatch.setattr(plan, "committed_schema", lambda _: schema)
    plan._plan.cache_clear()
    with pytest.raises(InvalidInput, match=r"Trade\.mood"):
        plan.plan_of(Trade)
    plan._plan.cache_clear()


def test_no_rows_are_no_records() -> None:
    empty = ColumnDecoder(CODEC, Trade).decode_records([])
    assert list(ColumnEncoder(CODEC, Trade).encode(empty)) == []
