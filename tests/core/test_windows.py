"""Windows, event by event: when they close, what is late, how the watermark goes, what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from skeet.core.errors import DecodeError, InvalidInput
from skeet.core.windows import (
    UNSEEN,
    Closed,
    Count,
    CountHopping,
    CountSliding,
    CountTumbling,
    Hopping,
    Last,
    LateReason,
    Outcome,
    Rule,
    Session,
    Sliding,
    Span,
    Sum,
    Tumbling,
    Watermark,
    WeightedMean,
    Windows,
    WindowState,
    decimal_of,
    state_from_bytes,
)

KEY = "SIM:BTC/USDT"


def counting(rule: Rule, **options: Any) -> Windows:
    return Windows(rule, {"n": Count()}, **options)


def feed(windows: Windows, state: WindowState, *times: int, key: str = KEY, **where: Any) -> list[Closed]:
    return [closed for ts in times for closed in windows.add(state, key, ts, {}, **where).closed]


def spans(closed: list[Closed] | tuple[Closed, ...]) -> list[tuple[int, int, int]]:
    return [(each.span.start, each.span.end, each.results["n"]) for each in closed]


# Closing.


def test_a_window_closes_when_the_watermark_passes_its_end_by_the_grace() -> None:
    windows = counting(Tumbling(size_ns=10), grace_ns=5)
    state = windows.initial()
    assert feed(windows, state, 1, 9, 10, 14) == []
    assert spans(feed(windows, state, 15)) == [(0, 10, 2)]


def test_an_event_within_the_grace_updates_its_open_window() -> None:
    windows = counting(Tumbling(size_ns=10), grace_ns=5)
    state = windows.initial()
    feed(windows, state, 1, 14, 9)
    assert spans(feed(windows, state, 15)) == [(0, 10, 2)]


def test_a_late_event_changes_nothing_that_was_published_and_is_counted() -> None:
    windows = counting(Tumbling(size_ns=10), grace_ns=5)
    state = windows.initial()
    feed(windows, state, 1, 15)
    outcome = windows.add(state, KEY, 9, {"price": 7})
    assert outcome.closed == ()
    (late,) = outcome.late
    assert (late.ts, late.value, late.reason) == (9, {"price": 7}, LateReason.WINDOW_CLOSED)
    assert (late.missed, late.watermark) == ((Span(0, 10),), 15)
    assert spans(windows.finish(state).closed) == [(10, 20, 1)]
    assert (state.late_events, state.missed_windows) == (1, 1)


def test_an_event_that_is_late_for_one_window_counts_in_the_others() -> None:
    windows = counting(Hopping(size_ns=10, step_ns=5))
    state = windows.initial()
    feed(windows, state, 12)
    (late,) = windows.add(state, KEY, 8, {}).late
    assert late.reason is LateReason.SOME_WINDOWS_CLOSED
    assert late.missed == (Span(0, 10),)
    assert spans(windows.finish(state).closed) == [(5, 15, 2), (10, 20, 1)]


def test_times_before_the_epoch_and_offsets_fall_into_their_windows() -> None:
    windows = counting(Tumbling(size_ns=10, offset_ns=3))
    state = windows.initial()
    feed(windows, state, -8, -7, 3)
    assert spans(windows.finish(state).closed) == [(3, 13, 1)]
    state = windows.initial()
    assert spans(feed(windows, state, -8, -7, 3)) == [(-17, -7, 1), (-7, 3, 1)]


def test_sub_second_hopping_windows_in_nanoseconds() -> None:
    ms = 1_000_000
    windows = counting(Hopping(size_ns=250 * ms, step_ns=50 * ms))
    state = windows.initial()
    closed = feed(windows, state, 1_700_000_000_000 * ms + 1, 1_700_000_000_000 * ms + 300 * ms)
    assert [(each.span.end - 1_700_000_000_000 * ms) // ms for each in closed] == [50, 100, 150, 200, 250]


def test_keys_are_apart_and_in_order() -> None:
    windows = counting(Tumbling(size_ns=10))
    state = windows.initial()
    for key in ("b", "a", "b"):
        windows.add(state, key, 3, {})
    closed = windows.add(state, "c", 10, {}).closed
    assert [(each.key, each.results["n"]) for each in closed] == [("a", 1), ("b", 2)]


def test_each_event_has_a_sliding_window_up_to_it_once_nothing_older_can_come() -> None:
    windows = counting(Sliding(size_ns=10), grace_ns=3)
    state = windows.initial()
    feed(windows, state, 0, 12)
    assert spans(feed(windows, state, 11, 9)) == []
    assert spans(feed(windows, state, 21)) == [(0, 10, 2), (2, 12, 2), (3, 13, 3)]


def test_equal_times_are_in_each_others_sliding_windows() -> None:
    windows = counting(Sliding(size_ns=10))
    state = windows.initial()
    assert spans(feed(windows, state, 5, 5, 6)) == [(-4, 6, 2), (-4, 6, 2)]


def test_an_event_between_two_sessions_makes_them_one() -> None:
    windows = counting(Session(gap_ns=5), grace_ns=20)
    state = windows.initial()
    feed(windows, state, 0, 8, 4)
    assert spans(windows.finish(state).closed) == [(0, 13, 3)]


def test_sessions_end_after_their_gap_and_at_their_longest() -> None:
    windows = counting(Session(gap_ns=5, max_ns=10))
    state = windows.initial()
    assert spans(feed(windows, state, 0, 4, 8, 10, 12)) == [(0, 10, 3)]
    assert spans(feed(windows, state, 17)) == [(10, 17, 2)]


def test_windows_by_count_close_with_the_event_that_fills_them() -> None:
    times = (3, 1, 2, 5, 4)
    for rule, expected in (
        (CountTumbling(size=2), [(0, 2, 2), (2, 4, 2)]),
        (CountHopping(size=3, step=2), [(0, 3, 3), (2, 5, 3)]),
        (CountSliding(size=2), [(0, 1, 1), (0, 2, 2), (1, 3, 2), (2, 4, 2), (3, 5, 2)]),
    ):
        windows = counting(rule)
        state = windows.initial()
        assert spans(feed(windows, state, *times)) == expected
        assert windows.finish(state) == Outcome()


def test_after_the_end_everything_is_late() -> None:
    windows = counting(Tumbling(size_ns=10), grace_ns=7)
    state = windows.initial()
    feed(windows, state, 1)
    assert spans(windows.finish(state).closed) == [(0, 10, 1)]
    assert windows.add(state, KEY, 10**18, {}).late


# The watermark.


def test_the_watermark_is_the_least_of_the_partitions() -> None:
    windows = counting(Tumbling(size_ns=10))
    state = windows.initial(partitions=(0, 1))
    assert feed(windows, state, 5, 50, partition=0) == []
    assert state.watermark.value == UNSEEN
    assert spans(feed(windows, state, 12, partition=1)) == [(0, 10, 1)]


def test_a_partition_that_is_silent_for_too_long_holds_nobody_up() -> None:
    windows = counting(Tumbling(size_ns=10), idle_after_ns=100)
    state = windows.initial(partitions=(0, 1))
    assert feed(windows, state, 5, partition=0, now_ns=1_000) == []
    assert feed(windows, state, 30, partition=0, now_ns=1_099) == []
    assert spans(windows.tick(state, 1_100).closed) == [(0, 10, 1)]


def test_when_all_are_silent_event_time_goes_on_with_the_ticks() -> None:
    windows = counting(Tumbling(size_ns=10), idle_after_ns=100)
    state = windows.initial()
    feed(windows, state, 5, now_ns=1_000)
    assert windows.tick(state, 1_104).closed == ()
    assert spans(windows.tick(state, 1_105).closed) == [(0, 10, 1)]
    assert windows.tick(state, 2_000).closed == ()


def test_without_an_idle_time_no_tick_closes_anything() -> None:
    windows = counting(Tumbling(size_ns=10))
    state = windows.initial()
    feed(windows, state, 5, now_ns=1_000)
    assert windows.tick(state, 10**18).closed == ()


def test_one_event_from_the_future_does_not_make_all_others_late() -> None:
    windows = counting(Tumbling(size_ns=10))
    state = windows.initial()
    feed(windows, state, 10**15, now_ns=8)
    assert windows.add(state, KEY, 9, {}, now_ns=9).late == ()


def test_the_watermark_never_moves_back() -> None:
    mark = Watermark()
    assert mark.observe(0, 50, None, None) == 50
    assert mark.observe(1, 20, None, None) == 50
    assert mark.observe(1, 70, None, None) == 50
    assert mark.observe(0, 60, None, None) == 60


def test_a_partition_that_was_given_up_holds_nobody_up() -> None:
    windows = counting(Tumbling(size_ns=10))
    state = windows.initial(partitions=(0, 1))
    feed(windows, state, 5, partition=0)
    windows.forget(state, 1)
    assert spans(feed(windows, state, 12, partition=0)) == [(0, 10, 1)]


# Results.


def test_the_weighted_mean_is_exact_and_rounds_once() -> None:
    windows = Windows(Tumbling(size_ns=10), {"vwap": WeightedMean("price", "size")})
    state = windows.initial()
    windows.add(state, KEY, 1, {"price": 100_01, "size": 1})
    windows.add(state, KEY, 2, {"price": 100_02, "size": 2})
    (closed,) = windows.finish(state).closed
    assert closed.results["vwap"] == Fraction(30005, 3)
    assert decimal_of(closed.results["vwap"], 2, 6) == Decimal("100.016667")
    windows.add(state := windows.initial(), KEY, 1, {"price": 1, "size": 0})
    assert windows.finish(state).closed[0].results["vwap"] is None


@dataclass(frozen=True, slots=True)
class LargestTrade:
    """A fold of a user: the largest trade and when it was."""

    def init(self) -> tuple[int, int]:
        return 0, 0

    def add(self, accumulator: tuple[int, int], ts: int, value: Any) -> tuple[int, int]:
        return max(accumulator, (value["size"], ts))

    def result(self, accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator


def test_a_fold_of_ones_own_is_one_object_with_three_methods() -> None:
    windows = Windows(Tumbling(size_ns=10), {"largest": LargestTrade(), "last": Last("size")})
    state = windows.initial()
    for ts, size in ((1, 5), (2, 9), (3, 4)):
        windows.add(state, KEY, ts, {"size": size})
    assert windows.finish(state).closed[0].results == {"largest": (9, 2), "last": 4}


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tumbling(size_ns=0), r"Tumbling.size_ns is 0; expected a positive number of nanoseconds, such as"),
        (lambda: Tumbling(size_ns=0.25), r"Tumbling.size_ns is 0.25; expected a positive"),  # type: ignore[arg-type]
        (lambda: Hopping(size_ns=10, step_ns=0), r"Hopping.step_ns is 0; expected a positive number of nanoseconds"),
        (
            lambda: Hopping(size_ns=10, step_ns=11),
            r"step_ns is 11, larger than size_ns 10: .* expected at most size_ns",
        ),
        (
            lambda: Hopping(size_ns=10**9, step_ns=1),
            r"each event would be in 1,000,000,000 windows; .* 1000000 or more",
        ),
        (lambda: Sliding(size_ns=-1), r"Sliding.size_ns is -1"),
        (lambda: Session(gap_ns=0), r"Session.gap_ns is 0"),
        (lambda: Session(gap_ns=5, max_ns=4), r"Session.max_ns is 4, shorter than gap_ns 5: expected at least the gap"),
        (lambda: CountTumbling(size=0), r"CountTumbling.size is 0; expected a positive number of events"),
        (lambda: CountHopping(size=2, step=3), r"CountHopping.step is 3, larger than size 2"),
        (lambda: CountSliding(size=0), r"CountSliding.size is 0"),
        (lambda: counting(Tumbling(size_ns=1), grace_ns=-1), r"grace_ns is -1; expected 0"),
        (lambda: counting(Tumbling(size_ns=1), idle_after_ns=0), r"idle_after_ns is 0; expected a positive"),
        (lambda: Windows(Tumbling(size_ns=1), {}), r'folds is empty; expected .* \{"volume": Sum\("size"\)\}'),
    ],
)
def test_a_wrong_configuration_is_refused_with_field_value_and_remedy(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


def test_bytes_of_something_else_are_no_state() -> None:
    with pytest.raises(DecodeError, match="a state of windows is a int"):
        state_from_bytes(b"7")


def test_sums_of_any_size_are_exact() -> None:
    windows = Windows(Tumbling(size_ns=10), {"sum": Sum("size")})
    state = windows.initial()
    for ts in range(3):
        windows.add(state, KEY, ts, {"size": 2**63 - 1})
    assert windows.finish(state).closed[0].results["sum"] == 3 * (2**63 - 1)
