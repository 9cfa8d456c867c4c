"""When ingest stops and what may leave the log, over all sizes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from skeet.core.retention import (
    DiskUse,
    Place,
    SealedRange,
    Volume,
    excess,
    expirable,
    sealing_is_due,
    stop_reason,
    to_expire,
)

BUDGET = 1_000_000
SIZES = st.integers(0, 2 * BUDGET)


def use(used: int = 0, *free: int, reserve: int = 100) -> DiskUse:
    volumes = tuple(Volume(name=f"part{n}", path=f"/d/{n}", free=size) for n, size in enumerate(free))
    return DiskUse(used=used, budget=BUDGET, reserve=reserve, volumes=volumes)


def test_ingest_stops_at_ninety_percent_and_resumes_below_eighty_five() -> None:
    assert stop_reason(use(899_999), stopped=False) == ""
    assert "90 %" in stop_reason(use(900_000), stopped=False)
    assert stop_reason(use(850_000), stopped=True)
    assert stop_reason(use(849_999), stopped=True) == ""


def test_nearly_full_file_system_stops_ingest_and_names_its_part() -> None:
    assert stop_reason(use(0, 500, 100), stopped=False) == ""
    assert "part1 at /d/1, free 99 B" in stop_reason(use(0, 500, 99), stopped=False)
    assert stop_reason(use(0, 500, 149), stopped=True)
    assert stop_reason(use(0, 500, 150), stopped=True) == ""


@given(SIZES, st.lists(st.integers(0, 300), max_size=3))
def test_what_stops_running_ingest_keeps_it_stopped(used: int, free: list[int]) -> None:
    if stop_reason(use(used, *free), stopped=False):
        assert stop_reason(use(used, *free), stopped=True)


@given(SIZES, st.lists(st.integers(0, 300), max_size=3))
def test_records_are_sealed_before_they_must_leave_and_leave_before_ingest_stops(used: int, free: list[int]) -> None:
    seen = use(used, *free)
    if excess(seen):
        assert sealing_is_due(seen)
    if stop_reason(seen, stopped=False):
        assert excess(seen) > 0


@given(SIZES)
def test_excess_brings_the_use_back_below_where_records_leave(used: int) -> None:
    assert excess(use(used - excess(use(used)))) == 0


def test_what_is_leaving_is_not_asked_for_twice() -> None:
    seen = use(900_000, 50)
    assert excess(seen) == 150_000
    assert excess(replace(seen, leaving=120_000)) == 0
    assert excess(replace(use(0, 50), leaving=60)) == 40
    assert stop_reason(replace(seen, leaving=900_000), stopped=False)  # the space is not there yet


@st.composite
def archives(draw: st.DrawFn) -> tuple[list[SealedRange], dict[Place, int]]:
    """Ranges of some partitions, now and then with a hole, and where each log starts."""
    ranges: list[SealedRange] = []
    starts: dict[Place, int] = {}
    for partition in range(draw(st.integers(1, 3))):
        offset, last_ms = 0, 0
        for _ in range(draw(st.integers(0, 6))):
            first = offset + draw(st.sampled_from([0, 0, 0, 0, 7]))
            offset = first + draw(st.integers(1, 50))
            last_ms += draw(st.integers(0, 100))
            size, verified = draw(st.integers(0, 100)), draw(st.booleans() | st.just(True))
            ranges.append(
                SealedRange(
                    topic="t", partition=partition, first_offset=first, next_offset=offset,
                    last_ms=last_ms, size=size, verified=verified,
                )
            )  # fmt: skip
        starts["t", partition] = draw(st.integers(0, offset))
    return draw(st.permutations(ranges)), starts


@given(archives(), st.integers(0, 400), st.integers(0, 500))
def test_nothing_leaves_the_log_that_is_not_sealed_and_verified(
    archive: tuple[list[SealedRange], dict[Place, int]], kept_after_ms: int, wanted: int
) -> None:
    ranges, starts = archive
    chosen = to_expire(expirable(ranges, starts, {"t": kept_after_ms}), wanted)
    held: dict[Place, set[int]] = defaultdict(set)
    for sealed in ranges:
        if sealed.verified and sealed.last_ms < kept_after_ms:
            held[sealed.topic, sealed.partition].update(range(sealed.first_offset, sealed.next_offset))
    for place, start in starts.items():
        # What is deleted is everything below the last chosen range's end.
        end = max((each.next_offset for each in chosen if (each.topic, each.partition) == place), default=start)
        assert set(range(start, end)) <= held[place]


@given(archives(), st.integers(0, 500))
def test_the_oldest_leave_first_and_no_more_than_is_wanted(
    archive: tuple[list[SealedRange], dict[Place, int]], wanted: int
) -> None:
    ranges, starts = archive
    allowed = expirable(ranges, starts, {"t": 10_000})
    chosen = to_expire(allowed, wanted)
    assert chosen == allowed[: len(chosen)]
    assert [each.last_ms for each in allowed] == sorted(each.last_ms for each in allowed)
    assert sum(each.size for each in chosen[:-1]) < max(wanted, 1)
    assert chosen == allowed or sum(each.size for each in chosen) >= wanted


def test_topic_without_a_budget_never_gives_anything() -> None:
    sealed = SealedRange(
        topic="accounts.events.v1", partition=0, first_offset=0, next_offset=9, last_ms=1, size=9, verified=True
    )
    assert expirable([sealed], {("accounts.events.v1", 0): 0}, {}) == []
