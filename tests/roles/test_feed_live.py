"""The feed against the simulated exchange, real Kafka between it and the reader."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from skeet.config import Settings
from skeet.core.ids import derive_id
from skeet.core.market import (
    Bar,
    BookDelta,
    BookSnapshot,
    GapClosed,
    GapOpened,
    MarketDataResumed,
    MarketDataStale,
    Trade,
    VenueStatusChanged,
)
from skeet.core.platform import IngestResumed, IngestStopped
from skeet.core.record import Event, Meta, Out
from skeet.core.values import VenueStatus
from skeet.schemas.golden import sample
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.registry import registered_codec
from skeet.streams.topics import PLATFORM_EVENTS
from tests.roles.conftest import SimProcess, assert_contiguous, live_trades, of, run_feed, trade_ids

pytestmark = pytest.mark.integration


def test_the_live_feed_writes_frames_trades_and_a_chained_book_and_goes_on_after_a_restart(settings: Settings) -> None:
    first = run_feed(settings, lambda found: live_trades(found) > 50 and len(of(BookDelta, found)) > 20)
    assert_contiguous(trade_ids(first))
    assert {event.symbol for event in first if type(event).__name__ == "InstrumentDefined"} == {"BTC/USDT", "ETH/USDT"}
    kinds = Counter(type(event).__name__ for event in first)
    assert kinds["Quote"] > 20 and kinds["VenueStatusChanged"] >= 2
    assert_history(of(Bar, first), of(Trade, first))
    assert_book_chains(of(BookSnapshot, first) + of(BookDelta, first))

    more = live_trades(first) + 50
    second = run_feed(settings, lambda found: live_trades(found) > more)
    assert_contiguous(trade_ids(second))
    gaps, ends = of(GapOpened, second), of(GapClosed, second)
    assert {(g.channel, g.first_missing, g.last_missing) for g in gaps} == {
        (g.channel, g.first_missing, g.last_missing) for g in ends
    }
    assert {end.outcome for end in ends} <= {"FILLED", "RESYNCED"} and ends
    assert len([event for event in second if type(event).__name__ == "InstrumentDefined"]) == 2


def assert_book_chains(found: list[Any]) -> None:
    """Events of one partition come in order: the snapshot, then diffs without a hole."""
    last = found[0].last_update_id
    assert isinstance(found[0], BookSnapshot)
    for delta in found[1:]:
        assert delta.first_update_id <= last + 1 <= delta.last_update_id
        last = delta.last_update_id


def assert_history(bars: list[Any], trades: list[Any]) -> None:
    """Minute bars without a hole up to the minute in which the trades begin; none for a minute that trades tell."""
    assert bars
    assert [bar.ts_open for bar in bars[1:]] == [bar.ts_close for bar in bars[:-1]]
    assert bars[-1].ts_close <= min(trade.ts_event for trade in trades)
    assert all(bar.cause_at == "" and bar.complete for bar in bars)


def test_an_exchange_that_is_killed_and_comes_back_leaves_no_hole(settings: Settings, exchange: SimProcess) -> None:
    killed = threading.Event()

    def until(found: list[Any]) -> bool:
        if not killed.is_set():
            if live_trades(found) > 20:
                killed.set()
                exchange.server.kill()
                exchange.server.start()
            return False
        ups = [e for e in of(VenueStatusChanged, found) if e.status == VenueStatus.UP]
        after = [t for t in of(Trade, found) if len(ups) > 1 and t.ts_init > ups[1].ts_init]
        return len(after) > 20 and len(of(GapOpened, found)) == len(of(GapClosed, found))

    found = run_feed(settings, until)
    assert [e.status.value for e in of(VenueStatusChanged, found)][:3] == ["UP", "DOWN", "UP"]
    assert_contiguous(trade_ids(found))
    assert {end.outcome for end in of(GapClosed, found)} <= {"FILLED", "RESYNCED"}


def test_silence_is_reported_once_and_so_is_its_end(settings: Settings, exchange: SimProcess) -> None:
    feed = settings.feed.model_copy(update={"stale_after_ms": 1_500})
    paused = threading.Event()

    def until(found: list[Any]) -> bool:
        if not paused.is_set() and live_trades(found) > 5:
            paused.set()
            exchange.flow(paused=True)
        if paused.is_set() and of(MarketDataStale, found):
            exchange.flow(paused=False)
        return bool(of(MarketDataResumed, found))

    found = run_feed(settings.model_copy(update={"feed": feed}), until)
    stale, resumed = of(MarketDataStale, found), of(MarketDataResumed, found)
    assert len(stale) == 1
    assert stale[0].last_seen < stale[0].ts_event < resumed[0].ts_event


def say(settings: Settings, event: Event) -> None:
    """The word of a machine's disks."""
    meta = replace(sample(Meta), event_id=derive_id("test", str(time.time_ns())))
    publisher = Publisher(settings, registered_codec(settings), producer(settings, "disks"))
    publisher.send([Out(topic=PLATFORM_EVENTS.name, key="disk:here", event=event, meta=meta)])
    publisher.flush()


def test_ingest_that_was_stopped_writes_nothing_and_what_it_missed_is_a_gap_like_any_other(settings: Settings) -> None:
    steps: list[Any] = ["stop"]
    at_stop: list[int] = []
    say(settings, IngestStopped(used=95, budget=100, reason="disk nearly full"))

    def until(found: list[Any]) -> bool:
        """Started while stopped → resumed → stopped → resumed."""
        downs = [e for e in of(VenueStatusChanged, found) if e.status == VenueStatus.DOWN]
        match steps:
            case ["stop"] if time.monotonic() - began > 2:
                assert found == []
                say(settings, IngestResumed(used=80, budget=100))
                steps.append("resumed")
            case ["stop", "resumed"] if live_trades(found) > 20:
                say(settings, IngestStopped(used=95, budget=100, reason="disk nearly full"))
                steps.append("stopped")
            case ["stop", "resumed", "stopped"] if downs:
                at_stop.append(len(found))
                if len(at_stop) > 10:  # some looks later nothing more came
                    assert at_stop[-1] == at_stop[0]
                    say(settings, IngestResumed(used=80, budget=100))
                    steps.append("resumed")
            case ["stop", "resumed", "stopped", "resumed"]:
                after = [t for t in of(Trade, found) if not t.backfilled and t.ts_init > downs[0].ts_init]
                return len(after) > 20 and len(of(GapOpened, found)) == len(of(GapClosed, found))
            case _:
                pass
        return False

    began = time.monotonic()
    found = run_feed(settings, until)
    down = next(e for e in of(VenueStatusChanged, found) if e.status == VenueStatus.DOWN)
    assert down.reason == "ingest stopped: disk nearly full"
    assert_contiguous(trade_ids(found))
    assert "TRADES" in {gap.channel.value for gap in of(GapOpened, found)}
    assert {end.outcome for end in of(GapClosed, found)} <= {"FILLED", "RESYNCED"}
