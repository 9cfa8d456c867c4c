"""B: given trades and the bars that the worker made of them, then what the replay says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_records import record, tick, trade

from skeet.agents.bars import BarsAgent
from skeet.core.market import Bar
from skeet.core.record import Event, Record
from skeet.core.values import exact_arithmetic
from skeet.parity.bars import BarsReplay
from skeet.schemas.codec import numbered_codec
from skeet.streams.topics import MARKET_BARS
from skeet.verify.findings import Check

SESSION = (
    trade(1, 0.1), trade(2, 0.6, 101_00), trade(3, 1.2, 99_00), tick(2.6), trade(4, 1.9), trade(5, 2.9), trade(6, 3.1),
    trade(7, 61.0), trade(8, 62.5), tick(64.0), trade(9, 121.0), trade(10, 125.0),
)  # fmt: skip


def merged(events: tuple[Event, ...]) -> list[Record[Any]]:
    """Trades by their offsets, ticks between them."""
    offsets = iter(range(len(events)))
    return [
        record(event, next(offsets)) if not hasattr(event, "natural_key") or hasattr(event, "trade_id")
        else record(event, 0, topic="clock.v1")
        for event in events
    ]  # fmt: skip


def published(records: list[Record[Any]]) -> list[Record[Bar]]:
    """The bars topic as the worker writes it."""
    agent, state = BarsAgent(), BarsAgent().initial()
    bars: list[Record[Bar]] = []
    with exact_arithmetic():
        for each in records:
            state, outs = agent.step(state, each)
            bars.extend(record(out.event, len(bars) + i, MARKET_BARS.name) for i, out in enumerate(outs))
    return bars


def replayed(records: list[Record[Any]], bars: list[Record[Bar]]) -> tuple[Check, dict[str, str]]:
    check = Check(name="B", title="")
    chains = BarsReplay(numbered_codec(), check).run(bars, records)
    return check, chains


def test_bars_closed_by_trades_and_by_ticks_are_made_again() -> None:
    records = merged(SESSION)
    check, chains = replayed(records, published(records))
    assert (check.differences, check.compared) == ([], {"bars": 7})
    assert set(chains) == {"SIM:BTC/USDT/1s", "SIM:BTC/USDT/1m"}


@pytest.mark.parametrize("changed", ["volume_mantissa", "late_trades", "close_mantissa"])
def test_bar_that_its_trades_do_not_make_is_named(changed: str) -> None:
    records = merged(SESSION)
    bars = published(records)
    bar = bars[2]
    bars[2] = replace(bar, event=replace(bar.event, **{changed: getattr(bar.event, changed) + 1}))
    check, _ = replayed(records, bars)
    assert check.difference_count == 1
    assert check.differences[0].startswith("market.bars.v1/0/2: the trades up to market.trades.v1/0/")


def test_bar_that_is_missing_between_two_others_is_named() -> None:
    records = merged(SESSION)
    bars = [each for each in published(records) if each.event.interval == "1s"]
    check, _ = replayed(records, [*bars[:2], *bars[3:]])
    assert check.difference_count >= 1
    assert "no bar holds the trades before it" in check.differences[0]


@pytest.mark.parametrize("number", [2, -1])
@pytest.mark.parametrize("offset", [0, 10_000])
def test_bar_that_names_no_trade_is_named(number: int, offset: int) -> None:
    records = merged(SESSION)
    bars = published(records)
    bar = bars[number]
    bars[number] = replace(bar, event=replace(bar.event, through_at=f"market.trades.v1/0/{offset}"))
    check, _ = replayed(records, bars)
    assert any(text.startswith(f"{bar.at}: market.trades.v1/0/{offset}") for text in check.differences), check


def test_older_bar_that_is_published_again_is_the_same_and_counted() -> None:
    records = merged(SESSION)
    bars = published(records)
    check, _ = replayed(records, [*bars, replace(bars[0], at=replace(bars[0].at, offset=90))])
    assert (check.differences, check.compared["bars published twice, equal"]) == ([], 1)


def test_bar_published_twice_has_to_be_the_same() -> None:
    records = merged(SESSION)
    bars = published(records)
    again = replace(bars[-1], at=replace(bars[-1].at, offset=90))
    check, _ = replayed(records, [*bars, again])
    assert check.compared["bars published twice, equal"] == 1
    other = replace(again, event=replace(again.event, trade_count=99))
    check, _ = replayed(records, [*bars, other])
    assert check.differences == [f"{again.at}: a bar of {again.event.ts_open} again, unlike the one before it"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 400), st.integers(9_000, 11_000)), min_size=2, max_size=60),
)
def test_whatever_merged_trades_with_the_clock_the_bars_are_made_again(steps: list[tuple[bool, int, int]]) -> None:
    now_ms, events = 0, []
    for number, (is_tick, ms, price) in enumerate(steps):
        now_ms += ms
        late_ms = price % 700 if number % 5 == 0 else 0
        events.append(tick(now_ms / 1000) if is_tick else trade(number, max(0, now_ms - late_ms) / 1000, price))
    records = merged(tuple(events))
    check, _ = replayed(records, published(records))
    assert check.differences == []
