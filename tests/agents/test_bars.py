"""Trades to bars: given trades and ticks, then these bars."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from market_records import SYMBOL, T0, record, tick, trade

from skeet.agents.bars import BarsAgent, BarsState
from skeet.agents.restoring import blind_before, remember
from skeet.core.market import Bar, Channel, GapClosed, GapOpened, GapOutcome
from skeet.core.record import Event, Record
from skeet.core.values import NS_PER_S, exact_arithmetic


def bars(*events: Event, state: BarsState | None = None, first_offset: int = 0) -> list[Bar]:
    """The bars that these events close, the events standing one after another in the log."""
    return fold([record(event, offset) for offset, event in enumerate(events, first_offset)], state)


def fold(records: list[Record[Any]], state: BarsState | None = None) -> list[Bar]:
    agent = BarsAgent()
    state = state or agent.initial()
    closed: list[Bar] = []
    with exact_arithmetic():
        for each in records:
            state, outs = agent.step(state, each)
            closed.extend(out.event for out in outs)
    return closed


def only(interval: str, closed: list[Bar]) -> list[Bar]:
    return [bar for bar in closed if bar.interval == interval]


def test_bar_closes_on_the_first_trade_of_a_later_second() -> None:
    closed = bars(trade(1, 0.1, 100_00, 10), trade(2, 0.5, 103_00, 20), trade(3, 0.9, 99_00, 30), trade(4, 3.2, 101_00))
    (bar,) = only("1s", closed)
    assert (bar.open, bar.high, bar.low, bar.close) == (Decimal(100), Decimal(103), Decimal(99), Decimal(99))
    assert (bar.ts_open, bar.ts_close, bar.ts_event) == (T0, T0 + NS_PER_S, T0 + NS_PER_S)
    assert (bar.volume, bar.trade_count) == (Decimal("0.060"), 3)
    assert bar.quote_volume == Decimal("1.00") + Decimal("2.06") + Decimal("2.97")
    assert bar.buy_volume_mantissa == 40
    assert (bar.cause_at, bar.through_at) == ("market.trades.v1/0/3", "market.trades.v1/0/2")
    assert bar.ts_init == trade(4, 3.2).ts_init, "inherited from the trade that closed it"
    assert not only("1m", closed)


def test_quiet_bar_closes_on_a_tick_after_its_end_and_grace_and_no_empty_bar_follows() -> None:
    assert only("1s", bars(trade(1, 0.1), tick(1.2))) == []
    closed = only("1s", bars(trade(1, 0.1), tick(1.5), tick(2.5), tick(9)))
    assert [bar.ts_open for bar in closed] == [T0]


def test_tick_does_not_close_a_bar_of_history_between_two_pages() -> None:
    assert only("1s", bars(trade(1, 0.1, backfilled=True), tick(9))) == []
    closed = only("1s", bars(trade(1, 0.1, backfilled=True), tick(9), trade(2, 0.4, backfilled=True), trade(3, 1.1)))
    assert [bar.trade_count for bar in closed] == [2]


def test_late_trade_is_in_no_bar_and_counted_in_the_next() -> None:
    closed = only("1s", bars(trade(1, 0.1), trade(2, 1.1), trade(3, 0.9, 500_00), trade(4, 2.1)))
    assert [(bar.trade_count, bar.late_trades) for bar in closed] == [(1, 0), (1, 1)]
    assert closed[0].high == Decimal(100)


def test_bar_during_a_gap_is_incomplete_unless_the_gap_was_filled_first() -> None:
    gap: dict[str, Any] = {
        "instrument_id": SYMBOL, "ts_event": T0, "ts_init": T0, "channel": Channel.TRADES, "first_missing": 2, "last_missing": 3,
    }  # fmt: skip
    opened = GapOpened(**gap)
    filled = GapClosed(**gap, outcome=GapOutcome.FILLED, recovered=2, reason="")
    lost = GapClosed(**gap, outcome=GapOutcome.UNFILLABLE, recovered=0, reason="file")
    assert not only("1s", bars(trade(1, 0.1), opened, trade(4, 1.1)))[0].complete
    assert not only("1s", bars(trade(1, 0.1), opened, lost, trade(4, 1.1)))[0].complete
    assert only("1s", bars(trade(1, 0.1), opened, filled, trade(4, 1.1)))[0].complete


def test_finer_scale_refines_the_bar() -> None:
    (bar,) = only("1s", bars(trade(1, 0.1, 100_00, 10), trade(2, 0.2, 100_001, 5, price_scale=3), trade(3, 1.5)))
    assert (bar.open, bar.high) == (Decimal("100.000"), Decimal("100.001"))


TRADES = st.lists(
    st.tuples(st.floats(0, 200, allow_nan=False), st.integers(1, 10_000), st.integers(1, 10_000)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(TRADES)
def test_every_trade_is_in_exactly_one_bar_or_counted_late(rows: list[tuple[float, int, int]]) -> None:
    events = [trade(i, at, price, size) for i, (at, price, size) in enumerate(rows)]
    closed = bars(*events, trade(len(rows), 10_000), trade(len(rows) + 1, 20_000))
    last_late = dict.fromkeys(("1s", "1m"), 0)
    for interval in last_late:
        own = only(interval, closed)
        assert len({bar.ts_open for bar in own}) == len(own), "closed exactly once"
        assert sum(bar.trade_count + bar.late_trades for bar in own) == len(events) + 1
        assert all(bar.trade_count > 0 for bar in own)


@settings(max_examples=100, deadline=None)
@given(TRADES, st.data())
def test_restart_anywhere_loses_no_bar_closes_none_twice_and_none_partially(
    rows: list[tuple[float, int, int]], data: st.DataObject
) -> None:
    """What was published before a kill, and what a successor publishes, is what one run publishes."""
    records = [record(trade(i, at, price, size), i) for i, (at, price, size) in enumerate(rows)]
    whole = fold(records)
    stop = data.draw(st.integers(0, len(records)))
    committed = data.draw(st.integers(0, stop))
    published = fold(records[:stop])

    state = BarsAgent().initial()
    for bar in published:
        remember(state, bar)
    known = [series.through + 1 for series in state.series.values()]
    floor = min((committed, *known)) if len(known) == 2 else 0
    blind_before(state, 0, floor)
    again = fold(records[floor:], state)
    assert {bar.natural_key: bar for bar in published + again} == {bar.natural_key: bar for bar in whole}
    assert len(published) + len(again) == len(whole)


def test_series_met_blind_does_not_publish_its_first_bar() -> None:
    state = BarsState(blind=True)
    closed = only("1s", bars(trade(7, 0.1), trade(8, 1.1), trade(9, 2.1), state=state, first_offset=100))
    assert [bar.ts_open for bar in closed] == [T0 + NS_PER_S]
