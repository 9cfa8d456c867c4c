"""Signals and the reference: given market records, then these values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import talib
from market_records import SYMBOL, T0, quote, record, trade

from skeet.agents.reference import ReferenceAgent
from skeet.agents.signals import BarSignals, ImbalanceSignals
from skeet.config import SignalSettings
from skeet.core.market import Bar, Channel, GapClosed, GapOpened, GapOutcome, MarketDataResumed, MarketDataStale
from skeet.core.record import Event
from skeet.core.values import NS_PER_S
from skeet.strategies.ema_cross import EmaCross, EmaCrossParameters
from skeet.strategies.testing import Bench

SETTINGS = SignalSettings(ema_pairs=((3, 8),), rsi_periods=(14,))
PRICES = [100 + (i * 7919 % 83) / 10 for i in range(60)]


def bar(number: int, price: float, **fields: Any) -> Bar:
    maker = Bench(EmaCross(EmaCrossParameters()), now_ns=T0 + number * NS_PER_S)
    return replace(maker.made_bar(f"{price:.1f}", "1s"), instrument_id=SYMBOL, **fields)


def signals(*events: Event) -> list[Any]:
    agent = BarSignals(SETTINGS)
    state: Any = agent.initial()
    found: list[Any] = []
    for offset, event in enumerate(events):
        state, outs = agent.step(state, record(event, offset, "market.bars.v1"))
        found.extend(out.event for out in outs)
    return found


def test_streaming_values_equal_the_batch_functions_of_talib() -> None:
    found = signals(*(bar(i, price) for i, price in enumerate(PRICES)))
    crosses = [signal for signal in found if signal.name == "ema_cross"]
    closes = np.array(PRICES)
    assert crosses[-1].values["fast"] == pytest.approx(talib.EMA(closes, 3)[-1])
    assert crosses[-1].values["slow"] == pytest.approx(talib.EMA(closes, 8)[-1])
    assert [s for s in found if s.name == "rsi"][-1].values["rsi"] == pytest.approx(talib.RSI(closes, 14)[-1])
    assert crosses[-1].parameters == {"fast": "3", "slow": "8"}
    assert crosses[-1].cause_at == "market.bars.v1/0/59"
    assert crosses[-1].causation_id == bar(59, PRICES[-1]).event_id


def test_history_feeds_the_indicators_without_signals_and_a_repeated_bar_changes_nothing() -> None:
    history = [bar(i, price, cause_at="") for i, price in enumerate(PRICES[:-1])]
    last = bar(59, PRICES[-1])
    once = signals(*history, last)
    assert {signal.name for signal in once} == {"ema_cross", "rsi"}
    assert [s.values for s in signals(*history, last, last)] == [s.values for s in once]


def test_imbalance_is_conflated_to_its_interval() -> None:
    agent = ImbalanceSignals(SETTINGS)
    state: Any = agent.initial()
    found: list[Any] = []
    for number in range(30):
        state, outs = agent.step(state, record(quote(number, number * 0.01, bid_size_mantissa=3000), number))
        found.extend(out.event for out in outs)
    assert [signal.values["imbalance"] for signal in found] == [0.5] * 3


def references(*events: Event) -> list[Any]:
    agent = ReferenceAgent()
    state: Any = agent.initial()
    found: list[Any] = []
    for offset, event in enumerate(events):
        state, outs = agent.step(state, record(event, offset))
        found.extend(out.event for out in outs)
    return found


def test_reference_is_published_ten_times_a_second_at_most_and_the_newest_within_100_ms() -> None:
    agent = ReferenceAgent()
    state = agent.initial()
    published = 0
    for number in range(100):
        state, outs = agent.step(state, record(quote(number, number * 0.01, bid=90_00 + number), number))
        published += len(outs)
    assert published <= 11
    now = T0 + round(0.99 * NS_PER_S)
    state, outs = agent.due(state, now + NS_PER_S // 10)
    assert [out.event.bid_mantissa for out in outs] == [90_99]
    assert agent.due(state, now + NS_PER_S) == (state, ())


def test_status_changes_are_published_at_once() -> None:
    at: dict[str, Any] = {"instrument_id": SYMBOL, "ts_event": T0, "ts_init": T0}
    gap: dict[str, Any] = at | {"channel": Channel.BOOK, "first_missing": 1, "last_missing": 2}
    found = references(
        quote(1, 0.0),
        GapOpened(**gap),
        MarketDataStale(**at, last_seen=T0),
        MarketDataResumed(**at),
        GapClosed(**gap, outcome=GapOutcome.RESYNCED, recovered=0, reason=""),
        quote(2, 0.01, bid=100_02, ask=100_01),
        trade(3, 0.02),
    )
    assert [reference.status for reference in found] == ["LIVE", "GAP", "STALE", "GAP", "LIVE", "CROSSED"]
