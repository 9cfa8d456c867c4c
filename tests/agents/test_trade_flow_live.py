"""The role trade-flow on a real broker: trades in order, disordered, late; killed and started again."""

from __future__ import annotations

import random
import subprocess
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from live import events, wait_for
from market_records import trade

from skeet.config import Settings
from skeet.core.market import LateRecord, Signal, Trade
from skeet.core.values import NS_PER_MS, Side
from skeet.core.windows import Closed, Count, Hopping, Late, Sum, Windows
from skeet.schemas.codec import Codec
from skeet.streams.partitioner import partition_of
from skeet.streams.topics import CHECKPOINTS, LATE, SIGNALS

pytestmark = pytest.mark.integration

Publish = Callable[..., None]
Start = Callable[[str], subprocess.Popen[bytes]]
SYMBOLS = ("SIM:BTC/USDT", "SIM:ETH/USDT", "SIM:SOL/USDT", "SIM:ADA/USDT")
WINDOWS = Windows(
    Hopping(size_ns=250 * NS_PER_MS, step_ns=50 * NS_PER_MS),
    {"trades": Count(), "buy": Sum("buy")},
    grace_ns=500 * NS_PER_MS,
)


def disordered(count: int, seed: int) -> list[Trade]:
    """Half a minute of trades; each up to 400 ms late, one in forty by seconds."""
    draw = random.Random(seed)
    trades = []
    for number in range(count):
        delay = draw.uniform(2, 9) if draw.random() < 1 / 40 else draw.uniform(0, 0.4)
        at_s = max(0.0, number * 0.02 - delay)
        trades.append(trade(number, at_s, size=draw.randrange(1, 100), symbol=draw.choice(SYMBOLS)))
    return trades


def expected(trades: list[Trade]) -> tuple[dict[Any, Closed], list[Late]]:
    """One by one, each partition by itself: the windows that must be published, and what is late."""
    states: dict[int, Any] = defaultdict(WINDOWS.initial)
    closed: dict[Any, Closed] = {}
    late: list[Late] = []
    for each in trades:
        buy = each.size_mantissa if each.aggressor_side is Side.BUY else 0
        state = states[partition_of(each.instrument_id.encode(), 2)]
        outcome = WINDOWS.add(state, each.instrument_id, each.ts_event, {"buy": buy, "id": int(each.trade_id)})
        closed |= {(window.key, window.span.end): window for window in outcome.closed}
        late += outcome.late
    return closed, late


def seen(signals: list[Signal]) -> dict[Any, Signal]:
    return {(each.instrument_id, each.ts_event): each for each in signals}


def assert_published(signals: list[Signal], lates: list[LateRecord], trades: list[Trade], codec: Codec) -> None:
    closed, late = expected(trades)
    found = seen(signals)
    assert found.keys() == closed.keys()
    for key, window in closed.items():
        assert found[key].values["trades"] == window.results["trades"], key
        assert found[key].values["buy_volume"] == window.results["buy"] / 1000, key
    said = {int(codec.decode(each.payload)[0].trade_id): each for each in lates}  # type: ignore[attr-defined]
    assert said.keys() == {each.value["id"] for each in late}
    for each in late:
        record = said[each.value["id"]]
        assert (record.reason, record.windows_missed, record.watermark) == (
            each.reason,
            len(each.missed),
            each.watermark,
        )


def reaches(count: Callable[[], int], due: int) -> bool:
    return count() >= due


def test_trades_in_any_order_within_the_grace_count_and_later_ones_go_to_the_side(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    trades = disordered(1_500, seed=1)
    closed, late = expected(trades)
    assert closed and late
    worker = role("trade-flow")
    for begin in range(0, len(trades), 150):
        publish("market.trades.v1", *trades[begin : begin + 150])
    signals = wait_for(
        lambda: (
            found if len(found := [r.event for r in events(settings, codec, SIGNALS, Signal)]) >= len(closed) else None
        ),
        60,
        "the signals",
    )
    lates = [r.event for r in events(settings, codec, LATE, LateRecord)]
    assert_published(signals, lates, trades, codec)
    by_instrument: dict[str, list[int]] = defaultdict(list)
    for signal in signals:
        by_instrument[signal.instrument_id].append(signal.ts_event)
    assert all(times == sorted(set(times)) for times in by_instrument.values()), "each window once, in order"
    worker.terminate()
    assert worker.wait(30) == 0


def test_killed_and_started_again_it_publishes_the_same_windows_under_the_same_ids(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    trades = disordered(1_500, seed=2)

    def published() -> int:
        return len(seen([record.event for record in events(settings, codec, SIGNALS, Signal)]))

    for begin in (0, 500, 1_000):
        before = published()
        worker = role("trade-flow")
        for first in range(begin, begin + 500, 50):
            publish("market.trades.v1", *trades[first : first + 50])
        # Killed in the middle of what it was given; the last one ends the work.
        due = len(expected(trades)[0]) if begin == 1_000 else before + 1
        wait_for(partial(reaches, published, due), 60, f"{due} windows")
        if begin < 1_000:
            worker.kill()
            worker.wait()
    signals = [r.event for r in events(settings, codec, SIGNALS, Signal)]
    lates = [r.event for r in events(settings, codec, LATE, LateRecord)]
    assert_published(signals, lates, trades, codec)
    copies: dict[str, set[str]] = defaultdict(set)
    for each in (*signals, *lates):
        copies[each.event_id].add(repr(each))
    assert all(len(same) == 1 for same in copies.values()), "whatever came twice is the same both times"


def test_a_trade_that_comes_while_nobody_reads_is_as_late_as_if_somebody_did(
    settings: Settings, codec: Codec, publish: Publish, role: Start
) -> None:
    """The watermark outlives the process: what was published before the kill is not opened again after it."""
    worker = role("trade-flow")
    publish("market.trades.v1", trade(1, 10.0), trade(2, 12.0))
    wait_for(lambda: len(events(settings, codec, SIGNALS, Signal)) == 5, 30, "five windows")
    # The next chunk carries the checkpoint of the one before, confirmed by now.
    publish("market.trades.v1", trade(3, 12.01))
    wait_for(lambda: events(settings, codec, CHECKPOINTS, object), 30, "a checkpoint")
    worker.kill()
    worker.wait()
    publish("market.trades.v1", trade(4, 10.1))
    role("trade-flow")
    publish("market.trades.v1", trade(5, 14.0))
    wait_for(lambda: len(events(settings, codec, SIGNALS, Signal)) >= 10, 30, "the next windows")
    (late,) = [r.event for r in events(settings, codec, LATE, LateRecord)]
    assert (late.ts_event, late.windows_missed) == (trade(4, 10.1).ts_event, 5)
    ends = [r.event.ts_event for r in events(settings, codec, SIGNALS, Signal)]
    assert len(ends) == 10 and ends == sorted(set(ends))
