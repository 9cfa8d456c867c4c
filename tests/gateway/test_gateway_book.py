"""The gateway's memory: facts in any order, any number of times, make each report once."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from authorised import INSTRUMENT, ORDER_ID, authorised

from skeet.agents.gateway_book import AccountBook, LiveOrder, Outs, Stage, authorised_order
from skeet.core.record import Record, TopicPosition
from skeet.core.values import (
    LiquiditySide,
    Side,
)
from skeet.streams.ports import OrderKey, VenueOrder, VenueOrderStatus, VenueTrade


def attempted(book: AccountBook, quantity: str = "2") -> tuple[LiveOrder, Outs]:
    record = authorised(quantity)
    order = authorised_order(record, send_until=1_000)
    return order, book.attempt(order, record.event, 500)


def key(client: bool = True) -> OrderKey:
    return OrderKey(instrument_id=INSTRUMENT, client_order_id=ORDER_ID if client else "", venue_order_id="77")


def trade(number: int, quantity: str = "1", *, client: bool = True) -> VenueTrade:
    return VenueTrade(
        key=key(client),
        trade_id=str(number),
        side=Side.BUY,
        quantity=Decimal(quantity),
        price=Decimal(100),
        fee=Decimal("0.1"),
        fee_asset="USDT",
        liquidity=LiquiditySide.TAKER,
        ts_event=600 + number,
    )


def state(status: VenueOrderStatus, filled: str = "0") -> VenueOrder:
    return VenueOrder(key=key(), status=status, filled_quantity=Decimal(filled), ts_event=700)


def kinds(outs: Outs) -> list[str]:
    return [type(out.event).__name__ for out in outs]


def test_attempt_names_its_cause_and_keeps_the_time_it_all_started() -> None:
    _, outs = attempted(AccountBook())
    (out,) = outs
    assert out.key == "alpha" and out.meta is not None
    assert (out.meta.causation_id, out.meta.cause_at) == ("e" * 32, "accounts.events.v1/0/7")
    assert (out.meta.correlation_id, out.meta.ts_init, out.meta.stream_version) == ("c" * 32, 4, 0)
    assert (out.event.sent_ts, out.event.send_until, out.event.client_order_id) == (500, 1_000, ORDER_ID)


def test_fill_before_the_answer_is_reported_and_the_answer_still_acknowledges() -> None:
    book = AccountBook()
    order, _ = attempted(book)
    assert kinds(book.traded(trade(1))) == ["FillReported"]
    outs = book.acknowledged(order, state(VenueOrderStatus.OPEN, "1"), 510, 520)
    assert kinds(outs) == ["SubmitAcknowledged"]
    assert (outs[0].event.written_ns, outs[0].event.answered_ns) == (510, 520)


def test_end_before_the_answer_is_reported_after_the_answer() -> None:
    book = AccountBook()
    order, _ = attempted(book)
    assert book.seen(state(VenueOrderStatus.EXPIRED)) == []
    assert kinds(book.acknowledged(order, state(VenueOrderStatus.EXPIRED))) == ["SubmitAcknowledged", "ExpiryReported"]
    assert book.orders == {}


def test_same_trade_by_stream_and_by_asking_is_reported_once() -> None:
    book = AccountBook()
    order, _ = attempted(book)
    book.acknowledged(order, state(VenueOrderStatus.OPEN))
    assert kinds(book.traded(trade(1))) == ["FillReported"]
    assert book.traded(trade(1, client=False)) == []
    assert kinds(book.traded(trade(2, client=False))) == ["FillReported"]
    assert book.traded(trade(2)) == [] and book.orders == {}


def test_any_word_of_the_venue_resolves_an_unknown_outcome() -> None:
    for word in ("trade", "state"):
        book = AccountBook()
        order, _ = attempted(book)
        assert kinds(book.unknown(order, "timeout", 800)) == ["SubmitOutcomeUnknown"]
        outs = book.traded(trade(1)) if word == "trade" else book.seen(state(VenueOrderStatus.OPEN))
        assert kinds(outs)[0] == "SubmitAcknowledged"
        assert outs[0].event.written_ns == 0 and order.stage is Stage.OPEN


def test_no_answer_after_the_stream_spoke_is_resolved_at_once() -> None:
    book = AccountBook()
    order, _ = attempted(book, "1")
    book.traded(trade(1))
    assert kinds(book.unknown(order, "reset", 800)) == ["SubmitOutcomeUnknown", "SubmitAcknowledged"]
    assert book.orders == {}


def test_canceled_order_stays_until_its_missing_fills_arrived() -> None:
    book = AccountBook()
    order, _ = attempted(book)
    book.acknowledged(order, state(VenueOrderStatus.OPEN))
    assert kinds(book.seen(state(VenueOrderStatus.CANCELED, "1"))) == ["CancelReported"]
    assert book.seen(state(VenueOrderStatus.CANCELED, "1")) == []
    assert order.fills_missing and ORDER_ID in book.orders
    assert kinds(book.traded(trade(1))) == ["FillReported"]
    assert book.orders == {} and book.is_done(key())


def test_word_about_an_order_that_is_not_ours_makes_nothing() -> None:
    book = AccountBook()
    assert book.traded(trade(1)) == [] and book.seen(state(VenueOrderStatus.OPEN)) == []


FACTS = ("answer", "trade-1", "trade-2", "filled")


@pytest.mark.parametrize("order_of_facts", list(itertools.permutations(FACTS)), ids="-".join)
def test_reports_are_the_same_set_in_whatever_order_the_facts_come(order_of_facts: tuple[str, ...]) -> None:
    book = AccountBook()
    order, outs = attempted(book)
    facts: dict[str, Any] = {
        "answer": lambda: book.acknowledged(order, state(VenueOrderStatus.FILLED, "2"), 510, 520),
        "trade-1": lambda: book.traded(trade(1)),
        "trade-2": lambda: book.traded(trade(2)),
        "filled": lambda: book.seen(state(VenueOrderStatus.FILLED, "2")),
    }
    for fact in (*order_of_facts, *(f for f in order_of_facts if f != "answer")):
        outs = outs + facts[fact]()
    ids = [out.meta.event_id for out in outs if out.meta is not None]
    assert sorted(kinds(outs)) == ["FillReported", "FillReported", "SubmitAcknowledged", "SubmitAttempted"]
    assert len(set(ids)) == len(ids) and book.orders == {}


def scenario(name: str, book: AccountBook) -> Outs:
    order, outs = attempted(book)
    if name == "unanswered":
        return outs
    if name == "unknown":
        return outs + book.unknown(order, "timeout", 800)
    outs = outs + book.acknowledged(order, state(VenueOrderStatus.OPEN)) + book.traded(trade(1))
    if name == "part filled":
        return outs
    outs = outs + book.cancel_attempt(order, "x" * 32, 900, 1_900)
    return outs + book.seen(state(VenueOrderStatus.CANCELED, "2" if name == "fill missing" else "1"))


@pytest.mark.parametrize("name", ["unanswered", "unknown", "part filled", "fill missing", "canceled"])
def test_memory_restored_from_own_reports_equals_the_live_one(name: str) -> None:
    live, restored = AccountBook(), AccountBook()
    for offset, out in enumerate(scenario(name, live)):
        at = TopicPosition(out.topic, 0, offset)
        restored.restore(Record(event=out.event, meta=out.meta, at=at, log_ns=0))
    assert restored.orders.keys() == live.orders.keys()
    assert restored.last_trade_ids == live.last_trade_ids
    assert restored.is_done(key()) == live.is_done(key())
    for order_id, order in live.orders.items():
        twin = restored.orders[order_id]
        assert (twin.stage, twin.filled, twin.trade_ids, twin.cancel_id, twin.key) == (
            order.stage,
            order.filled,
            order.trade_ids,
            order.cancel_id,
            order.key,
        )
        assert twin.fills_missing == order.fills_missing and twin.end_reported == order.end_reported
