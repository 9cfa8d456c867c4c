"""The worker on chunks on a real broker: what it publishes is what the machines of single records make of the same log."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from live import events, wait_for
from market_records import SYMBOL, quote, trade

from skeet.agents.bars import BarsAgent
from skeet.agents.signals import ImbalanceSignals
from skeet.config import Settings, SignalSettings
from skeet.core.control import DeadLetter
from skeet.core.market import Bar, Quote, Reference, Signal, Trade
from skeet.core.record import Record
from skeet.core.snapshots import MachineSnapshot
from skeet.core.values import exact_arithmetic
from skeet.schemas.codec import Codec
from skeet.streams.kafka import producer
from skeet.streams.topics import (
    DEAD_LETTERS,
    MARKET_BARS,
    MARKET_QUOTES,
    MARKET_REFERENCE,
    MARKET_SNAPSHOTS,
    MARKET_TRADES,
    SIGNALS,
    topic_name,
)

pytestmark = pytest.mark.integration

Publish = Callable[..., None]
Start = Callable[[str], subprocess.Popen[bytes]]
INSTRUMENTS = [f"SIM:A{number}/USDT" for number in range(20)]


def made_of(machine: Any, records: Iterable[Record[Any]], codec: Codec) -> list[bytes]:
    """What the machine of single records publishes of them, as bytes, sorted."""
    state = machine.initial()
    made: list[bytes] = []
    with exact_arithmetic():
        for record in records:
            state, outs = machine.step(state, record)
            made.extend(codec.encode(out.event) for out in outs)
    return sorted(made)


def bytes_of(codec: Codec, records: Sequence[Record[Any]]) -> list[bytes]:
    return sorted(codec.encode(record.event) for record in records)


def test_worker_that_catches_up_publishes_what_single_records_make(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    """Six thousand trades and quotes wait, with poison, another's key and a finer scale among them."""
    trades = [trade(n, n * 0.05, 100_00 + n % 7, symbol=INSTRUMENTS[n % 20]) for n in range(6_000)]
    trades[3_001] = trade(3_001, 150.0, 100_001, symbol=INSTRUMENTS[1], price_scale=3)
    publish("market.trades.v1", *trades[:3_000])
    breaking = producer(settings, "breaking")
    breaking.produce(topic_name(MARKET_TRADES, settings.kafka), b"\x00\x00\x00", key=SYMBOL)
    breaking.produce(topic_name(MARKET_TRADES, settings.kafka), codec.encode(trade(1, 150.0)), key="SIM:NOT/MINE")
    breaking.flush(10)
    publish("market.trades.v1", *trades[3_000:])
    publish("market.quotes.v1", *(quote(n, n * 0.05, instrument_id=INSTRUMENTS[n % 20]) for n in range(6_000)))
    expected = made_of(BarsAgent(), events(settings, codec, MARKET_TRADES, Trade), codec)
    signals = made_of(ImbalanceSignals(SignalSettings()), events(settings, codec, MARKET_QUOTES, Quote), codec)
    role("worker")

    wait_for(lambda: len(events(settings, codec, MARKET_BARS, Bar)) >= len(expected), 60, "all bars")
    assert bytes_of(codec, events(settings, codec, MARKET_BARS, Bar)) == expected
    imbalances = wait_for(lambda: imbalance(settings, codec, len(signals)), 30, "all signals")
    assert bytes_of(codec, imbalances) == signals
    letters = wait_for(lambda: len(events(settings, codec, DEAD_LETTERS, DeadLetter)) >= 2, 10, "dead letters")
    assert letters
    newest = {
        record.event.instrument_id: record.event for record in events(settings, codec, MARKET_REFERENCE, Reference)
    }
    assert set(newest) == set(INSTRUMENTS)


def imbalance(settings: Settings, codec: Codec, count: int) -> list[Record[Any]]:
    found = [r for r in events(settings, codec, SIGNALS, Signal) if r.event.name == "book_imbalance"]
    return found if len(found) >= count else []


