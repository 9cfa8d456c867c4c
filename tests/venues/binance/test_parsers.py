"""Frames of Binance spot as they were recorded, and what may be wrong with them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.core.market import BookDelta, BookSnapshot, Quote, Trade
from skeet.core.values import Side
from skeet.venues.binance.capture import read_capture
from skeet.venues.binance.parsers import (
    MalformedFrame,
    Parser,
    UnknownFrame,
    mantissa,
    parse_minute_bar,
    parse_rest_trade,
)

RECEIVED = 1_723_161_254_087_896_568
BTC = "BINANCE:BTC/USDT"
PARSER = Parser({"BTCUSDT": BTC})

TRADE = {
    "e": "trade",
    "E": 1723161255343,
    "s": "BTCUSDT",
    "t": 3735683259,
    "p": "61837.63000000",
    "q": "0.02000000",
    "T": 1723161255342,
    "m": True,
    "M": True,
}
TICKER = {
    "u": 50093239212,
    "s": "BTCUSDT",
    "b": "61837.63000000",
    "B": "3.78826000",
    "a": "61837.64000000",
    "A": "1.54698000",
}
DEPTH = {
    "e": "depthUpdate",
    "E": 1723161255308,
    "s": "BTCUSDT",
    "U": 50093239203,
    "u": 50093239207,
    "b": [["55653.87000000", "0.00000000"]],
    "a": [["61838.04000000", "0.32332000"], ["61844.30000000", "0.40163000"]],
}


def parse(frame: Any, symbol: str = "") -> Any:
    return PARSER.parse(json.dumps(frame), RECEIVED, symbol)


def test_a_trade_whose_buyer_was_the_maker_was_a_sale_by_the_taker() -> None:
    trade = parse({"stream": "btcusdt@trade", "data": TRADE})
    assert trade == Trade(
        instrument_id=BTC,
        ts_event=1_723_161_255_342_000_000,
        ts_init=RECEIVED,
        trade_id="3735683259",
        price_mantissa=6_183_763_000_000,
        size_mantissa=2_000_000,
        price_scale=8,
        size_scale=8,
        aggressor_side=Side.SELL,
    )
    assert (trade.price, trade.size) == (Decimal("61837.63"), Decimal("0.02"))
    assert parse(TRADE | {"m": False}).aggressor_side is Side.BUY


def test_a_book_ticker_has_no_time_of_its_own_and_gets_that_of_receipt() -> None:
    quote = parse(TICKER)
    assert isinstance(quote, Quote)
    assert (quote.update_id, quote.ts_event, quote.ts_init) == (50093239212, RECEIVED, RECEIVED)
    assert (quote.bid_price, quote.bid_size) == (Decimal("61837.63"), Decimal("3.78826"))
    assert (quote.ask_price, quote.ask_size) == (Decimal("61837.64"), Decimal("1.54698"))


def test_a_depth_frame_is_a_delta_whose_zero_sizes_remove_levels() -> None:
    delta = parse(DEPTH)
    assert isinstance(delta, BookDelta)
    assert (delta.first_update_id, delta.last_update_id) == (50093239203, 50093239207)
    assert (delta.bid_prices, delta.bid_sizes) == ((5_565_387_000_000,), (0,))
    assert delta.ask_prices == (6_183_804_000_000, 6_184_430_000_000)


def test_a_rest_book_takes_its_symbol_from_the_request() -> None:
    snapshot = parse({"lastUpdateId": 5, "bids": [["1.0", "2"]], "asks": []}, symbol="BTCUSDT")
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.instrument_id, snapshot.last_update_id) == (BTC, 5)
    assert (snapshot.bid_prices, snapshot.bid_sizes) == ((100_000_000,), (200_000_000,))


def test_the_answer_to_a_subscription_is_no_market_data() -> None:
    assert parse({"result": None, "id": 1}) is None


def test_a_trade_by_rest_is_backfilled() -> None:
    row = {"id": 7, "price": "1.5", "qty": "2", "quoteQty": "3", "time": 1000, "isBuyerMaker": False}
    trade = parse_rest_trade(row, BTC, RECEIVED)
    assert (trade.trade_id, trade.backfilled, trade.aggressor_side) == ("7", True, Side.BUY)
    assert (trade.price, trade.size, trade.ts_event) == (Decimal("1.5"), Decimal(2), 1_000_000_000)


def test_a_kline_is_a_closed_bar_that_no_record_caused() -> None:
    row = [60_000, "1", "3", "0.5", "2", "10.5", 119_999, "20.12345678", 4, "6", "12", "0"]
    bar = parse_minute_bar(row, BTC, RECEIVED)
    assert [bar.open, bar.high, bar.low, bar.close] == [Decimal(text) for text in ("1", "3", "0.5", "2")]
    assert (bar.ts_open, bar.ts_close, bar.ts_event) == (60 * 10**9, 120 * 10**9, 120 * 10**9)
    assert (bar.volume, bar.quote_volume, bar.trade_count) == (Decimal("10.5"), Decimal("20.12345678"), 4)
    assert (bar.cause_at, bar.complete) == ("", True)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        '"text"',
        "1",
        "null",
        TRADE | {"p": "NaN"},
        TRADE | {"p": "1e5"},
        TRADE | {"p": "-1.00000000"},
        TRADE | {"p": " 1.00000000"},
        TRADE | {"p": "\u0661.00000000"},
        TRADE | {"p": "1.000000001"},
        TRADE | {"p": 1.5},
        TRADE | {"p": None},
        TRADE | {"t": "3735683259"},
        TRADE | {"t": True},
        TRADE | {"T": "1723161255342"},
        TRADE | {"m": "true"},
        {name: value for name, value in TRADE.items() if name != "q"},
        DEPTH | {"b": [["1.0"]]},
        DEPTH | {"b": None},
        DEPTH | {"U": 9, "u": 8},
        TICKER | {"u": 1.5},
        {"data": [], "stream": "x"},
    ],
)
def test_a_frame_that_cannot_be_read_is_malformed(frame: Any) -> None:
    with pytest.raises(MalformedFrame):
        PARSER.parse(frame if isinstance(frame, str) else json.dumps(frame), RECEIVED)


@pytest.mark.parametrize(
    "frame", [{"e": "kline", "s": "BTCUSDT"}, {}, {"data": {}}, TRADE | {"s": "XRPUSDT"}, {"lastUpdateId": 5}]
)
def test_a_frame_of_another_kind_or_symbol_is_unknown(frame: Any) -> None:
    with pytest.raises(UnknownFrame):
        parse(frame)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        PARSER.parse(payload, RECEIVED)
    except (MalformedFrame, UnknownFrame):
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from([TRADE, TICKER, DEPTH]), st.data())
def test_any_value_in_any_field_is_read_or_refused(frame: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(frame)))
    try:
        parse(frame | {name: data.draw(JSON)})
    except (MalformedFrame, UnknownFrame):
        pass


@given(st.decimals(min_value=0, max_value=10**9, places=8))
def test_a_mantissa_is_exact(value: Decimal) -> None:
    assert mantissa(f"{value:.8f}") == int(value * 10**8)
    assert mantissa(f"{value.normalize():f}") == int(value * 10**8)


def test_every_recorded_frame_is_read(shared_data: Path) -> None:
    parser = Parser({"ETHUSDT": "BINANCE:ETH/USDT"})
    frames = read_capture(shared_data / "books" / "binance_spot_ETHUSDT_20240808.gz")
    kinds = [type(parser.parse(frame.payload, frame.received_ns, "ETHUSDT")).__name__ for frame in frames]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {"Quote": 24_077, "BookDelta": 3_434, "BookSnapshot": 1, "Trade": 6_106}
