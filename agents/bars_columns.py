"""Bars of whole chunks: the same bars, byte for byte, as :class:`skeet.agents.bars.BarsAgent` makes of the records one by one.

State lives in arrays, a row for each instrument. What the kernel does not take (a tick, a gap, an instrument's first trade, a
scale that changes, numbers beyond 62 bits) is given to BarsAgent with that instrument's series, and what it made of them is
put back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeet.agents.bars import GRACE_NS, INTERVALS, BarsAgent, BarsState, OpenBar, Series, close
from skeet.agents.bars_kernel import LENGTHS_NS, SERIES, fold
from skeet.agents.instrument_rows import ROOM, InstrumentRows, grown
from skeet.core.errors import InvalidInput
from skeet.core.market import Bar, GapClosed, GapOpened, Tick, Trade
from skeet.core.record import Out, Record, TopicPosition
from skeet.core.values import EXACT, from_mantissa
from skeet.streams.batches.rows import ChunkRows
from skeet.streams.batches.snapshots import pack, unpack
from skeet.streams.stages import Partition, Restored
from skeet.streams.topics import MARKET_BARS, MARKET_TRADES

FITS = 1 << 62
HALF = 1 << 64
LOW = HALF - 1


@dataclass(slots=True)
class BarColumns:
    """All series as arrays; open gaps and bars of numbers that no array holds beside them."""

    rows: InstrumentRows = field(default_factory=InstrumentRows)
    series: NDArray[np.void] = field(default_factory=lambda: np.zeros((ROOM, len(INTERVALS)), SERIES))
    gaps: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    outside: dict[tuple[int, int], OpenBar] = field(default_factory=dict)


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
            series = _series(closed[number], None)
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


def columns_from(state: BarsState) -> BarColumns:
    """The same state in arrays. ``blind`` belongs to a restore and is not kept."""
    columns = BarColumns()
    put(columns, state)
    return columns


def state_of(state: BarColumns, instruments: Sequence[str] | None = None) -> BarsState:
    """The state of these instruments (default: all) as BarsAgent has it."""
    found = BarsState()
    wanted = [*state.rows, *(set(state.gaps) - set(state.rows))] if instruments is None else instruments
    for instrument_id in wanted:
        row = state.rows.find(instrument_id)
        for interval, (name, _) in enumerate(INTERVALS if row is not None else ()):
            stored = state.series[row, interval]
            if stored["known"]:
                found.series[instrument_id, name] = _series(stored, state.outside.get((int(row or 0), interval)))
        if instrument_id in state.gaps:
            found.gaps[instrument_id] = state.gaps[instrument_id]
    return found


def put(state: BarColumns, part: BarsState) -> None:
    """Put these series and gaps in, each in its place."""
    names = {name: interval for interval, (name, _) in enumerate(INTERVALS)}
    for (instrument_id, name), series in part.series.items():
        row = state.rows.add(instrument_id)
        state.series = grown(state.series, len(state.rows))
        place = (row, names[name])
        stored = _stored(series)
        state.series[place] = stored if stored is not None else _outside(series)
        if stored is None and series.bar is not None:
            state.outside[place] = series.bar
        else:
            state.outside.pop(place, None)
    for instrument_id, gaps in part.gaps.items():
        state.gaps[instrument_id] = gaps
    for instrument_id in {key[0] for key in part.series} | set(part.gaps):
        found = state.rows.find(instrument_id)
        if found is not None:
            state.series["gapped"][found] = bool(state.gaps.get(instrument_id))


def _on_tick(state: BarColumns, now: int, record: Record[Any]) -> list[Out[Any]]:
    held = state.series[: len(state.rows)]
    due = held["live"] & held["is_open"] & (held["ts_open"] + (LENGTHS_NS + GRACE_NS) <= now)
    outs: list[Out[Any]] = []
    for row, interval in np.argwhere(due).tolist():
        place, key = (row, interval), (state.rows[row], INTERVALS[interval][0])
        series = _series(held[place], state.outside.pop(place, None))
        whole, complete = series.whole, not (series.torn or bool(held[place]["gapped"]))
        bar = close(key, series, cause_at=str(record.at), ts_init=now, complete=complete)
        gapped = bool(held[place]["gapped"])
        state.series[place] = _stored(series)
        state.series[place]["gapped"] = gapped
        if whole:
            outs.append(_out(bar))
    return outs


def _out(bar: Bar | None) -> Out[Any]:
    assert bar is not None
    return Out(topic=MARKET_BARS.name, key=bar.instrument_id, event=bar)


def _series(stored: Any, outside: OpenBar | None) -> Series:
    named = dict(zip(SERIES.names or (), stored.item(), strict=True))
    last = TopicPosition(MARKET_TRADES.name, named["last_partition"], named["last_offset"])
    return Series(
        closed_until=named["closed_until"],
        through=named["through"],
        partition=named["partition"],
        whole=named["whole"],
        bar=outside or (_bar(named) if named["is_open"] else None),
        late_trades=named["late_trades"],
        torn=named["torn"],
        live=named["live"],
        last_at=str(last) if last.offset >= 0 else "",
    )


def _bar(named: Mapping[str, Any]) -> OpenBar:
    quote = named["quote_high"] * HALF + named["quote_low"]
    return OpenBar(
        ts_open=named["ts_open"],
        price_scale=named["price_scale"],
        size_scale=named["size_scale"],
        open=named["open"],
        high=named["high"],
        low=named["low"],
        close=named["close"],
        volume=named["volume"],
        buy_volume=named["buy_volume"],
        quote_volume=from_mantissa(quote, named["price_scale"] + named["size_scale"]),
        trade_count=named["trade_count"],
    )


def _stored(series: Series) -> tuple[Any, ...] | None:
    """The series as a row; None when a number of its open bar fits none."""
    bar = series.bar
    if bar is None:
        return _row(series, (0,) * 9, (0, 0), 0, is_open=False)
    numbers = (bar.ts_open, bar.price_scale, bar.size_scale, bar.open, bar.high, bar.low, bar.close)
    volumes = (bar.volume, bar.buy_volume)
    quote = _unscaled(bar.quote_volume, bar.price_scale + bar.size_scale)
    if quote is None or not all(0 <= number < FITS for number in (*numbers, *volumes)):
        return None
    return _row(series, (*numbers, *volumes), (quote // HALF, quote & LOW), bar.trade_count, is_open=True)


def _outside(series: Series) -> tuple[Any, ...]:
    bar = series.bar
    ts_open = bar.ts_open if bar is not None else 0
    return _row(series, (ts_open, *(0,) * 8), (0, 0), 0, is_open=bar is not None, outside=True)


def _row(
    series: Series,
    numbers: tuple[int, ...],
    quote: tuple[int, int],
    count: int,
    *,
    is_open: bool,
    outside: bool = False,
) -> tuple[Any, ...]:
    _, partition, offset = series.last_at.rsplit("/", 2) if series.last_at else ("", "-1", "-1")
    return (
        series.closed_until,
        series.through,
        series.partition,
        int(offset),
        int(partition),
        series.late_trades,
        *numbers,
        *quote,
        count,
        True,
        series.whole,
        series.torn,
        series.live,
        is_open,
        outside,
        False,
    )


def _unscaled(amount: Decimal, scale: int) -> int | None:
    """The amount as a whole number of 10^-scale; None when it is none, negative, or has more than 124 bits."""
    shifted = amount.scaleb(scale, EXACT)
    number = int(shifted)
    return number if number == shifted and 0 <= number < FITS * FITS else None
