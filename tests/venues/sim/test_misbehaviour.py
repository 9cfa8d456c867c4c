"""What the exchange can be told to do wrong: lost answers, duplicate ids; and who may tell it."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.request import Request

import ccxt
import ccxt.pro as ccxt_pro
import pytest

from tests.venues.sim.conftest import SimProcess

pytestmark = pytest.mark.integration
BTC = "BTC/USDT"


@pytest.fixture(scope="module")
def client(sim: SimProcess) -> ccxt.binance:
    return ccxt.binance(sim.settings("ann", USDT="1000000", BTC="10"))


def test_order_whose_answer_is_dropped_stands(sim: SimProcess, client: ccxt.binance) -> None:
    client.load_markets()
    sim.admin("behaviour", drop_next=1)
    with pytest.raises(ccxt.NetworkError):
        client.create_order(BTC, "limit", "buy", 0.01, 50_000, {"clientOrderId": "lost"})
    found = client.fetch_order(None, BTC, {"clientOrderId": "lost"})
    assert found["status"] == "open"
    assert client.create_order(BTC, "limit", "buy", 0.01, 50_000)["status"] == "open"  # only the next one was lost
    assert sim.get("/sim/v1/status")["behaviour"]["happened"]["drop"] == 1
    client.cancel_all_orders(BTC)


async def test_execution_report_comes_twice_when_told(sim: SimProcess) -> None:
    exchange = ccxt_pro.binance(sim.settings("echo", USDT="1000000"))
    reports: asyncio.Queue[object] = asyncio.Queue()
    original = exchange.handle_message

    def noted(client: object, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event is None:
            original(client, message)
        elif event["e"] == "executionReport":
            reports.put_nowait(event)

    exchange.handle_message = noted
    try:
        await exchange.load_markets()
        await exchange.authenticate({"type": "spot"})
        sim.admin("behaviour", repeat_next=1)
        for price in (50_000, 50_001):
            await exchange.create_order(BTC, "limit", "buy", 0.01, price)
        first, second, third = [await asyncio.wait_for(reports.get(), 10) for _ in range(3)]
    finally:
        await exchange.close()
    assert first == second != third
    assert sim.get("/sim/v1/status")["behaviour"]["happened"]["repeat"] == 1


@pytest.mark.parametrize(("mode", "accepted"), [("all", 1), ("open", 1), ("none", 2)])
def test_duplicate_client_order_id_while_open(sim: SimProcess, client: ccxt.binance, mode: str, accepted: int) -> None:
    sim.admin("behaviour", duplicate_client_ids=mode)
    try:
        assert _accepted(client, f"same-{mode}", cancel_between=False) == accepted
    finally:
        sim.admin("behaviour", duplicate_client_ids="open")
        client.cancel_all_orders(BTC)


@pytest.mark.parametrize(("mode", "accepted"), [("all", 1), ("open", 2), ("none", 2)])
def test_duplicate_client_order_id_after_closing(
    sim: SimProcess, client: ccxt.binance, mode: str, accepted: int
) -> None:
    sim.admin("behaviour", duplicate_client_ids=mode)
    try:
        assert _accepted(client, f"closed-{mode}", cancel_between=True) == accepted
    finally:
        sim.admin("behaviour", duplicate_client_ids="open")


def _accepted(client: ccxt.binance, client_id: str, *, cancel_between: bool) -> int:
    count = 0
    for _ in range(2):
        try:
            placed = client.create_order(BTC, "limit", "buy", 0.01, 50_000, {"clientOrderId": client_id})
        except ccxt.InvalidOrder as error:
            assert "Duplicate order sent." in str(error)
            continue
        count += 1
        if cancel_between:
            client.cancel_order(placed["id"], BTC)
    return count


def test_transfer_is_paid_once_per_client_key(sim: SimProcess) -> None:
    sim.admin("accounts", account="payee")
    body = {"account": "payee", "asset": "USDT", "amount": "5", "client_key": "k"}
    first, again = sim.admin("transfers", **body), sim.admin("transfers", **body)
    assert first == again
    assert sim.get("/sim/v1/state")["accounts"]["payee"]["balances"]["USDT"]["free"] == "5.00000000"


def test_account_gets_the_same_keys_each_time(sim: SimProcess) -> None:
    assert sim.admin("accounts", account="twice") == sim.admin("accounts", account="twice")


@pytest.mark.parametrize(
    ("route", "body", "names"),
    [
        ("accounts", {"account": "house"}, "account is 'house'"),
        ("accounts", {}, "account is None"),
        ("transfers", {"account": "nobody", "asset": "USDT", "amount": "1", "client_key": "k"}, "account is 'nobody'"),
        ("transfers", {"account": "payee", "asset": "EUR", "amount": "1", "client_key": "k"}, "asset is 'EUR'"),
        ("transfers", {"account": "payee", "asset": "BTC", "amount": "1e5", "client_key": "k"}, "amount is '1e5'"),
        ("flow", {"speed": 0}, "speed is 0"),
        ("behaviour", {"drop_probability": 2}, "drop_probability"),
        ("behaviour", {"duplicate_client_ids": "maybe"}, "duplicate_client_ids"),
    ],
)
def test_bad_request_names_the_field(sim: SimProcess, route: str, body: dict[str, object], names: str) -> None:
    sim.admin("accounts", account="payee")
    answer = sim.admin(route, **body)
    assert answer["status"] == 400
    assert names in answer["error"]


def test_administration_needs_the_token(sim: SimProcess) -> None:
    assert sim._call(Request(f"{sim.url}/sim/v1/state"))["status"] == 401


def test_paused_flow_is_silent_and_goes_on(sim: SimProcess) -> None:
    def newest() -> int:
        trade_id: int = sim.get("/api/v3/trades?symbol=BTCUSDT&limit=1")[0]["id"]
        return trade_id

    sim.admin("flow", paused=True)
    paused_at = newest()
    status = sim.get("/sim/v1/status")
    assert status["flow"]["paused"] is True
    assert newest() == paused_at
    sim.admin("flow", paused=False)
    while newest() == paused_at:
        pass
