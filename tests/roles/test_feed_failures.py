"""What went wrong with market data on other platforms, by its number, on the simulated exchange."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from skeet.config import Settings
from skeet.core.market import (
    BookDelta,
    BookSnapshot,
    Channel,
    GapClosed,
    GapOpened,
    MarketDataResumed,
    MarketDataStale,
    VenueStatusChanged,
)
from skeet.core.values import VenueStatus
from tests.roles.conftest import SimProcess, assert_contiguous, live_trades, of, run_feed, trade_ids

pytestmark = pytest.mark.integration


def test_f18_lost_updates_invalidate_the_book_until_a_fresh_snapshot(settings: Settings, exchange: SimProcess) -> None:
    lost = threading.Event()

    def until(found: list[Any]) -> bool:
        if not lost.is_set() and len(of(BookDelta, found)) > 10:
            lost.set()
            exchange.misbehave(lose_frames_next=200)
        closed = [gap for gap in of(GapClosed, found) if gap.channel is Channel.BOOK]
        return bool(lost.is_set() and closed and of(BookDelta, found)[-1].ts_init > closed[-1].ts_init)

    found = run_feed(settings, until)
    assert exchange.happened()["lose_frames"] == 200
    book = [
        event for event in found if type(event) in (BookSnapshot, BookDelta) and event.instrument_id == "SIM:BTC/USDT"
    ]
    last = None
    for event in book:
        if isinstance(event, BookSnapshot):
            last = event.last_update_id
            continue
        assert last is not None and event.first_update_id <= last + 1 <= event.last_update_id
        last = event.last_update_id
    assert {gap.outcome.value for gap in of(GapClosed, found) if gap.channel is Channel.BOOK} == {"RESYNCED"}


def test_f19_an_open_socket_that_says_nothing_is_stale_and_made_anew(settings: Settings, exchange: SimProcess) -> None:
    feed = settings.feed.model_copy(update={"stale_after_ms": 1_000, "reconnect_after_silence_s": 3.0})
    frozen, thawed = threading.Event(), threading.Event()

    def until(found: list[Any]) -> bool:
        if not frozen.is_set() and live_trades(found) > 5:
            frozen.set()
            exchange.misbehave(frozen=True)
        downs = [event for event in of(VenueStatusChanged, found) if event.status is VenueStatus.DOWN]
        if downs and not thawed.is_set():
            thawed.set()
            exchange.misbehave(frozen=False)
        return bool(thawed.is_set() and of(MarketDataResumed, found))

    found = run_feed(settings.model_copy(update={"feed": feed}), until)
    assert exchange.happened()["freeze"] > 0
    assert of(MarketDataStale, found)
    downs = [event for event in of(VenueStatusChanged, found) if event.status is VenueStatus.DOWN]
    assert "nothing heard" in downs[0].reason


def test_f20_what_a_reconnect_missed_is_a_gap_and_filled(settings: Settings, exchange: SimProcess) -> None:
    feed = settings.feed.model_copy(update={"reconnect_after_silence_s": 2.0})
    frozen, thawed = threading.Event(), threading.Event()
    before: list[Any] = []

    def until(found: list[Any]) -> bool:
        if not frozen.is_set() and live_trades(found) > 20:
            before.extend(found)
            frozen.set()
            exchange.misbehave(frozen=True)
        if not thawed.is_set() and any(e.status is VenueStatus.DOWN for e in of(VenueStatusChanged, found)):
            thawed.set()
            exchange.misbehave(frozen=False)
        filled = [gap for gap in of(GapClosed, found) if gap.channel is Channel.TRADES and gap not in before]
        return thawed.is_set() and bool(filled) and len(of(GapOpened, found)) == len(of(GapClosed, found))

    found = run_feed(settings.model_copy(update={"feed": feed}), until)
    assert exchange.happened()["freeze"] > 0
    gaps = [gap for gap in of(GapClosed, found) if gap.channel is Channel.TRADES]
    assert {gap.outcome.value for gap in gaps} == {"FILLED"} and sum(gap.recovered for gap in gaps) > 0
    assert_contiguous(trade_ids(found))
