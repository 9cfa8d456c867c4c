"""Machines on columns give what the machines of single records give, byte for byte, wherever chunks begin and end."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, replace
from decimal import Decimal
from typing import Any

import pytest
from chunks import chunk_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from market_records import T0, quote, tick, trade

from skeet.agents.bars import BarsAgent, BarsState, Series
from skeet.agents.bars_arrays import columns_from, put, state_of
from skeet.agents.bars_columns import ColumnBars
from skeet.agents.imbalance_columns import ColumnImbalance
from skeet.agents.reference import ReferenceAgent
from skeet.agents.reference_columns import ColumnReferences
from skeet.agents.reference_columns import state_of as references_of
from skeet.agents.restoring import remember
from skeet.agents.signals import ImbalanceSignals
from skeet.config import KafkaSettings, SignalSettings
from skeet.core.errors import InvalidInput
from skeet.core.market import (
    Channel,
    GapClosed,
    GapOpened,
    GapOutcome,
    MarketDataResumed,
    MarketDataStale,
    Quote,
    Trade,
)
from skeet.core.record import MarketEvent, Out, Record, TopicPosition
from skeet.core.values import EXACT, NS_PER_MS, exact_arithmetic
from skeet.schemas.codec import numbered_codec
from skeet.schemas.columns.interning import Texts
from skeet.streams.batches.rows import RowsReader
from skeet.streams.door import Door

CODEC = numbered_codec()
KAFKA = KafkaSettings(market_partitions=1)
TOPIC_OF: dict[type[Any], str] = {Trade: "market.trades.v1", Quote: "market.quotes.v1"}
KNOWN: dict[str, Texts] = {}
READERS = {kind: RowsReader(CODEC, Door(KAFKA, CODEC), topic, 1, kind, KNOWN) for kind, topic in TOPIC_OF.items()}
INSTRUMENTS = ("SIM:BTC/USDT", "SIM:ETH/USDT", "BINANCE:SOL/USDT")


def encoded(outs: Iterable[Out[Any]]) -> list[tuple[str, str, bytes, str]]:
    return [(out.topic, out.key, written(out.event), out.event.event_id) for out in outs]


def written(event: Any) -> bytes:
    """Its bytes; of one that no record can hold (a volume beyond 63 bits) what it is."""
    try:
        return CODEC.encode(event)
    except InvalidInput:
        return repr([f.normalize(EXACT) if isinstance(f, Decimal) else f for f in astuple(event)]).encode()


def one_by_one(machine: Any, records: Sequence[Record[Any]]) -> tuple[Any, list[Out[Any]]]:
    state, made = machine.initial(), []
    with exact_arithmetic():
        for each in records:
            state, outs = machine.step(state, each)
            made.extend(outs)
    return state, made


def in_chunks(machine: Any, records: Sequence[Record[Any]], lengths: Iterable[int]) -> tuple[Any, list[Out[Any]], int]:
    """Runs of one class in chunks of these lengths; what comes between them one by one. Also how many rows were folded."""
    state, made, folded, at, wanted = machine.initial(), [], 0, 0, iter(lengths)
    with exact_arithmetic():
        while at < len(records):
            kind = type(records[at].event)
            if kind not in READERS:
                state, outs = machine.step(state, records[at])
                made.extend(outs)
                at += 1
                continue
            end = at
            limit = at + next(wanted, 1_000)
            while end < min(len(records), limit) and type(records[end].event) is kind:
                end += 1
            rows = READERS[kind].rows(chunk_of(CODEC, records[at:end], TOPIC_OF[kind], 0))
            row, count = 0, end - at
            while row < count:
                before = row
                row, outs = machine.fold(state, rows, row, count)
                folded += row - before
                made.extend(outs)
                if row < count:
                    state, outs = machine.step(state, rows.record(row))
                    made.extend(outs)
                    row += 1
            at = end
    return state, made, folded


def placed(events: Iterable[tuple[Any, int]]) -> list[Record[Any]]:
    """The events (with the log's time in ms after the event's) standing one after another in their topics."""
    offsets: dict[str, int] = {}
    found = []
    for event, late_ms in events:
        topic = TOPIC_OF.get(type(event), "market.status.v1" if isinstance(event, MarketEvent) else "clock.v1")
        offset = offsets[topic] = offsets.get(topic, -1) + 1
        log_ns = event.ts_event // NS_PER_MS * NS_PER_MS + late_ms * NS_PER_MS
        found.append(Record(event=event, meta=None, at=TopicPosition(topic, 0, offset), log_ns=log_ns))
    return found


SMALL = st.integers(0, 10_000)
MANTISSAS = st.one_of(SMALL, SMALL, SMALL, st.sampled_from([2**62 - 1, 2**62, 2**63 - 1, -1, 10**15]))
SCALES = st.sampled_from([2, 2, 2, 2, 2, 8, 0])


@st.composite
def trades(draw: st.DrawFn) -> Trade:
    return replace(
        trade(
            draw(st.integers(0, 50)),
            0,
            draw(MANTISSAS),
            draw(MANTISSAS),
            draw(st.sampled_from(INSTRUMENTS)),
            price_scale=draw(SCALES),
            size_scale=draw(SCALES),
            backfilled=draw(st.sampled_from([False, False, False, True])),
        ),
        ts_event=T0 + draw(st.integers(0, 130_000)) * NS_PER_MS,
    )


@st.composite
def ordered_trades(draw: st.DrawFn) -> list[tuple[Any, int]]:
    """Trades of a market that runs on, a few of them late."""
    at_ms, found = 0, []
    for _ in range(draw(st.integers(1, 40))):
        at_ms += draw(st.integers(0, 700))
        found.append(
            (replace(draw(trades()), ts_event=T0 + at_ms * NS_PER_MS), draw(st.sampled_from([0, 1, 5, 20_000])))
        )
    return found


@st.composite
def gaps(draw: st.DrawFn) -> Any:
    fields: dict[str, Any] = {
        "instrument_id": draw(st.sampled_from(INSTRUMENTS)), "ts_event": T0, "ts_init": T0, "channel": Channel.TRADES,
        "first_missing": draw(st.integers(0, 2)), "last_missing": 3,
    }  # fmt: skip
    if draw(st.booleans()):
        return GapOpened(**fields)
    outcome = draw(st.sampled_from([GapOutcome.FILLED, GapOutcome.UNFILLABLE]))
    return GapClosed(**fields, outcome=outcome, recovered=0, reason="")


TICKS = st.integers(0, 140_000).map(lambda ms: tick(ms / 1000))
STREAMS = st.lists(
    st.one_of(
        ordered_trades(),
        st.tuples(trades(), st.just(1)).map(lambda each: [each]),
        TICKS.map(lambda each: [(each, 0)]),
        gaps().map(lambda each: [(each, 0)]),
    ),
    max_size=12,
).map(lambda parts: [each for part in parts for each in part])
LENGTHS = st.lists(st.integers(1, 30), max_size=40)


@settings(max_examples=150, deadline=None)
@given(STREAMS, LENGTHS)
def test_bars_of_chunks_are_the_bars_of_single_records(events: list[tuple[Any, int]], lengths: list[int]) -> None:
    records = placed(events)
    expected_state, expected = one_by_one(BarsAgent(), records)
    state, made, _ = in_chunks(ColumnBars(), records, lengths)
    assert encoded(made) == encoded(expected)
    found = state_of(state)
    assert found.series == expected_state.series
    assert {key: gap for key, gap in found.gaps.items() if gap} == {k: g for k, g in expected_state.gaps.items() if g}


@settings(max_examples=100, deadline=None)
@given(STREAMS)
def test_bars_state_survives_the_way_into_arrays_and_back(events: list[tuple[Any, int]]) -> None:
    state, _ = one_by_one(BarsAgent(), placed(events))
    assert state_of(columns_from(state)).series == state.series


def test_usual_trades_are_folded_as_columns() -> None:
    """Else all of the above would be the machine of single records against itself."""
    records = placed([(trade(n, n * 0.01, 10**15 + n, 10**15, symbol=INSTRUMENTS[n % 3]), 1) for n in range(3_000)])
    _, made, folded = in_chunks(ColumnBars(), records, [700] * 10)
    assert folded == 3_000 - 3, "all but the first of each instrument"
    assert encoded(made) == encoded(one_by_one(BarsAgent(), records)[1])
    assert len(made) == 29 * 3


@st.composite
def quotes(draw: st.DrawFn) -> Quote:
    sizes = st.one_of(SMALL, SMALL, st.sampled_from([0, -1, 2**63 - 1, -(2**63)]))
    return replace(
        quote(draw(st.integers(0, 50)), 0, draw(MANTISSAS), draw(MANTISSAS), price_scale=draw(SCALES)),
        instrument_id=draw(st.sampled_from(INSTRUMENTS)),
        bid_size_mantissa=draw(sizes),
        ask_size_mantissa=draw(sizes),
    )


@st.composite
def market(draw: st.DrawFn) -> list[tuple[Any, int]]:
    """Quotes and trades in runs, with what a feed says between them."""
    at_ms, found = 0, []
    for _ in range(draw(st.integers(1, 15))):
        stale: dict[str, Any] = {"instrument_id": draw(st.sampled_from(INSTRUMENTS)), "ts_event": T0, "ts_init": T0}
        kinds = st.sampled_from([quotes(), quotes(), trades(), gaps(), st.just(None)])
        for event in draw(st.one_of(kinds).flatmap(lambda kind: st.lists(kind, max_size=8))):
            at_ms += draw(st.integers(0, 80))
            made = event or draw(st.sampled_from([MarketDataStale(**stale, last_seen=1), MarketDataResumed(**stale)]))
            found.append((replace(made, ts_event=T0 + at_ms * NS_PER_MS), draw(st.sampled_from([0, 3]))))
    return found


@settings(max_examples=150, deadline=None)
@given(market(), LENGTHS)
def test_references_of_chunks_are_those_of_single_records(events: list[tuple[Any, int]], lengths: list[int]) -> None:
    records = placed(events)
    expected_state, expected = one_by_one(ReferenceAgent(), records)
    state, made, _ = in_chunks(ColumnReferences(), records, lengths)
    assert encoded(made) == encoded(expected)
    assert references_of(state) == expected_state
    later = records[-1].log_ns + 1_000 * NS_PER_MS if records else 0
    assert encoded(ColumnReferences().due(state, later)[1]) == encoded(ReferenceAgent().due(expected_state, later)[1])


@settings(max_examples=100, deadline=None)
@given(market(), LENGTHS)
def test_imbalance_of_chunks_is_that_of_single_records(events: list[tuple[Any, int]], lengths: list[int]) -> None:
    records = placed(each for each in events if isinstance(each[0], Quote))
    _, expected = one_by_one(ImbalanceSignals(SignalSettings()), records)
    assert encoded(in_chunks(ColumnImbalance(SignalSettings()), records, lengths)[1]) == encoded(expected)


def test_usual_quotes_are_folded_as_columns() -> None:
    records = placed([(quote(n, n * 0.01, instrument_id=INSTRUMENTS[n % 3]), 1) for n in range(3_000)])
    for machine, one in (
        (ColumnReferences(), ReferenceAgent()),
        (ColumnImbalance(SignalSettings()), ImbalanceSignals(SignalSettings())),
    ):
        _, made, folded = in_chunks(machine, records, [700] * 10)
        assert folded == 3_000 - 3
        assert len(made) > 100
        assert encoded(made) == encoded(one_by_one(one, records)[1])


@settings(max_examples=100, deadline=None)
@given(ordered_trades(), st.data())
def test_restart_from_a_snapshot_loses_no_bar_closes_none_twice_and_none_partially(
    events: list[tuple[Any, int]], data: st.DataObject
) -> None:
    """A kill at any record, a snapshot of any moment before it, reading from any position between the two."""
    records = placed(events)
    whole = one_by_one(BarsAgent(), records)[1]
    stop = data.draw(st.integers(0, len(records)))
    held = data.draw(st.integers(0, stop))
    machine = ColumnBars()
    content = machine.packed(in_chunks(machine, records[:held], [7] * 9)[0], lambda _: True)
    assume(content)
    published = one_by_one(BarsAgent(), records[:stop])[1]

    restored = machine.initial()
    machine.unpack(restored, content)
    state = state_of(restored)
    for out in published:
        remember(state, out.event)
    again: list[Out[Any]] = []
    restored = columns_from(state)
    with exact_arithmetic():
        for each in records[held:]:
            restored, outs = machine.step(restored, each)
            again.extend(outs)
    assert sorted(encoded(published + again)) == sorted(encoded(whole))


def test_snapshot_holds_the_instruments_of_its_partition_only() -> None:
    machine = ColumnImbalance(SignalSettings())
    records = placed([(quote(n, n * 0.2, instrument_id=INSTRUMENTS[n % 3]), 1) for n in range(30)])
    state = one_by_one(machine, records)[0]
    restored = machine.initial()
    machine.unpack(restored, machine.packed(state, lambda text: text != INSTRUMENTS[1]))
    assert list(restored.rows) == [INSTRUMENTS[0], INSTRUMENTS[2]]
    assert restored.last_ns[:2].tolist() == [state.last_ns[0], state.last_ns[2]]


@pytest.mark.parametrize("content", [b"", b"x", zlib.compress(b"\0\0\0\x02{}"), zlib.compress(b"\0\0\0\xff{}")])
def test_what_is_no_snapshot_is_refused(content: bytes) -> None:
    machines: tuple[Any, ...] = (ColumnBars(), ColumnImbalance(SignalSettings()))
    for machine in machines:
        with pytest.raises(InvalidInput):
            machine.unpack(machine.initial(), content)


def test_trades_accounted_for_are_counted_in_no_bar_again() -> None:
    """A successor reads from where it was committed, which may lie before what the last bar names."""
    records = placed([(trade(n, n * 0.01), 1) for n in range(300)])
    known = BarsAgent().initial()
    for interval in ("1s", "1m"):
        known.series[INSTRUMENTS[0], interval] = Series(closed_until=T0, through=99)
    with exact_arithmetic():
        expected = [out for each in records for out in BarsAgent().step(known, each)[1]]
    state = columns_from(BarsState())
    for interval in ("1s", "1m"):
        put(state, BarsState(series={(INSTRUMENTS[0], interval): Series(closed_until=T0, through=99)}))
    rows = READERS[Trade].rows(chunk_of(CODEC, records, TOPIC_OF[Trade], 0))
    taken, made = ColumnBars().fold(state, rows, 0, len(records))
    assert taken == len(records)
    assert [out.event.trade_count for out in made] == [100] * len(made)
    assert encoded(made) == encoded(expected)
