"""Gaps are found exactly, whatever is lost; books follow Binance's recipe."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skeet.core.market import BookDelta, BookSnapshot, Channel, GapClosed, GapOpened, GapOutcome, Quote, Trade
from skeet.core.values import Side
from skeet.venues.binance.sequences import BookSequence, Gap, QuoteSequence, TradeSequence

X = "X:A/B"
SCALES: dict[str, Any] = {"price_scale": 8, "size_scale": 8}


def trade(trade_id: int) -> Trade:
    return Trade(
        instrument_id=X,
        ts_event=trade_id,
        ts_init=trade_id,
        trade_id=str(trade_id),
        price_mantissa=1,
        size_mantissa=1,
        aggressor_side=Side.BUY,
        **SCALES,
    )


def delta(first: int, last: int) -> BookDelta:
    sides: dict[str, Any] = dict.fromkeys(("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"), ())
    return BookDelta(
        instrument_id=X, ts_event=1, ts_init=1, first_update_id=first, last_update_id=last, **sides, **SCALES
    )


def snapshot(at: int) -> BookSnapshot:
    sides: dict[str, Any] = dict.fromkeys(("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"), ())
    return BookSnapshot(instrument_id=X, ts_event=1, ts_init=1, last_update_id=at, **sides, **SCALES)


def quote(update_id: int) -> Quote:
    mantissas: dict[str, int] = dict.fromkeys(
        ("bid_price_mantissa", "bid_size_mantissa", "ask_price_mantissa", "ask_size_mantissa"), 1
    )
    return Quote(instrument_id=X, ts_event=1, ts_init=1, update_id=update_id, **mantissas, **SCALES)


def ranges(events: list[Any], kind: type[GapOpened] | type[GapClosed]) -> list[tuple[int, int]]:
    return [(event.first_missing, event.last_missing) for event in events if type(event) is kind]


def runs(ids: list[int]) -> list[tuple[int, int]]:
    """Maximal runs of consecutive ids."""
    found: list[tuple[int, int]] = []
    for each in ids:
        if found and found[-1][1] + 1 == each:
            found[-1] = (found[-1][0], each)
        else:
            found.append((each, each))
    return found


class TestTrades:
    @given(st.integers(0, 2**40), st.lists(st.booleans(), max_size=60))
    def test_the_gaps_are_exactly_what_was_lost(self, start: int, lost: list[bool]) -> None:
        """First and last trade arrive; any of those between may be lost."""
        fate = [False, *lost, False]
        ids = [start + n for n in range(len(fate))]
        sequence = TradeSequence(recoverable=False)
        events = [
            event for each, gone in zip(ids, fate, strict=True) if not gone for event in sequence.on_trade(trade(each))
        ]
        missing = runs([each for each, gone in zip(ids, fate, strict=True) if gone])
        assert ranges(events, GapOpened) == ranges(events, GapClosed) == missing
        assert [int(e.trade_id) for e in events if isinstance(e, Trade)] == [
            each for each, gone in zip(ids, fate, strict=True) if not gone
        ]
        assert all(e.outcome is GapOutcome.UNFILLABLE for e in events if isinstance(e, GapClosed))

    @given(st.lists(st.integers(1, 30), max_size=60))
    def test_no_trade_is_published_twice_whatever_is_repeated(self, ids: list[int]) -> None:
        sequence = TradeSequence(recoverable=False)
        published = [int(e.trade_id) for each in ids for e in sequence.on_trade(trade(each)) if isinstance(e, Trade)]
        assert published == sorted(set(published))

    def test_the_first_trade_opens_no_gap_unless_the_log_goes_before_it(self) -> None:
        assert TradeSequence(recoverable=True).on_trade(trade(9)) == (trade(9),)
        opened, first = TradeSequence(recoverable=True, last_id=5).on_trade(trade(9))
        assert (opened, first) == (Gap(instrument_id=X, channel=Channel.TRADES, first=6, last=8).opened(9, 9), trade(9))

    def test_a_filled_gap_publishes_what_was_missing_as_backfilled(self) -> None:
        sequence = TradeSequence(recoverable=True, last_id=5)
        sequence.on_trade(trade(9))
        (gap,) = sequence.open_gaps
        *found, closed = sequence.fill(gap, [trade(n) for n in (5, 8, 6, 7, 7, 9)], received_ns=100)
        assert [(e.trade_id, e.backfilled) for e in found if isinstance(e, Trade)] == [
            ("6", True),
            ("7", True),
            ("8", True),
        ]
        assert isinstance(closed, GapClosed)
        assert (closed.outcome, closed.recovered, closed.ts_init) == (GapOutcome.FILLED, 3, 100)
        assert sequence.fill(gap, [], received_ns=101) == ()

    def test_a_gap_that_the_venue_cannot_fill_whole_ends_as_unfillable_with_what_there_was(self) -> None:
        sequence = TradeSequence(recoverable=True, last_id=5)
        sequence.on_trade(trade(9))
        found, closed = sequence.fill(sequence.open_gaps[0], [trade(7)], received_ns=100)
        assert isinstance(found, Trade) and isinstance(closed, GapClosed)
        assert (closed.outcome, closed.recovered) == (GapOutcome.UNFILLABLE, 1)
        assert closed.reason == "the venue did not give 2 of them"


class TestQuotes:
    def test_an_update_seen_before_is_a_repeat(self) -> None:
        sequence = QuoteSequence(last_id=4)
        assert [len(sequence.on_quote(quote(n))) for n in (3, 4, 5, 5, 9, 8)] == [0, 0, 1, 0, 1, 0]


class TestBook:
    def test_diffs_wait_for_the_snapshot_and_the_straddling_one_is_applied(self) -> None:
        sequence = BookSequence(recoverable=False)
        assert [sequence.on_delta(delta(*ids)) for ids in ((1, 3), (4, 6), (7, 12))] == [(), (), ()]
        assert sequence.on_snapshot(snapshot(8)) == (snapshot(8), delta(7, 12))
        assert sequence.on_delta(delta(13, 20)) == (delta(13, 20),)

    def test_the_diff_that_ends_where_the_snapshot_stands_is_dropped(self) -> None:
        sequence = BookSequence(recoverable=True)
        sequence.on_delta(delta(4, 8))
        assert sequence.on_snapshot(snapshot(8)) == (snapshot(8),)

    def test_a_snapshot_older_than_the_held_diffs_is_refused_and_another_wanted(self) -> None:
        sequence = BookSequence(recoverable=True)
        sequence.on_delta(delta(10, 12))
        assert sequence.on_snapshot(snapshot(8)) == ()
        assert sequence.waiting
        assert sequence.on_snapshot(snapshot(9)) == (snapshot(9), delta(10, 12))

    def test_a_recording_with_a_hole_behind_its_snapshot_reports_it(self) -> None:
        sequence = BookSequence(recoverable=False)
        sequence.on_delta(delta(10, 12))
        first, opened, closed, last = sequence.on_snapshot(snapshot(7))
        assert (first, last) == (snapshot(7), delta(10, 12))
        assert ranges([opened, closed], GapOpened) == ranges([opened, closed], GapClosed) == [(8, 9)]

    def test_behind_a_gap_the_book_waits_and_is_resynced_by_a_snapshot(self) -> None:
        sequence = BookSequence(recoverable=True, last_id=5)
        assert ranges(list(sequence.on_delta(delta(8, 9))), GapOpened) == [(6, 7)]
        assert sequence.on_delta(delta(10, 11)) == ()
        first, closed, *diffs = sequence.on_snapshot(snapshot(9))
        assert (first, diffs) == (snapshot(9), [delta(10, 11)])
        assert isinstance(closed, GapClosed)
        assert (closed.outcome, closed.first_missing, closed.last_missing) == (GapOutcome.RESYNCED, 6, 7)

    def test_a_snapshot_of_the_past_or_the_present_of_a_chained_book_is_a_repeat(self) -> None:
        sequence = BookSequence(recoverable=True, last_id=5)
        assert sequence.on_snapshot(snapshot(4)) == sequence.on_snapshot(snapshot(5)) == ()
        assert sequence.on_snapshot(snapshot(6)) == (snapshot(6),)

    @given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=40))
    def test_the_gaps_are_exactly_what_was_lost(self, diffs: list[tuple[int, bool]]) -> None:
        """A snapshot at 0, then diffs of some width, any of them lost but the last."""
        sequence = BookSequence(recoverable=False)
        events = list(sequence.on_snapshot(snapshot(0)))
        missing: list[int] = []
        at = 0
        for width, gone in [*diffs, (1, False)]:
            if gone:
                missing += range(at + 1, at + width + 1)
            else:
                events += sequence.on_delta(delta(at + 1, at + width))
            at += width
        assert ranges(events, GapOpened) == ranges(events, GapClosed) == runs(missing)

    @given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["arrives", "lost", "resync"])), max_size=40))
    def test_what_is_published_always_chains_from_a_snapshot(self, steps: list[tuple[int, str]]) -> None:
        """Live: losses and snapshots in any order. A reader that follows the events never applies a diff to a hole."""
        sequence = BookSequence(recoverable=True)
        events: list[Any] = []
        at = 0
        for width, what in steps:
            if what == "arrives":
                events += sequence.on_delta(delta(at + 1, at + width))
            at += width
            if what == "resync":
                events += sequence.on_snapshot(snapshot(at))
        book_at: int | None = None
        open_gap = False
        for event in events:
            match event:
                case BookSnapshot():
                    book_at = event.last_update_id
                case BookDelta():
                    assert book_at is not None and event.first_update_id <= book_at + 1 <= event.last_update_id
                    book_at = event.last_update_id
                case GapOpened():
                    assert not open_gap
                    open_gap = True
                case GapClosed():
                    open_gap = False
        assert open_gap == (sequence.open_gap is not None)
