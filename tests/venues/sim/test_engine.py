"""The matching engine: priority, the kinds of orders, filters, fees; and what holds after any sequence of requests."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.venues.sim.account_events import OrderClosed, OrderFilled
from skeet.venues.sim.engine import Engine
from skeet.venues.sim.instruments import CommissionAsset, default_instruments
from skeet.venues.sim.orders import EXCHANGE, OrderKind, OrderRequest, Rejection, Side, TimeInForce, UniqueAmong
from skeet.venues.sim.units import UNIT, parse_units

NOW = 1_700_000_000_000_000_000
_ids = count()


def exchange(commission: CommissionAsset = CommissionAsset.QUOTE) -> Engine:
    engine = Engine(default_instruments(commission))
    for account in ("ann", "bob", "cid"):
        engine.open_account(account, NOW)
        engine.transfer(account, "start", "USDT", 1_000_000 * UNIT, NOW)
        engine.transfer(account, "start-btc", "BTC", 100 * UNIT, NOW)
    engine.take()
    return engine


def order(account: str, side: str, quantity: str, price: str = "", **more: Any) -> OrderRequest:
    """A limit order, or without a price a market order."""
    kind = OrderKind.LIMIT if price else OrderKind.MARKET
    asked = {"kind": kind, "client_order_id": f"c{next(_ids)}"} | (more if price else more | {"kind": kind})
    return OrderRequest(
        account=account,
        symbol="BTCUSDT",
        side=Side(side),
        price=parse_units(price) if price else 0,
        quantity=parse_units(quantity) if quantity else 0,
        **asked,
    )


def fills(engine: Engine) -> list[OrderFilled]:
    return [event for event in engine.take().events if isinstance(event, OrderFilled)]


def refusal(engine: Engine, request: OrderRequest) -> tuple[int, str]:
    before = engine.balances.dump()
    with pytest.raises(Rejection) as caught:
        engine.place(request, NOW)
    assert engine.balances.dump() == before
    return caught.value.code, caught.value.message


def test_better_price_trades_first_then_earlier_arrival() -> None:
    engine = exchange()
    late_but_better = order("cid", "SELL", "1", "59999")
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    engine.place(order("bob", "SELL", "1", "60000"), NOW)
    engine.place(late_but_better, NOW)
    engine.take()
    engine.place(order("bob", "BUY", "2.5", "60000"), NOW)
    makers = [(fill.account, fill.quantity) for fill in fills(engine) if fill.is_maker]
    assert makers == [("cid", "1.00000000"), ("ann", "1.00000000"), ("bob", "0.50000000")]


def test_partially_filled_maker_keeps_its_place_in_the_queue() -> None:
    engine = exchange()
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    engine.place(order("bob", "SELL", "1", "60000"), NOW)
    engine.place(order("cid", "BUY", "0.4"), NOW)
    engine.take()
    engine.place(order("cid", "BUY", "0.7"), NOW)
    makers = [(fill.account, fill.quantity) for fill in fills(engine) if fill.is_maker]
    assert makers == [("ann", "0.60000000"), ("bob", "0.10000000")]


def test_taker_gets_the_makers_price() -> None:
    engine = exchange()
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    engine.place(order("bob", "BUY", "1", "61000"), NOW)
    assert engine.balances.of("bob")["USDT"] == (1_000_000 * UNIT - 60_000 * UNIT - 24 * UNIT, 0)  # 4 bps of 60,000
    assert engine.balances.of("bob")["BTC"] == (101 * UNIT, 0)


def test_immediate_or_cancel_expires_with_what_is_left() -> None:
    engine = exchange()
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    engine.place(order("bob", "BUY", "3", "60000", time_in_force=TimeInForce.IOC), NOW)
    closed = [event for event in engine.take().events if isinstance(event, OrderClosed) and event.account == "bob"]
    assert [(event.status, event.executed) for event in closed] == [("EXPIRED", "1.00000000")]
    assert engine.balances.locked("bob", "USDT") == 0


def test_fill_or_kill_does_nothing_when_it_cannot_fill_whole() -> None:
    engine = exchange()
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    engine.place(order("bob", "BUY", "1.1", "60000", time_in_force=TimeInForce.FOK), NOW)
    assert fills(engine) == []
    assert engine.balances.of("bob")["USDT"] == (1_000_000 * UNIT, 0)
    engine.place(order("bob", "BUY", "1", "60000", time_in_force=TimeInForce.FOK), NOW)
    assert sum(fill.account == "bob" for fill in fills(engine)) == 1


def test_post_only_order_that_would_take_is_refused() -> None:
    engine = exchange()
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    request = order("bob", "BUY", "1", "60000", kind=OrderKind.LIMIT_MAKER)
    assert refusal(engine, request) == (-2010, "Order would immediately match and take.")
    engine.place(order("bob", "BUY", "1", "59999.99", kind=OrderKind.LIMIT_MAKER), NOW)
    assert len(engine.open_orders["bob"]) == 1


def test_market_order_by_quote_spends_at_most_its_budget() -> None:
    engine = exchange()
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    engine.place(order("ann", "SELL", "1", "61000"), NOW)
    engine.place(order("bob", "BUY", "", quote_budget=90_000 * UNIT), NOW)
    spent = 1_000_000 * UNIT - engine.balances.free("bob", "USDT")
    assert 89_999 * UNIT < spent - 36 * UNIT <= 90_000 * UNIT  # 36: fee


def test_cancel_releases_the_lock_and_a_second_cancel_is_refused() -> None:
    engine = exchange()
    order_id = engine.place(order("ann", "BUY", "1", "50000"), NOW)
    assert engine.balances.locked("ann", "USDT") == 50_020 * UNIT  # value and worst fee
    engine.cancel("ann", "BTCUSDT", order_id, "", NOW)
    assert engine.balances.of("ann")["USDT"] == (1_000_000 * UNIT, 0)
    with pytest.raises(Rejection, match="Unknown order sent"):
        engine.cancel("ann", "BTCUSDT", order_id, "", NOW)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (order("ann", "BUY", "1", "50000.001"), "Filter failure: PRICE_FILTER"),
        (order("ann", "BUY", "1", "2000000"), "Filter failure: PRICE_FILTER"),
        (order("ann", "BUY", "0.000001", "50000"), "Filter failure: LOT_SIZE"),
        (order("ann", "BUY", "9001", "50000"), "Filter failure: LOT_SIZE"),
        (order("ann", "BUY", "0.00001", "50000"), "Filter failure: NOTIONAL"),
        (order("ann", "BUY", "", quote_budget=UNIT), "Filter failure: NOTIONAL"),
    ],
)
def test_order_outside_a_filter_is_refused(request_: OrderRequest, message: str) -> None:
    assert refusal(exchange(), request_) == (-1013, message)


def test_order_above_the_balance_is_refused() -> None:
    assert refusal(exchange(), order("ann", "BUY", "30", "50000"))[0] == -2010
    assert refusal(exchange(), order("ann", "SELL", "101", "50000"))[0] == -2010
    engine = exchange()
    engine.place(order("bob", "SELL", "50", "60000"), NOW)
    assert refusal(engine, order("ann", "BUY", "20"))[0] == -2010


@pytest.mark.parametrize(
    ("unique", "while_open", "afterwards"),
    [(UniqueAmong.ALL, False, False), (UniqueAmong.OPEN, False, True), (UniqueAmong.NONE, True, True)],
)
def test_duplicate_client_order_id(unique: UniqueAmong, while_open: bool, afterwards: bool) -> None:
    engine = exchange()

    def accepts() -> bool:
        try:
            engine.place(order("ann", "BUY", "1", "10000", client_order_id="same", unique_among=unique), NOW)
        except Rejection as rejection:
            assert (rejection.code, rejection.message) == (-2010, "Duplicate order sent.")
            return False
        return True

    assert accepts()
    assert accepts() is while_open
    for _, order_id in list(engine.open_orders["ann"]):
        engine.cancel("ann", "BTCUSDT", order_id, "", NOW)
    assert accepts() is afterwards


def test_trip_with_commission_in_quote_ends_exactly_flat() -> None:
    engine = exchange()
    engine.place(order("ann", "SELL", "1", "60000.01"), NOW)
    engine.place(order("bob", "BUY", "0.33333"), NOW)
    engine.place(order("ann", "BUY", "1", "59999.99"), NOW)
    engine.place(order("bob", "SELL", "0.33333"), NOW)
    assert engine.balances.of("bob")["BTC"] == (100 * UNIT, 0)


def test_commission_in_the_received_asset_as_binance_takes_it() -> None:
    engine = exchange(CommissionAsset.RECEIVED)
    engine.place(order("ann", "SELL", "1", "60000"), NOW)
    engine.place(order("bob", "BUY", "1"), NOW)
    assert engine.balances.of("bob")["BTC"] == (101 * UNIT - 40_000, 0)  # 4 bps of 1 BTC
    assert engine.balances.free("bob", "USDT") == 940_000 * UNIT
    assert engine.balances.free(EXCHANGE, "BTC") == 40_000


def test_transfer_with_the_same_client_key_pays_once() -> None:
    engine = exchange()
    first = engine.transfer("ann", "k", "USDT", UNIT, NOW)
    again = engine.transfer("ann", "k", "USDT", UNIT, NOW)
    assert first == again
    assert engine.balances.free("ann", "USDT") == 1_000_001 * UNIT


def test_aggregate_ids_are_shared_within_one_price_of_one_taker() -> None:
    engine = exchange()
    for price in ("60000", "60000", "60001"):
        engine.place(order("ann", "SELL", "1", price), NOW)
    engine.take()
    engine.place(order("bob", "BUY", "3"), NOW)
    assert [(trade.trade_id, trade.aggregate_id) for trade in engine.take().trades] == [(1, 1), (2, 1), (3, 2)]


requests = st.builds(
    order,
    st.sampled_from(["ann", "bob", "cid"]),
    st.sampled_from(["BUY", "SELL"]),
    st.decimals("0.001", "40", places=5).map(str),
    st.one_of(st.just(""), st.integers(59_990, 60_010).map(str)),
    kind=st.sampled_from([OrderKind.LIMIT, OrderKind.LIMIT, OrderKind.LIMIT_MAKER]),
    time_in_force=st.sampled_from(TimeInForce),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(requests, st.integers(0, 30)), max_size=60), st.sampled_from(CommissionAsset))
def test_nothing_is_made_or_lost_whatever_is_asked(
    asked: list[OrderRequest | int], commission: CommissionAsset
) -> None:
    """Integers cancel: the n-th open order of all."""
    engine = exchange(commission)
    totals = {asset: engine.balances.total(asset) for asset in ("BTC", "USDT")}
    for each in asked:
        try:
            if isinstance(each, OrderRequest):
                engine.place(each, NOW)
            else:
                resting = [(account, *key) for account, orders in engine.open_orders.items() for key in orders]
                if resting:
                    account, symbol, order_id = resting[each % len(resting)]
                    engine.cancel(account, symbol, order_id, "", NOW)
        except Rejection:
            pass
        _check_invariants(engine, totals)


def _check_invariants(engine: Engine, totals: dict[str, int]) -> None:
    market = engine.markets["BTCUSDT"]
    assert {asset: engine.balances.total(asset) for asset in totals} == totals
    for account in engine.balances.accounts():
        assert all(free >= 0 and locked >= 0 for free, locked in engine.balances.of(account).values())
        mine = engine.open_orders.get(account, {}).values()
        for asset, side in (("USDT", Side.BUY), ("BTC", Side.SELL)):
            assert engine.balances.locked(account, asset) == sum(each.locked for each in mine if each.side is side)
    top = market.book.top()
    assert not top.bid or not top.ask or top.bid < top.ask
    for half in (market.book.bids, market.book.asks):
        assert half.prices == sorted(half.levels)
        for level in half.levels.values():
            assert level.quantity == sum(each.leaves for each in level.orders.values()) > 0
