"""The feed against the simulated exchange, real Kafka between it and the reader."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skeet.config import FeedSettings, Settings, SimSettings
from skeet.core.market import BookDelta, BookSnapshot, GapClosed, GapOpened, Trade
from skeet.local.ports import free_port
from skeet.local.server import ChildServer
from skeet.process import StopSignal
from skeet.roles.feed import Feed
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import (
    INSTRUMENTS,
    MARKET_BARS,
    MARKET_BOOKS,
    MARKET_QUOTES,
    MARKET_RAW,
    MARKET_STATUS,
    MARKET_TRADES,
)

pytestmark = pytest.mark.integration

TOPICS = (MARKET_RAW, MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, MARKET_BARS, MARKET_STATUS, INSTRUMENTS)
DEADLINE_S = 60.0
INSTRUMENT = "SIM:BTC/USDT"


class SimProcess:
    """The simulated exchange as a process that can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {"SKEET_SIM__URL": self.url, "SKEET_SIM__SPEED": "20", "SKEET_DATA": str(folder)}
        self.server = ChildServer("skeet", ["run", "sim"], folder, environment)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[SimProcess]:
    sim = SimProcess(tmp_path / "sim")
    sim.server.start()
    try:
        yield sim
    finally:
        sim.server.stop()


@pytest.fixture
def settings(applied_settings: Settings, exchange: SimProcess) -> Settings:
    feed = FeedSettings(symbols=("BTC/USDT", "ETH/USDT"), history_days=1, history_trades_hours=0.1)
    return applied_settings.model_copy(update={"feed": feed, "sim": SimSettings(url=exchange.url)})


def events(settings: Settings) -> list[Any]:
    return [record.event for record in records_until_end(settings, registered_codec(settings), TOPICS)]


def run_feed(settings: Settings, until: Callable[[list[Any]], bool]) -> list[Any]:
    """Run the feed in a thread until what it wrote satisfies the condition; everything it wrote."""
    stop = StopSignal()
    failure: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(Feed(settings, stop).run())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not failure and not until(events(settings)):
            assert time.monotonic() < deadline, Counter(type(e).__name__ for e in events(settings))
            time.sleep(0.2)
    finally:
        if thread.is_alive():
            stop.stop()
        thread.join(30)
    assert not failure, failure
    return events(settings)


def of(kind: type[Any], found: list[Any], instrument: str = INSTRUMENT) -> list[Any]:
    return [event for event in found if type(event) is kind and event.instrument_id == instrument]


def trade_ids(found: list[Any]) -> list[int]:
    return sorted(int(trade.trade_id) for trade in of(Trade, found))


def assert_contiguous(ids: list[int]) -> None:
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def live_trades(found: list[Any]) -> int:
    return sum(not trade.backfilled for trade in of(Trade, found))


def test_the_live_feed_writes_frames_trades_and_a_chained_book_and_goes_on_after_a_restart(settings: Settings) -> None:
    first = run_feed(settings, lambda found: live_trades(found) > 50 and len(of(BookDelta, found)) > 20)
    assert_contiguous(trade_ids(first))
    assert {event.symbol for event in first if type(event).__name__ == "InstrumentDefined"} == {"BTC/USDT", "ETH/USDT"}
    kinds = Counter(type(event).__name__ for event in first)
    assert kinds["Quote"] > 20 and kinds["VenueStatusChanged"] >= 4 - 2
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
