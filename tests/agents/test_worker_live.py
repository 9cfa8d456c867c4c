"""The worker on a real broker: what it does with aborted, broken and repeated records, and after a SIGKILL."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
from live import events, wait_for
from market_records import SYMBOL, quote, trade

from skeet.config import Settings
from skeet.core.control import DeadLetter
from skeet.core.market import Bar, Quote, Reference, Signal, Tick
from skeet.schemas.codec import Codec
from skeet.streams.kafka import group_name, producer
from skeet.streams.partitioner import partition_of
from skeet.streams.topics import (
    CLOCK,
    DEAD_LETTERS,
    MARKET_BARS,
    MARKET_QUOTES,
    MARKET_REFERENCE,
    MARKET_TRADES,
    SIGNALS,
    topic_name,
)
from skeet.wiring import ROLES

pytestmark = pytest.mark.integration

Publish = Callable[..., None]
Start = Callable[[str], subprocess.Popen[bytes]]


def test_worker_skips_aborted_records_dead_letters_broken_ones_and_goes_on(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    trades = topic_name(MARKET_TRADES, settings.kafka)
    aborted = producer(settings, "aborting", transactional_id=f"{settings.kafka.topic_prefix}tx")
    aborted.init_transactions(10)
    aborted.begin_transaction()
    aborted.produce(trades, codec.encode(trade(1, 0.1, 999_99)), key=SYMBOL)
    aborted.flush(10)
    aborted.abort_transaction(10)
    plain = producer(settings, "breaking")
    plain.produce(trades, b"\x00\x00\x00", key=SYMBOL)
    plain.flush(10)
    publish("market.quotes.v1", quote(1, 0.1))
    publish("market.trades.v1", trade(2, 0.2, 100_00), trade(3, 1.2, 101_00))
    worker = role("worker")

    bars = wait_for(lambda: events(settings, codec, MARKET_BARS, Bar), 20, "a bar")
    assert bars[0].event.high_mantissa == 100_00, "the aborted trade is in no bar"
    letters = wait_for(lambda: events(settings, codec, DEAD_LETTERS, DeadLetter), 10, "a dead letter")
    assert (letters[0].event.value, letters[0].event.topic) == (b"\x00\x00\x00", "market.trades.v1")

    def reference() -> Any:
        found = events(settings, codec, MARKET_REFERENCE, Reference)
        return found and found[-1].event.last_mantissa == 101_00 and found[-1].event

    newest = wait_for(reference, 10, "the newest reference")
    assert (newest.bid_mantissa, newest.ask_mantissa, newest.status) == (99_99, 100_01, "LIVE")
    assert wait_for(lambda: events(settings, codec, SIGNALS, Signal), 10, "a signal")[0].event.name == "book_imbalance"
    wait_for(lambda: len(events(settings, codec, CLOCK, Tick)) >= 3, 10, "the clock")

    worker.terminate()
    assert worker.wait(20) == 0
    assert committed(settings) == 5, "aborted record, marker, broken record and both trades are behind it"


def committed(settings: Settings) -> int:
    from confluent_kafka import TopicPartition

    from skeet.streams.kafka import consumer

    name = topic_name(MARKET_TRADES, settings.kafka)
    client = consumer(settings, "test", group_id=group_name(settings, ROLES["worker"].group))
    try:
        (found,) = client.committed([TopicPartition(name, partition_of(SYMBOL.encode(), 2))], timeout=10)
        return int(found.offset)
    finally:
        client.close()


def test_killed_worker_loses_no_bar_and_closes_none_partially(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    """Trades of two minutes, five a second; the worker is killed in mid-minute with the next trades unread."""
    rows = [trade(i, i * 0.2, 100_00 + i) for i in range(601)]
    worker = role("worker")
    publish("market.trades.v1", *rows[:421])
    wait_for(lambda: len(seconds(settings, codec)) >= 60, 30, "bars before the kill")
    worker.kill()
    worker.wait()
    publish("market.trades.v1", *rows[421:])
    role("worker")
    wait_for(lambda: len(minutes(settings, codec)) >= 2, 40, "both minutes")

    closed = seconds(settings, codec)
    assert [bar.ts_open for bar in closed] == sorted({bar.ts_open for bar in closed}), "in order, none twice"
    assert [(bar.trade_count, bar.late_trades) for bar in closed] == [(5, 0)] * 120
    assert [(bar.trade_count, bar.late_trades) for bar in minutes(settings, codec)] == [(300, 0)] * 2


def seconds(settings: Settings, codec: Codec) -> list[Bar]:
    return [r.event for r in events(settings, codec, MARKET_BARS, Bar) if r.event.interval == "1s"]


def minutes(settings: Settings, codec: Codec) -> list[Bar]:
    return [r.event for r in events(settings, codec, MARKET_BARS, Bar) if r.event.interval == "1m"]


def test_worker_hop_is_a_few_milliseconds(settings: Settings, codec: Codec, publish: Publish, role: Start) -> None:
    """From the quote's append to its imbalance signal's, at 50 quotes a second."""
    role("worker")
    for number in range(100):
        publish("market.quotes.v1", quote(number, number * 0.1))
        time.sleep(0.02)
    quotes = {str(r.at): r.log_ns for r in events(settings, codec, MARKET_QUOTES, Quote)}
    found = wait_for(lambda: events(settings, codec, SIGNALS, Signal), 10, "signals")
    hops_ms = sorted((r.log_ns - quotes[r.event.cause_at]) / 1e6 for r in found)
    assert len(hops_ms) >= 5
    print(f"worker hop ms: p50 {median(hops_ms)}, max {hops_ms[-1]}, n {len(hops_ms)}")  # noqa: T201
    assert median(hops_ms) <= 30
