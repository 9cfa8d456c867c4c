"""Windows on columns: equal to event by event in state, results, order and late events, in whatever chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.core.windows import (
    Count,
    CountTumbling,
    First,
    Hopping,
    Last,
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
    WindowState,
)
from skeet.streams.windows.columns import ColumnWindows, Events
from skeet.streams.windows.parts import Groups, product_sums

NAMES = ("c", "a", "b")
"""Ids are in another order than names: results are ordered by name."""


@dataclass(frozen=True, slots=True)
class Longest:
    """A user's fold that cannot be merged: every event is added by itself."""

    def init(self) -> tuple[int, ...]:
        return ()

    def add(self, accumulator: tuple[int, ...], ts: int, value: Any) -> tuple[int, ...]:
        return (*accumulator, value["size"])

    def result(self, accumulator: tuple[int, ...]) -> tuple[int, ...]:
        return accumulator


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
CASES: list[tuple[Rule, dict[str, Any]]] = [
    (Tumbling(size_ns=10), FOLDS),
    (Hopping(size_ns=10, step_ns=5), FOLDS),
    (Hopping(size_ns=10, step_ns=4, offset_ns=3), FOLDS),
    (Hopping(size_ns=12, step_ns=1), FOLDS),
    (Tumbling(size_ns=10), {"longest": Longest()}),
    (Sliding(size_ns=6), FOLDS),
    (Session(gap_ns=4, max_ns=9), FOLDS),
    (CountTumbling(size=3), FOLDS),
]

Row = tuple[int, int, int, int, int, int]
"""Partition, key, time, price, size, and how far the log's time is ahead."""
rows = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 60),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-(2**40), 2**40),
        st.integers(-3, 40),
    ),
    max_size=40,
)


def columns(chunk: list[Row], partition: int, logged: bool) -> Events:
    array = np.array(chunk, dtype=object).reshape(-1, 6)
    taken = [array[:, number].astype(np.int64) for number in range(6)]
    return Events(
        keys=taken[1],
        names=NAMES,
        ts=taken[2],
        values={"price": taken[3], "size": taken[4]},
        partition=partition,
        now_ns=taken[2] + taken[5] if logged else None,
    )


def chunked(given_rows: list[Row], cuts: list[int]) -> list[list[Row]]:
    """Cut where told, and wherever the partition changes."""
    chunks: list[list[Row]] = []
    for number, row in enumerate(given_rows):
        if not chunks or chunks[-1][-1][0] != row[0] or number in cuts:
            chunks.append([])
        chunks[-1].append(row)
    return chunks


@pytest.mark.parametrize(("rule", "folds"), CASES, ids=str)
@settings(max_examples=120, deadline=None)
@given(
    rows, st.lists(st.integers(0, 40), max_size=6), st.integers(0, 20), st.sampled_from((None, 5, 20)), st.booleans()
)
def test_any_chunks_give_what_single_events_give(
    rule: Rule,
    folds: dict[str, Any],
    given_rows: list[Row],
    cuts: list[int],
    grace: int,
    idle: int | None,
    logged: bool,
) -> None:
    windows = Windows(rule, folds, grace_ns=grace, idle_after_ns=idle)
    single, at_once = windows.initial(partitions=(0, 1)), windows.initial(partitions=(0, 1))
    closed: list[Any] = []
    late: list[Any] = []
    closed_by: list[int] = []
    late_rows: list[int] = []
    for number, (partition, key, ts, price, size, ahead) in enumerate(given_rows):
        outcome = windows.add(
            single,
            NAMES[key],
            ts,
            {"price": price, "size": size},
            partition=partition,
            now_ns=ts + ahead if logged else None,
        )
        closed += outcome.closed
        closed_by += [number] * len(outcome.closed)
        late += outcome.late
        late_rows += [number] * len(outcome.late)
    found_closed: list[Any] = []
    found_late: list[Any] = []
    found_by: list[int] = []
    found_rows: list[int] = []
    before = 0
    for chunk in chunked(given_rows, cuts):
        made = ColumnWindows(windows).add(at_once, columns(chunk, chunk[0][0], logged))
        found_closed += made.closed
        found_late += made.late
        found_by += [before + row for row in made.closed_by]
        found_rows += [before + row for row in made.late_rows]
        before += len(chunk)
    assert found_closed == closed
    assert found_late == late
    assert (found_by, found_rows) == (closed_by, late_rows)
    assert at_once == single
    assert windows.finish(at_once) == windows.finish(single)


def only_groups(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> ColumnWindows:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("event by event")

    monkeypatch.setattr(Windows, "add", refuse)
    return ColumnWindows(windows)


def test_tumbling_and_hopping_windows_are_computed_without_single_events(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule, folds in CASES[:4]:
        windows = Windows(rule, folds)
        state = windows.initial()
        made = only_groups(windows, monkeypatch).add(
            state, columns([(0, n % 3, n, 5, 1, 0) for n in range(60)], 0, logged=False)
        )
        assert sum(each.results["count"] for each in made.closed) > 0


def test_values_and_keys_are_plain_so_that_a_state_can_be_written_down() -> None:
    windows = Windows(Hopping(size_ns=10, step_ns=5), FOLDS)
    state: WindowState = windows.initial()
    ColumnWindows(windows).add(state, columns([(0, 0, 7, 5, 1, 0), (0, 1, 3, 2**62, 2**40, 0)], 0, logged=True))
    kinds = set()

    def walk(value: Any) -> None:
        kinds.add(type(value))
        for each in value.items() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            walk(each)

    walk(state.aligned)
    assert kinds <= {dict, list, tuple, int, str, type(None)}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_sums_of_products_are_exact_whatever_their_size(data: st.DataObject) -> None:
    bits = data.draw(st.tuples(st.integers(0, 63), st.integers(0, 63)))
    pairs = data.draw(st.lists(st.tuples(*(st.integers(-(2**b), 2**b - 1) for b in bits)), min_size=1, max_size=30))
    starts = sorted({0, *data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=5))})
    ends = [*starts[1:], len(pairs)]
    left, right = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    groups = Groups(ts=left, values={}, starts=np.array(starts), ends=np.array(ends))
    expected = [sum(a * b for a, b in pairs[s:e]) for s, e in zip(starts, ends, strict=True)]
    assert product_sums(left, right, groups) == expected
    assert product_sums(left, None, groups) == [
        sum(a for a, _ in pairs[s:e]) for s, e in zip(starts, ends, strict=True)
    ]


def test_no_events_change_nothing() -> None:
    windows = Windows(Tumbling(size_ns=10), FOLDS)
    state = windows.initial()
    made = ColumnWindows(windows).add(state, columns([], 0, logged=False))
    assert (made.closed, made.late, state) == ((), (), windows.initial())
    assert replace(state) == windows.initial()


def test_an_event_that_is_late_for_one_window_counts_in_the_others_on_columns_too() -> None:
    windows = Windows(Hopping(size_ns=10, step_ns=5), {"count": Count()})
    state = windows.initial()
    made = ColumnWindows(windows).add(state, columns([(0, 1, ts, 1, 1, 0) for ts in (7, 12, 8, 3)], 0, logged=False))
    assert [(each.span, each.results["count"]) for each in made.closed] == [((0, 10), 1)]
    assert [(each.ts, each.missed) for each in made.late] == [(8, ((0, 10),)), (3, ((-5, 5), (0, 10)))]
    assert [(each.span, each.results["count"]) for each in windows.finish(state).closed] == [
        ((5, 15), 3),
        ((10, 20), 1),
    ]
    assert (made.closed_by, made.late_rows) == ((1,), (2, 3))
