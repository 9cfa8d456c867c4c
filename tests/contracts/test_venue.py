"""The port ``Venue``: one suite, run against the venue in memory and against ccxt on the simulated exchange."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.values import NS_PER_S, Side, TimeInForce
from skeet.streams.ports import (
    Acked,
    Attempt,
    Canceled,
    Found,
    NotFound,
    NotSent,
    OrderKey,
    Rejected,
    StreamConnected,
    Unknown,
    Venue,
    VenueOrder,
    VenueOrderStatus,
    VenueReport,
    VenueTrade,
)
from skeet.venues.execution.accounts import venue_options
from skeet.venues.execution.binance import BinanceVenue, load_library
from skeet.venues.execution.keys import VenueKey
from skeet.venues.execution.memory import Answer, MemoryVenue
from skeet.venues.sim.behaviour import Behaviour, Faults
from skeet.venues.sim.exchange import Exchange, ExchangeOptions
from skeet.venues.sim.orders import UniqueAmong
from skeet.venues.sim.server import Server

INSTRUMENT = "SIM:BTC/USDT"
DEADLINE_S = 20.0


@dataclass(slots=True)
class Tried:
    """A venue under test, prices where orders rest or trade, and how to make it lose its next answer."""

    venue: Venue
    resting: Decimal
    taking: Decimal
    refuse: str
    behaviour: Behaviour | None
    answers: list[Answer]

    def lose_next_answer(self) -> None:
        if self.behaviour is not None:
            self.behaviour.faults = Faults(duplicate_client_ids=UniqueAmong.NONE, drop_next=1)
        else:
            self.answers.append(Answer.ACCEPT_THEN_LOSE)


@pytest.fixture(params=["memory", "ccxt"])
async def tried(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Tried]:
    if request.param == "memory":
        answers: list[Answer] = []
        found = Tried(_in_memory(answers), Decimal(90), Decimal(110), "", None, answers)
        found.venue = _in_memory(answers, lambda: found.refuse)
        yield found
        return
    load_library()
    server = Server(Exchange(tmp_path, time.time_ns, ExchangeOptions(seed=7)), admin_token="t")
    server.flow.paused = True
    url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
    key, bid, ask = await _account(url)
    found = Tried(_in_memory([]), bid - 1_000, ask + 100, "", server.behaviour, [])
    settings = Settings(data=tmp_path, sim={"url": url})
    found.venue = BinanceVenue(venue_options(settings, key, lambda: found.refuse))
    yield found
    await found.venue.close()
    await server.stop()


def _in_memory(answers: list[Answer], guard: Any = lambda: "") -> MemoryVenue:
    def answer(attempt: Attempt) -> Answer:
        if attempt.quantity > 50:
            return Answer.REJECT
        if answers:
            return answers.pop()
        return Answer.FILL_BEFORE_ACK if attempt.limit_price > 100 else Answer.ACK

    return MemoryVenue(answer, guard=guard)


async def _account(url: str) -> tuple[VenueKey, Decimal, Decimal]:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer t"}) as client:
        pair = await (await client.post(f"{url}/sim/v1/accounts", json={"account": "alpha"})).json()
        money = {"account": "alpha", "asset": "USDT", "amount": "100000", "client_key": "k"}
        await client.post(f"{url}/sim/v1/transfers", json=money)
        best = await (await client.get(f"{url}/api/v3/ticker/bookTicker?symbol=BTCUSDT")).json()
    key = VenueKey(venue="sim", api_key=pair["api_key"], secret=pair["secret"])
    return key, Decimal(best["bidPrice"]), Decimal(best["askPrice"])


def buy(number: int, price: Decimal, **fields: Any) -> Attempt:
    now = time.time_ns()
    attempt = Attempt(
        key=OrderKey(instrument_id=INSTRUMENT, client_order_id=f"{number:032x}"),
        side=Side.BUY,
        quantity=Decimal("0.01"),
        limit_price=price,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        sent_ts=now,
        send_until=now + 5 * NS_PER_S,
    )
    return replace(attempt, **fields)


class Listener:
    """Collects the user stream."""

    def __init__(self, venue: Venue) -> None:
        self.heard: list[VenueReport] = []
        self._venue = venue
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for said in self._venue.reports():
            self.heard.append(said)
            self._news.set()

    async def until(self, expected: Callable[[VenueReport], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not any(map(expected, self.heard)):
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def listener(tried: Tried) -> AsyncIterator[Listener]:
    await tried.venue.connect()
    listening = Listener(tried.venue)
    await listening.until(lambda said: isinstance(said, StreamConnected))
    yield listening
    await listening.close()


async def test_acknowledged_order_is_open_found_and_listed(tried: Tried, listener: Listener) -> None:
    outcome = await tried.venue.send(buy(1, tried.resting))
    assert isinstance(outcome, Acked)
    assert 0 < outcome.written_ns <= outcome.answered_ns
    assert (outcome.order.status, outcome.order.filled_quantity) == (VenueOrderStatus.OPEN, Decimal(0))
    found = await tried.venue.lookup(OrderKey(instrument_id=INSTRUMENT, client_order_id=f"{1:032x}"))
    assert isinstance(found, Found) and found.order.key == outcome.order.key
    assert [order.key for order in await tried.venue.open_orders()] == [outcome.order.key]


async def test_executions_come_by_stream_and_by_asking_with_equal_ids(tried: Tried, listener: Listener) -> None:
    outcome = await tried.venue.send(buy(1, tried.taking, time_in_force=TimeInForce.IOC))
    assert isinstance(outcome, Acked) and outcome.order.status is VenueOrderStatus.FILLED
    await listener.until(lambda said: isinstance(said, VenueTrade))
    asked = await tried.venue.order_trades(outcome.order.key)
    streamed = [said for said in listener.heard if isinstance(said, VenueTrade)]
    assert [t.trade_id for t in streamed] == [t.trade_id for t in asked] != []
    assert [(t.quantity, t.price, t.fee, t.fee_asset) for t in streamed] == [
        (t.quantity, t.price, t.fee, t.fee_asset) for t in asked
    ]
    assert {t.key.client_order_id for t in streamed} == {f"{1:032x}"}
    last = max(int(trade.trade_id) for trade in asked)
    assert await tried.venue.trades_after(INSTRUMENT, last) == []
    assert len(await tried.venue.trades_after(INSTRUMENT, last - 1)) == 1


async def test_canceled_order_says_what_was_executed_and_is_gone(tried: Tried, listener: Listener) -> None:
    outcome = await tried.venue.send(buy(1, tried.resting))
    assert isinstance(outcome, Acked)
    canceled = await tried.venue.cancel(outcome.order.key)
    assert isinstance(canceled, Canceled)
    assert (canceled.order.key, canceled.order.status) == (outcome.order.key, VenueOrderStatus.CANCELED)
    assert isinstance(await tried.venue.cancel(outcome.order.key), Rejected)
    assert await tried.venue.open_orders() == []
    await listener.until(lambda said: isinstance(said, VenueOrder) and said.status is VenueOrderStatus.CANCELED)


async def test_rest_of_an_ioc_ends_as_expired(tried: Tried, listener: Listener) -> None:
    outcome = await tried.venue.send(buy(1, tried.resting, time_in_force=TimeInForce.IOC))
    assert isinstance(outcome, Acked) and outcome.order.status is VenueOrderStatus.EXPIRED


async def test_refusal_carries_the_venues_words(tried: Tried, listener: Listener) -> None:
    outcome = await tried.venue.send(buy(1, tried.resting, quantity=Decimal(100)))
    assert isinstance(outcome, Rejected) and outcome.reason


async def test_lost_answer_is_unknown_and_the_order_is_found_by_its_client_id(tried: Tried, listener: Listener) -> None:
    tried.lose_next_answer()
    outcome = await tried.venue.send(buy(1, tried.resting))
    assert isinstance(outcome, Unknown)
    found = await tried.venue.lookup(OrderKey(instrument_id=INSTRUMENT, client_order_id=f"{1:032x}"))
    assert isinstance(found, Found) and found.order.status is VenueOrderStatus.OPEN
    assert len(await tried.venue.open_orders()) == 1


async def test_order_that_was_never_sent_is_not_found(tried: Tried, listener: Listener) -> None:
    key = OrderKey(instrument_id=INSTRUMENT, client_order_id="0" * 32)
    assert isinstance(await tried.venue.lookup(key), NotFound)


async def test_guard_stops_an_order_before_its_first_byte(tried: Tried, listener: Listener) -> None:
    tried.refuse = "kill switch"
    outcome = await tried.venue.send(buy(1, tried.resting))
    assert outcome == NotSent(reason="kill switch")
    assert await tried.venue.open_orders() == []


async def test_venue_without_listener_at_its_address_is_not_sent(tmp_path: Path) -> None:
    load_library()
    key = VenueKey(venue="sim", api_key="k", secret="s")
    settings = Settings(data=tmp_path, sim={"url": "http://127.0.0.1:1"})
    venue = BinanceVenue(venue_options(settings, key, lambda: ""))
    try:
        outcome = await venue.send(buy(1, Decimal(1)))
        assert isinstance(outcome, NotSent)
    finally:
        await venue.close()


async def test_request_is_signed_with_exactly_the_times_of_its_attempt(tried: Tried, listener: Listener) -> None:
    if tried.behaviour is None:
        pytest.skip("the venue in memory signs nothing")
    past = time.time_ns() - 60 * NS_PER_S
    outcome = await tried.venue.send(buy(1, tried.resting, sent_ts=past, send_until=past + NS_PER_S))
    assert isinstance(outcome, Rejected) and outcome.code == "-1021"


async def test_amount_off_the_venues_steps_is_not_sent(tried: Tried, listener: Listener) -> None:
    if tried.behaviour is None:
        pytest.skip("the venue in memory has no steps")
    outcome = await tried.venue.send(buy(1, tried.resting, quantity=Decimal("0.0100001234")))
    assert isinstance(outcome, NotSent) and "steps" in outcome.reason


@pytest.mark.parametrize("venue", ["binance"])
async def test_live_host_is_refused_without_permission(venue: str, tmp_path: Path) -> None:
    load_library()
    key = VenueKey(venue=venue, api_key="k", secret="s")
    with pytest.raises(InvalidInput, match="SKEET_ALLOW_LIVE"):
        BinanceVenue(venue_options(Settings(data=tmp_path), key, lambda: ""))
    mixed = Settings(data=tmp_path, sim={"url": "http://198.51.100.7:80"})
    with pytest.raises(InvalidInput, match="198"):
        BinanceVenue(venue_options(mixed, VenueKey(venue="sim", api_key="k", secret="s"), lambda: ""))


async def test_secret_is_in_no_representation(tmp_path: Path) -> None:
    key = VenueKey(venue="sim", api_key="canary-key", secret="canary-secret")
    options = venue_options(Settings(data=tmp_path, sim={"url": "http://127.0.0.1:1"}), key, lambda: "")
    assert "canary" not in repr(key) + repr(options)
