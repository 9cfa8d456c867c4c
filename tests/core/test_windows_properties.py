"""Windows against a naive model: every window anew from the sorted set of events that were not late."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_windows import Event, naive

from skeet.core.windows import (
    Closed,
    Count,
    First,
    Hopping,
    Last,
    Late,
    LateReason,
    Max,
    Mean,
    Min,
    Ohlcv,
    Rule,
    Session,
    Sliding,
    Sum,
    Tumbling,
    WeightedMean,
    Windows,
    state_from_bytes,
    state_to_bytes,
)

FOLDS: dict[str, Any] = {
    "count": Count(),
    "sum": Sum("size"),
    "min": Min("price"),
    "max": Max("price"),
    "first": First("price"),
    "last": Last("price"),
    "mean": Mean("price"),
    "vwap": WeightedMean("price", "size"),
    "candle": Ohlcv("price", "size"),
}
RULES: list[Rule] = [
    Tumbling(size_ns=10),
    Tumbling(size_ns=7, offset_ns=3),
    Hopping(size_ns=10, step_ns=5),
    Hopping(size_ns=10, step_ns=4, offset_ns=-1),
    Sliding(size_ns=8),
    Session(gap_ns=5),
    Session(gap_ns=4, max_ns=11),
]


def numbered(drawn: list[tuple[str, int, dict[str, int]]]) -> list[Event]:
    return [(key, ts, {**value, "n": number}) for number, (key, ts, value) in enumerate(drawn)]


events = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c")),
        st.integers(0, 80),
        st.fixed_dictionaries({"price": st.integers(-(10**19), 10**19), "size": st.integers(0, 5)}),
    ),
    max_size=40,
).map(numbered)


def rows(closed: list[Closed]) -> list[Any]:
    return [(each.key, each.span, dict(each.results)) for each in closed]


def run(windows: Windows, given_events: list[Event]) -> tuple[list[Closed], list[Late]]:
    state = windows.initial()
    closed: list[Closed] = []
    late: list[Late] = []
    for key, ts, value in given_events:
        outcome = windows.add(state, key, ts, value)
        closed += outcome.closed
        late += outcome.late
    assert state.late_events == len(late)
    assert state.missed_windows == sum(len(each.missed) for each in late)
    return closed + list(windows.finish(state).closed), late


@pytest.mark.parametrize("rule", RULES, ids=str)
@settings(max_examples=150, deadline=None)
@given(events, st.integers(0, 30))
def test_what_closes_is_the_fold_of_all_events_that_were_not_late(
    rule: Rule, given_events: list[Event], grace: int
) -> None:
    closed, late = run(Windows(rule, FOLDS, grace_ns=grace), given_events)
    gone = {each.value["n"] for each in late if each.reason is LateReason.WINDOW_CLOSED}
    kept = [event for event in given_events if event[2]["n"] not in gone]
    assert rows(closed) == naive(rule, kept, {(each.value["n"], span) for each in late for span in each.missed})
    assert [(c.span.end, c.span.start, c.key) for c in closed] == sorted(
        (c.span.end, c.span.start, c.key) for c in closed
    )
    if not isinstance(rule, Sliding):
        assert len({(c.key, c.span) for c in closed}) == len(closed), "a window closes once"


@pytest.mark.parametrize("rule", RULES, ids=str)
@settings(max_examples=100, deadline=None)
@given(st.data(), events)
def test_any_order_within_the_grace_gives_the_same(rule: Rule, data: st.DataObject, given_events: list[Event]) -> None:
    in_order = sorted(given_events, key=lambda event: event[1])
    grace = 12
    # Each is at most a grace behind the latest before it: so is any order by time plus a delay up to the grace.
    delays = data.draw(st.lists(st.integers(0, grace), min_size=len(in_order), max_size=len(in_order)))
    # Of equal times the earlier arrival is first: they keep their order.
    by_time: dict[int, int] = {}
    delayed = [
        (ts + by_time.setdefault(ts, delay), n)
        for n, ((_, ts, _), delay) in enumerate(zip(in_order, delays, strict=True))
    ]
    shuffled = [in_order[n] for _, n in sorted(delayed)]
    expected, none_late = run(Windows(rule, FOLDS), in_order)
    closed, late = run(Windows(rule, FOLDS, grace_ns=grace), shuffled)
    assert late == none_late == []
    assert rows(closed) == rows(expected) == naive(rule, in_order)


@pytest.mark.parametrize("rule", RULES, ids=str)
@settings(max_examples=60, deadline=None)
@given(events, st.integers(0, 40), st.integers(0, 10))
def test_a_state_written_down_and_read_back_goes_on_the_same(
    rule: Rule, given_events: list[Event], cut: int, grace: int
) -> None:
    windows = Windows(rule, FOLDS, grace_ns=grace)
    whole, _ = run(windows, given_events)
    state = windows.initial()
    closed: list[Closed] = []
    for number, (key, ts, value) in enumerate(given_events):
        if number == cut:
            state = state_from_bytes(state_to_bytes(state))
        closed += windows.add(state, key, ts, value).closed
    state = state_from_bytes(state_to_bytes(state))
    assert rows(closed + list(windows.finish(state).closed)) == rows(whole)