def test_killed_worker_goes_on_from_its_snapshot(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    """What was published before and after the kill is what one run over the whole log publishes, repeats being equal."""
    worker = role("worker")
    rows = [trade(n, n * 0.05, 100_00 + n % 7, symbol=INSTRUMENTS[n % 20]) for n in range(3_000)]
    quotes = [quote(n, n * 0.05, instrument_id=INSTRUMENTS[n % 20]) for n in range(3_000)]
    publish("market.trades.v1", *rows[:1_000])
    publish("market.quotes.v1", *quotes[:1_000])
    wait_for(
        lambda: {"bars", "imbalance"} <= {s.machine for s in snapshots(settings, codec) if s.positions}, 40, "snapshots"
    )
    publish("market.trades.v1", *rows[1_000:2_000])
    publish("market.quotes.v1", *quotes[1_000:2_000])
    worker.kill()
    worker.wait()
    publish("market.trades.v1", *rows[2_000:])
    publish("market.quotes.v1", *quotes[2_000:])
    role("worker")

    expected = set(made_of(BarsAgent(), events(settings, codec, MARKET_TRADES, Trade), codec))
    signals = set(made_of(ImbalanceSignals(SignalSettings()), events(settings, codec, MARKET_QUOTES, Quote), codec))

    def bars_by() -> set[bytes]:
        return set(bytes_of(codec, events(settings, codec, MARKET_BARS, Bar)))

    wait_for(lambda: bars_by() >= expected, 60, "all bars")
    assert bars_by() == expected
    found = wait_for(lambda: imbalance(settings, codec, len(signals)), 30, "all signals")
    assert set(bytes_of(codec, found)) == signals


def snapshots(settings: Settings, codec: Codec) -> list[MachineSnapshot]:
    return [record.event for record in events(settings, codec, MARKET_SNAPSHOTS, MachineSnapshot)]


def test_a_thousand_instruments_are_restored_in_seconds(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    instruments = [f"SIM:B{number}/USDT" for number in range(1_000)]
    worker = role("worker")
    for second in range(10):
        publish("market.trades.v1", *(trade(second, second, symbol=each) for each in instruments))
    wait_for(lambda: len(events(settings, codec, MARKET_BARS, Bar)) >= 9_000, 60, "bars")
    worker.terminate()
    assert worker.wait(30) == 0
    held = snapshots(settings, codec)
    assert {snapshot.machine for snapshot in held} >= {"bars"}
    role("worker")
    log = (settings.data / "worker.log").read_text()
    print([line for line in log.splitlines() if "restored" in line])  # noqa: T201
    publish("market.trades.v1", *(trade(10, 10, symbol=each) for each in instruments))
    wait_for(lambda: len(events(settings, codec, MARKET_BARS, Bar)) >= 10_000, 60, "bars after the restart")
    bars = [record.event for record in events(settings, codec, MARKET_BARS, Bar)]
    assert len({bar.natural_key for bar in bars}) == len(bars) == 10_000
    assert all(bar.trade_count == 1 for bar in bars)


def test_state_moves_with_its_partitions_when_workers_join_and_leave(
    settings: Settings, codec: Codec, publish: Publish, role: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars are open across each change of hands; what all of them publish is what one run publishes."""
    rows = [trade(n, n * 0.05, 100_00 + n % 7, symbol=INSTRUMENTS[n % 20]) for n in range(3_000)]
    monkeypatch.setenv("SKEET_SLOT", "0")
    role("worker")
    publish("market.trades.v1", *rows[:1_010])
    wait_for(lambda: len(events(settings, codec, MARKET_BARS, Bar)) >= 500, 60, "bars of the first worker")
    monkeypatch.setenv("SKEET_SLOT", "1")
    second = role("worker")
    publish("market.trades.v1", *rows[1_010:2_005])
    wait_for(lambda: len(events(settings, codec, MARKET_BARS, Bar)) >= 1_500, 60, "bars of two workers")
    second.kill()
    second.wait()
    publish("market.trades.v1", *rows[2_005:])

    expected = set(made_of(BarsAgent(), events(settings, codec, MARKET_TRADES, Trade), codec))

    def bars_by() -> set[bytes]:
        return set(bytes_of(codec, events(settings, codec, MARKET_BARS, Bar)))

    wait_for(lambda: bars_by() >= expected, 90, "all bars")
    assert bars_by() == expected
