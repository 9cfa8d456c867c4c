"""Bars of whole chunks: the same bars, byte for byte, as :class:`skeet.agents.bars.BarsAgent` makes of the records one by one.

State lives in arrays, a row for each instrument. What the kernel does not take (a tick, a gap, an instrument's first trade, a
scale that changes, numbers beyond 62 bits) is given to BarsAgent with that instrument's series, and what it made of them is
put back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from skeet.agents.bars import GRACE_NS, INTERVALS, BarsAgent, close
from skeet.agents.bars_arrays import BarColumns, columns_from, put, series_at, state_of, stored_of
from skeet.agents.bars_kernel import LENGTHS_NS, SERIES, fold
from skeet.agents.instrument_rows import grown
from skeet.core.errors import InvalidInput
from skeet.core.market import Bar, GapClosed, GapOpened, Tick, Trade
from skeet.core.record import Out, Record
from skeet.streams.batches.rows import ChunkRows
from skeet.streams.batches.snapshots import pack, unpack
from skeet.streams.stages import Partition, Restored
from skeet.streams.topics import MARKET_BARS


class ColumnBars:
    """The machine. Reads trades, their gaps, and clock ticks; one by one, or trades as columns."""

    version = BarsAgent.version

    def __init__(self) -> None:
        self._one = BarsAgent()

    def initial(self) -> BarColumns:
        """No series yet."""
        return BarColumns()

    def adopted(
        self, restore: Callable[[Mapping[Partition, int]], Restored]
    ) -> Callable[[Mapping[Partition, int]], Restored]:
        """A restore of BarsAgent's state as one of this machine's."""

        def adopting(starts: Mapping[Partition, int]) -> Restored:
            state, outs = restore(starts)
            return columns_from(state), outs

        return adopting

    def step(self, state: BarColumns, record: Record[Any]) -> tuple[BarColumns, tuple[Out[Any], ...]]:
        """As :meth:`BarsAgent.step`."""
        match record.event:
            case Tick(ts_event=now):
                return state, tuple(_on_tick(state, now, record))
            case (
                Trade(instrument_id=instrument_id)
                | GapOpened(instrument_id=instrument_id)
                | GapClosed(instrument_id=instrument_id)
            ):
                part = state_of(state, [instrument_id])
                part, outs = self._one.step(part, record)
                put(state, part)
                return state, outs
        return state, ()

    def fold(self, state: BarColumns, rows: ChunkRows, first: int, end: int) -> tuple[int, Sequence[Out[Any]]]:
        """Take records from ``first`` on, up to ``end`` or the first one that only :meth:`step` takes."""
        trades = rows.columns
        room = (end - first) * len(INTERVALS)
        closed, closed_at = np.empty(room, SERIES), np.empty((room, 3), np.int64)
        buy = trades.symbol_names("aggressor_side").index("BUY")
        stopped, found = fold(
            state.series,
            state.rows.by_number(rows.known, rows.numbers),
            (rows.row_of, rows.numbers),
            (
                trades.longs("ts_event"),
                trades.longs("price_mantissa"),
                trades.longs("size_mantissa"),
                trades.longs("price_scale"),
                trades.longs("size_scale"),
                trades.symbols("aggressor_side") == buy,
                trades.booleans("backfilled"),
            ),
            (rows.partition, rows.offsets, rows.log_ns),
            (first, end),
            (closed, closed_at),
        )
        ts_init = trades.longs("ts_init")
        outs: list[Out[Any]] = []
        for number, (row, interval, record) in enumerate(closed_at[:found].tolist()):
            series = series_at(closed[number], None)
            if series.whole:
                key = (state.rows[row], INTERVALS[interval][0])
                complete = not (series.torn or bool(closed[number]["gapped"]))
                cause = int(ts_init[rows.row_of[record]])
                outs.append(_out(close(key, series, cause_at=str(rows.at(record)), ts_init=cause, complete=complete)))
        return int(stopped), outs

    # Snapshots.

    @property
    def snapshot_version(self) -> str:
        """Of the rules and of the arrays' layout."""
        return f"{self.version} {sha256(repr(SERIES.descr).encode()).hexdigest()[:16]}"

    def packed(self, state: BarColumns, belongs: Callable[[str], bool]) -> bytes:
        """Series and gaps of the instruments that belong; nothing while one of them has numbers that fit no array."""
        rows = [row for row, instrument_id in enumerate(state.rows) if belongs(instrument_id)]
        if any(row in rows for row, _ in state.outside):
            return b""
        gaps = {key: sorted(found) for key, found in state.gaps.items() if found and belongs(key)}
        return pack({"instruments": [state.rows[row] for row in rows], "gaps": gaps}, state.series[rows])

    def unpack(self, state: BarColumns, content: bytes) -> None:
        """Put the series and gaps of a snapshot into the state; InvalidInput when it is none."""
        header, series = unpack(content, SERIES)
        instruments, gaps_of = header.get("instruments", ()), header.get("gaps")
        if not isinstance(gaps_of, dict):
            raise InvalidInput("a snapshot without gaps")
        if series.size != len(instruments) * len(INTERVALS):
            raise InvalidInput(f"{series.size} series of {len(instruments)} instruments")
        for instrument_id, found in zip(instruments, series.reshape(-1, len(INTERVALS)), strict=True):
            row = state.rows.add(instrument_id)
            state.series = grown(state.series, len(state.rows))
            state.series[row] = found
        for instrument_id, gaps in gaps_of.items():
            state.gaps[instrument_id] = {(first, last) for first, last in gaps}


def _on_tick(state: BarColumns, now: int, record: Record[Any]) -> list[Out[Any]]:
    held = state.series[: len(state.rows)]
    due = held["live"] & held["is_open"] & (held["ts_open"] + (LENGTHS_NS + GRACE_NS) <= now)
    outs: list[Out[Any]] = []
    for row, interval in np.argwhere(due).tolist():
        place, key = (row, interval), (state.rows[row], INTERVALS[interval][0])
        series = series_at(held[place], state.outside.pop(place, None))
        whole, complete = series.whole, not (series.torn or bool(held[place]["gapped"]))
        bar = close(key, series, cause_at=str(record.at), ts_init=now, complete=complete)
        gapped = bool(held[place]["gapped"])
        state.series[place] = stored_of(series)
        state.series[place]["gapped"] = gapped
        if whole:
            outs.append(_out(bar))
    return outs


def _out(bar: Bar | None) -> Out[Any]:
    assert bar is not None
    return Out(topic=MARKET_BARS.name, key=bar.instrument_id, event=bar)
