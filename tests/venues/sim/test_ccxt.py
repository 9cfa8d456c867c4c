"""Unpatched ccxt and ccxt.pro make every call that SKEET needs, and see Binance's errors as their own classes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import pairwise
from typing import Any

import ccxt
import ccxt.async_support
import pytest

from skeet.venues.sim.ccxt_settings import ccxt_settings, refuse_live_hosts
from tests.venues.sim.conftest import SimProcess

pytestmark = pytest.mark.integration
BTC = "BTC/USDT"
WITHIN_S = 10.0


@pytest.fixture(scope="module")
def client(sim: SimProcess) -> ccxt.binance:
    return ccxt.binance(sim.settings("ann", USDT="1000000", BTC="10"))


@pytest.fixture
async def pro(sim: SimProcess) -> AsyncIterator[Any]:
    import ccxt.pro

    exchange = ccxt.pro.binance(sim.settings("pro", USDT="1000000", BTC="10"))
    yield exchange
    await exchange.close()


def test_markets_have_steps_limits_and_only_spot(client: ccxt.binance) -> None:
    markets = client.load_markets()
    assert set(markets) == {"BTC/USDT", "ETH/USDT", "SOL/USDT", "ETH/BTC"}
    assert all(market["spot"] and market["active"] for market in markets.values())
    assert markets[BTC]["precision"] == {"amount": 1e-05, "price": 0.01, "base": 1e-08, "quote": 1e-08}
    assert markets[BTC]["limits"]["cost"]["min"] == 5.0


def test_market_data_by_rest(client: ccxt.binance) -> None:
    book = client.fetch_order_book(BTC, 20)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(book["bids"]) == len(book["asks"]) == 20
    trades = client.fetch_trades(BTC, limit=50)
    assert len(trades) == 50 and trades[-1]["timestamp"] >= trades[0]["timestamp"]
    ticker = client.fetch_ticker(BTC)
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert ticker["bid"] < ticker["ask"]
    bars = client.fetch_ohlcv(BTC, "1m")
    assert bars and bars[-1][3] <= bars[-1][4] <= bars[-1][2]
    assert set(client.fetch_tickers()) == set(client.markets)


def test_historical_trades_have_no_hole_and_other_ids_than_aggregates(client: ccxt.binance) -> None:
    first = client.public_get_historicaltrades({"symbol": "BTCUSDT", "fromId": 1, "limit": 200})
    assert [int(trade["id"]) for trade in first] == list(range(1, len(first) + 1))
    aggregates = client.public_get_aggtrades({"symbol": "BTCUSDT", "fromId": 1, "limit": 200})
    numbers = [int(each["a"]) for each in aggregates]
    assert numbers == list(range(1, len(numbers) + 1))
    assert any(each["f"] != each["l"] for each in aggregates)
    spans = [(int(each["f"]), int(each["l"])) for each in aggregates]
    assert all(later[0] == earlier[1] + 1 for earlier, later in pairwise(spans))


def test_limit_order_from_creation_to_cancel(client: ccxt.binance) -> None:
    placed = client.create_order(BTC, "limit", "buy", 0.01, 50_000, {"clientOrderId": "life-1"})
    assert (placed["status"], placed["clientOrderId"]) == ("open", "life-1")
    assert client.fetch_balance()["USDT"]["used"] == pytest.approx(500.2)
    assert [order["id"] for order in client.fetch_open_orders(BTC)] == [placed["id"]]
    assert client.fetch_order(None, BTC, {"clientOrderId": "life-1"})["id"] == placed["id"]
    assert client.cancel_order(placed["id"], BTC)["status"] == "canceled"
    assert client.fetch_open_orders(BTC) == []
    assert client.fetch_balance()["USDT"]["used"] == 0


def test_market_order_fills_and_is_found_everywhere(client: ccxt.binance) -> None:
    placed = client.create_order(BTC, "market", "buy", 0.02)
    assert (placed["status"], placed["filled"]) == ("closed", 0.02)
    assert placed["id"] in [order["id"] for order in client.fetch_closed_orders(BTC)]
    mine = client.fetch_my_trades(BTC, params={"orderId": placed["id"]})
    assert sum(trade["amount"] for trade in mine) == pytest.approx(0.02)
    assert {(trade["takerOrMaker"], trade["fee"]["currency"]) for trade in mine} == {("taker", "USDT")}
    by_cost = client.create_order(BTC, "market", "buy", None, None, {"cost": 500})
    assert by_cost["status"] == "closed" and 490 < by_cost["cost"] <= 500


def test_cancel_all_orders(client: ccxt.binance) -> None:
    for number in range(3):
        client.create_order(BTC, "limit", "buy", 0.01, 40_000 + number)
    assert len(client.cancel_all_orders(BTC)) == 3
    assert client.fetch_open_orders(BTC) == []


Request = Callable[[ccxt.binance], Any]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (lambda c: c.create_order(BTC, "limit", "buy", 1_000, 50_000), ccxt.InsufficientFunds),
        (lambda c: c.create_order(BTC, "limit", "buy", 1, 90_000, {"postOnly": True}), ccxt.OrderImmediatelyFillable),
        (lambda c: c.create_order(BTC, "limit", "buy", 0.00001, 50_000), ccxt.BadRequest),
        (lambda c: c.create_order(BTC, "limit", "buy", 9_500, 10), ccxt.InvalidOrder),
        (lambda c: c.cancel_order("1", BTC), ccxt.OrderNotFound),
        (lambda c: c.fetch_order("1", BTC), ccxt.OrderNotFound),
        (lambda c: c.public_get_depth({"symbol": "NOPE"}), ccxt.BadSymbol),
        (lambda c: c.private_get_account({"timestamp": 1}), ccxt.InvalidNonce),
    ],
)
def test_refusal_is_ccxts_own_error(client: ccxt.binance, request_: Request, error: type[Exception]) -> None:
    with pytest.raises(error):
        request_(client)


def test_wrong_key_and_wrong_secret_are_told_apart(sim: SimProcess) -> None:
    settings = sim.settings("ann")
    with pytest.raises(ccxt.AuthenticationError, match="-2015"):
        ccxt.binance({**settings, "apiKey": "nobody"}).fetch_balance()
    with pytest.raises(ccxt.AuthenticationError, match="-1022"):
        ccxt.binance({**settings, "secret": "wrong"}).fetch_balance()


async def test_async_client_trades(sim: SimProcess) -> None:
    exchange = ccxt.async_support.binance(sim.settings("async", USDT="10000"))
    try:
        placed = await exchange.create_order(BTC, "market", "buy", 0.01)
        assert placed["status"] == "closed"
        assert (await exchange.fetch_balance())["BTC"]["total"] == 0.01
    finally:
        await exchange.close()


async def test_market_streams(pro: Any) -> None:
    trades = await _within(pro.watch_trades(BTC))
    later = await _within(pro.watch_trades(BTC))
    assert int(later[-1]["id"]) >= int(trades[-1]["id"]) > 0
    book = await _within(pro.watch_order_book(BTC))
    assert book["bids"][0][0] < book["asks"][0][0]
    tops = await _within(pro.watch_bids_asks([BTC, "ETH/USDT"]))
    assert all(top["bid"] < top["ask"] for top in tops.values())
    assert (await _within(pro.watch_ohlcv(BTC, "1m")))[-1][5] >= 0
    assert (await _within(pro.watch_ticker(BTC)))["last"] > 0


async def test_watched_book_equals_the_fetched_one_when_the_flow_rests(sim: SimProcess, pro: Any) -> None:
    await _within(pro.watch_order_book(BTC))
    for _ in range(20):
        await _within(pro.watch_order_book(BTC))
    sim.admin("flow", paused=True)
    try:
        fetched = await pro.fetch_order_book(BTC, 5_000)

        def equal() -> bool:
            watched = pro.orderbooks[BTC]
            return all(watched[side][:50] == fetched[side][:50] for side in ("bids", "asks"))

        await _until(equal)
    finally:
        sim.admin("flow", paused=False)


async def test_user_streams_tell_orders_fills_and_balances(pro: Any) -> None:
    watching = [asyncio.ensure_future(each) for each in (_closed(pro), pro.watch_my_trades(), pro.watch_balance())]
    # An event before the subscription is confirmed would rightly be missed.
    await _until(lambda: _subscribed(pro))
    placed = await pro.create_order(BTC, "market", "sell", 0.01)
    order, fills, balance = await _within(asyncio.gather(*watching))
    assert order["id"] == placed["id"]
    assert fills[-1]["order"] == placed["id"]
    assert balance["BTC"]["total"] < 10


async def _closed(pro: Any) -> dict[str, Any]:
    while True:
        for order in await pro.watch_orders():
            if order["status"] == "closed":
                found: dict[str, Any] = order
                return found


def _subscribed(pro: Any) -> bool:
    clients = [each for url, each in pro.clients.items() if "ws-api" in url]
    return any("spot" in each.subscriptions and "authenticate:signature:spot" not in each.futures for each in clients)


async def _until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until a condition holds; fails after a deadline."""
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def _within(waiting: Coroutine[Any, Any, Any] | asyncio.Future[Any]) -> Any:
    return await asyncio.wait_for(waiting, WITHIN_S)


def test_settings_leave_live_addresses_that_the_guard_names() -> None:
    addresses = ccxt_settings("http://127.0.0.1:1", "ws://127.0.0.1:1")["urls"]
    assert refuse_live_hosts(addresses) == []
    live = refuse_live_hosts(ccxt.binance(ccxt_settings("http://127.0.0.1:1", "ws://127.0.0.1:1")).urls["api"])
    assert any("fapi.binance.com" in url for url in live)
