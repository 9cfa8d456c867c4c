"""The bars' state as arrays, and the way between it and the objects of :mod:`skeet.agents.bars`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeet.agents.bars import INTERVALS, BarsState, OpenBar, Series
from skeet.agents.bars_kernel import SERIES
from skeet.agents.instrument_rows import ROOM, InstrumentRows, grown
from skeet.core.record import TopicPosition
from skeet.core.values import EXACT, from_mantissa
from skeet.streams.topics import MARKET_TRADES

FITS = 1 << 62
"""Numbers below it are summed in arrays."""
HALF = 1 << 64
LOW = HALF - 1


@dataclass(slots=True)
class BarColumns:
    """All series as arrays; open gaps and bars of numbers that no array holds beside them."""

    rows: InstrumentRows = field(default_factory=InstrumentRows)
    series: NDArray[np.void] = field(default_factory=lambda: np.zeros((ROOM, len(INTERVALS)), SERIES))
    gaps: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    outside: dict[tuple[int, int], OpenBar] = field(default_factory=dict)


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
                found.series[instrument_id, name] = series_at(stored, state.outside.get((int(row or 0), interval)))
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
        stored = stored_of(series)
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


def series_at(stored: Any, outside: OpenBar | None) -> Series:
    """The series of a row; ``outside`` is its open bar where that fits no row."""
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


def stored_of(series: Series) -> tuple[Any, ...] | None:
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
