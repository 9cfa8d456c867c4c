"""One account's session against a venue in memory: no answer, lost fills, late cancels, absence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from authorised import ORDER_ID, authorised

from skeet.agents.gateway_account import AccountSession
from skeet.agents.gateway_book import AccountBook, LiveOrder, Outs, authorised_order
from skeet.core.record import Out, Record, TopicPosition
from skeet.core.reports import BalanceReported
from skeet.core.values import (
    Side,
    TimeInForce,
)
from skeet.streams.ports import Attempt, StreamLost, Venue, VenueBalance
from skeet.venues.execution.memory import QUICK, Answer, MemoryVenue

DEADLINE_S = 20.0


class Played:
    """A session, its venue, and what it published."""

    def __init__(self, venue: MemoryVenue, earlier: Sequence[Out[Any]]) -> None:
        self.venue = venue
        self.outs: Outs = []
        port: Venue = venue
        book = AccountBook()
        for offset, out in enumerate(earlier):
            at = TopicPosition(out.topic, 0, offset)
            book.restore(Record(event=out.event, meta=out.meta, at=at, log_ns=offset))
        self.session = AccountSession("alpha", "main", port, book, self.outs.extend, time.time_ns)

    def attempt(self) -> tuple[LiveOrder, Attempt]:
        record, now = authorised(), time.time_ns()
        order = authorised_order(record, now + self.venue.capabilities.receive_window_ns)
        self.outs += self.session.book.attempt(order, record.event, now)
        attempt = Attempt(
            key=order.key,
            side=Side.BUY,
            quantity=Decimal(2),
            limit_price=Decimal(100),
            time_in_force=TimeInForce.GTC,
            post_only=False,
            sent_ts=now,
            send_until=order.send_until,
        )
        return order, attempt

    def submit(self) -> LiveOrder:
        order, attempt = self.attempt()
        self.session.submit(order, attempt)
        return order

    def balances(self) -> dict[str, Decimal]:
        return {out.event.asset: out.event.free for out in self.outs if isinstance(out.event, BalanceReported)}

    def kinds(self) -> list[str]:
        names = [type(out.event).__name__ for out in self.outs]
        return [name for name in names if name != "BalanceReported"]

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.kinds()
            await asyncio.sleep(0.01)


@pytest.fixture
async def play() -> AsyncIterator[Callable[..., Any]]:
    begun: list[Played] = []

    async def begin(answer: Answer = Answer.ACK, earlier: Sequence[Out[Any]] = (), **rules: Any) -> Played:
        played = Played(MemoryVenue(lambda _: answer, replace(QUICK, **rules)), earlier)
        begun.append(played)
        played.session.start()
        await asyncio.wait_for(played.session.ready.wait(), DEADLINE_S)
        return played

    yield begin
    for played in begun:
        await played.session.close()


async def test_accepted_order_without_an_answer_is_found_by_asking(play: Any) -> None:
    played = await play(Answer.ACCEPT_THEN_LOSE)
    played.submit()
    await played.until(lambda: "SubmitAcknowledged" in played.kinds())
    assert played.venue.sent == {ORDER_ID: 1}


async def test_absence_is_concluded_only_after_the_request_expired(play: Any) -> None:
    # Longer than all the questions that absence takes: what is waited for is the request's end, not their number.
    played = await play(Answer.LOSE, receive_window_ns=2_000_000_000)
    order = played.submit()
    await played.until(lambda: "OrderFoundAbsent" in played.kinds())
    assert time.time_ns() > order.send_until + QUICK.settled_after_ns
    assert played.kinds() == ["SubmitAttempted", "SubmitOutcomeUnknown", "OrderFoundAbsent"]
    assert played.venue.sent == {ORDER_ID: 1}


async def test_absence_is_never_concluded_where_requests_do_not_expire(play: Any) -> None:
    played = await play(Answer.LOSE, request_expiry=False)
    order = played.submit()
    await played.until(lambda: time.time_ns() > order.send_until + QUICK.settled_after_ns + 1_000_000_000)
    assert played.kinds() == ["SubmitAttempted", "SubmitOutcomeUnknown"]


async def test_fill_before_the_answer_is_kept(play: Any) -> None:
    played = await play(Answer.FILL_BEFORE_ACK)
    played.submit()
    await played.until(lambda: {"FillReported", "SubmitAcknowledged"} <= set(played.kinds()))
    assert played.session.book.orders == {}


async def test_cancel_before_the_answer_is_sent_once_the_order_is_acknowledged(play: Any) -> None:
    played = await play()
    order, attempt = played.attempt()
    played.outs += played.session.book.cancel_attempt(order, "x" * 32, 1, 2)
    played.session.cancel(order)
    assert "CancelReported" not in played.kinds()
    played.session.submit(order, attempt)
    await played.until(lambda: "CancelReported" in played.kinds())
    assert played.kinds().index("SubmitAcknowledged") < played.kinds().index("CancelReported")


async def test_cancel_of_an_order_that_filled_meanwhile_is_refused_and_the_fill_wins(play: Any) -> None:
    played = await play()
    order = played.submit()
    await played.until(lambda: "SubmitAcknowledged" in played.kinds())
    played.venue.fill(ORDER_ID, Decimal(2), silent=True)
    played.outs += played.session.book.cancel_attempt(order, "x" * 32, 1, 2)
    played.session.cancel(order)
    await played.until(lambda: "FillReported" in played.kinds())
    assert "CancelRejectedByVenue" in played.kinds() and "CancelReported" not in played.kinds()
    assert played.session.book.orders == {}


async def test_fills_that_the_stream_lost_are_asked_for_before_an_order_is_done(play: Any) -> None:
    played = await play()
    order = played.submit()
    await played.until(lambda: "SubmitAcknowledged" in played.kinds())
    played.venue.fill(ORDER_ID, Decimal(1), silent=True)
    played.outs += played.session.book.cancel_attempt(order, "x" * 32, 1, 2)
    played.session.cancel(order)
    await played.until(lambda: "FillReported" in played.kinds())
    assert "CancelReported" in played.kinds() and played.session.book.orders == {}


async def test_lost_stream_stops_orders_until_everything_was_asked_again(play: Any) -> None:
    played = await play()
    played.submit()
    await played.until(lambda: "SubmitAcknowledged" in played.kinds())
    played.venue.say(StreamLost(reason="drill"))
    await played.until(lambda: not played.session.ready.is_set())
    assert "drill" in played.session.trouble


async def test_same_execution_said_twice_is_reported_once(play: Any) -> None:
    played = await play()
    played.submit()
    await played.until(lambda: "SubmitAcknowledged" in played.kinds())
    trade = played.venue.fill(ORDER_ID, Decimal(1))
    played.venue.say(trade)
    played.venue.fill(ORDER_ID, Decimal(1))
    await played.until(lambda: not played.session.book.orders)
    assert played.kinds().count("FillReported") == 2


async def test_a_restart_does_not_report_a_balance_again(play: Any) -> None:
    before = await play()
    await before.until(lambda: "USDT" in before.balances())
    after = await play(earlier=before.outs)
    after.venue.say(VenueBalance(asset="BTC", free=Decimal(2), locked=Decimal(0), ts_event=1))
    await after.until(lambda: bool(after.balances()))
    assert after.balances() == {"BTC": Decimal(2)}
