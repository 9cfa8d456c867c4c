"""A simulated exchange in a process of its own, a feed in a thread, and what it wrote to Kafka."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from skeet.config import FeedSettings, Settings, SimSettings
from skeet.core.market import Trade
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

TOPICS = (MARKET_RAW, MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, MARKET_BARS, MARKET_STATUS, INSTRUMENTS)
DEADLINE_S = 120.0
INSTRUMENT = "SIM:BTC/USDT"


class SimProcess:
    """The simulated exchange as a process that can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {
            "SKEET_SIM__ADMIN_TOKEN": "token",
            "SKEET_SIM__URL": self.url,
            "SKEET_SIM__SPEED": "20",
            "SKEET_DATA": str(folder),
        }
        self.server = ChildServer("skeet", ["run", "sim"], folder, environment)

    def flow(self, *, paused: bool) -> None:
        """Pause or resume the background flow."""
        assert self._call("flow", {"paused": paused})["paused"] is paused

    def misbehave(self, **faults: Any) -> None:
        """Set faults (fields of ``behaviour.Faults``)."""
        self._call("behaviour", faults)

    def happened(self) -> dict[str, int]:
        """How often each fault came true."""
        counts: dict[str, int] = self._call("behaviour", {})["happened"]
        return counts

    def _call(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        request = Request(f"{self.url}/sim/v1/{route}", data, {"Authorization": "Bearer token"})
        with urlopen(request, timeout=10) as answer:
            result: dict[str, Any] = json.load(answer)
        return result


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
