"""Trade flow: who bought and sold how much in the last moments, for each instrument, in overlapping windows of event time.

A signal is published for each window that closed with trades in it; it names its window, so that a window computed again is
the same signal under the same id. A trade that comes too late for windows that were published goes to ``market.late.v1``.
Sums are exact; they become doubles only in the signal.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from skeet.config import SignalSettings
from skeet.core.errors import InvalidInput, MisplacedRecord
from skeet.core.ids import derive_id
from skeet.core.market import LateRecord, Signal, Trade
from skeet.core.record import Out
from skeet.core.values import NS_PER_MS, NS_PER_S
from skeet.core.windows import Closed, Count, Hopping, Late, Sum, WeightedMean, Windows, WindowState
from skeet.schemas.codec import Codec
from skeet.schemas.columns.columns import Columns, Flags, Longs
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.interning import NO_ID
from skeet.streams.batches.app import raw_record
from skeet.streams.batches.chunk import Chunk
from skeet.streams.door import dead_letter
from skeet.streams.topics import LATE, SIGNALS
from skeet.streams.windows.columns import ColumnWindows, Events

NAME = "trade_flow"
VERSION = "1"
ROLE = "trade-flow"
SCALE = 8
"""Decimal places of prices and sizes in the windows: what venues have. A trade that needs more, or 92 billion and more of
anything, is none that this agent knows."""
MAX_SHIFT = 18
MAX_AHEAD_NS = 60 * NS_PER_S
"""A trade that is further ahead of the log's time is a mistake, and would keep its windows open until then."""
FOLDS: dict[str, Any] = {
    "buy": Sum("buy"),
    "sell": Sum("sell"),
    "vwap": WeightedMean("price", "size"),
    "trades": Count(),
}


class TradeFlow:
    """The agent's fold: chunks of trades into windows. ``prefix`` is that of the topics' names."""

    def __init__(self, codec: Codec, settings: SignalSettings, prefix: str) -> None:
        self._settings = settings
        self._prefix = prefix
        self._windows = Windows(
            Hopping(size_ns=settings.flow_window_ms * NS_PER_MS, step_ns=settings.flow_step_ms * NS_PER_MS),
            FOLDS,
            grace_ns=settings.flow_grace_ms * NS_PER_MS,
        )
        self._columns = ColumnWindows(self._windows)
        self._decoder = ColumnDecoder(codec, Trade)
        self.interval = f"{settings.flow_window_ms}ms"
        self._parameters = {"step_ms": str(settings.flow_step_ms), "grace_ms": str(settings.flow_grace_ms)}

    @property
    def version(self) -> str:
        """Changes with the rule and its parameters: another one's states are of no use."""
        return f"{NAME}-{VERSION}-{self.interval}-{self._settings.flow_step_ms}-{self._settings.flow_grace_ms}"

    def initial(self) -> WindowState:
        """Before the first trade."""
        return self._windows.initial()

    def fold(self, state: WindowState, chunk: Chunk, first: int) -> tuple[Out[Any], ...]:
        """The chunk's trades from offset ``first`` on: dead letters of what is none, signals, late trades."""
        trades = self._decoder.decode(chunk.buffer, chunk.value_starts, chunk.value_lengths)
        wanted = chunk.offsets[trades.index] >= first
        letters = [
            dead_letter(ROLE, raw_record(chunk, each.index, self._prefix), each.error)
            for each in trades.refused
            if chunk.offsets[each.index] >= first
        ]
        events, rows, unfit = _events(trades, chunk, wanted)
        letters += [self._unfit(chunk, int(trades.index[row])) for row in unfit.tolist()]
        made = self._columns.add(state, events)
        signals = self._signals(made.closed, trades, chunk, [int(rows[by]) for by in made.closed_by])
        late = (
            self._late(each, trades, chunk, int(rows[row])) for each, row in zip(made.late, made.late_rows, strict=True)
        )
        return (*letters, *signals, *late)

    def _signals(
        self, closed: tuple[Closed, ...], trades: Columns, chunk: Chunk, causes: list[int]
    ) -> Iterator[Out[Any]]:
        ts_init = trades.longs("ts_init")
        for window, row in zip(closed, causes, strict=True):
            instrument = str(window.key)
            signal = Signal(
                instrument_id=instrument,
                ts_event=window.span.end,
                ts_init=int(ts_init[row]),
                name=NAME,
                version=VERSION,
                interval=self.interval,
                parameters=self._parameters,
                values=_values(window),
                causation_id=derive_id("window", self.version, instrument, *window.span),
                cause_at=self._at(chunk, trades, row),
            )
            yield Out(topic=SIGNALS.name, key=instrument, event=signal)

    def _late(self, late: Late, trades: Columns, chunk: Chunk, row: int) -> Out[Any]:
        record = LateRecord(
            instrument_id=str(late.key),
            ts_event=late.ts,
            ts_init=int(trades.longs("ts_init")[row]),
            rule=f"{NAME}/{self.interval}",
            version=VERSION,
            reason=late.reason,
            missed_from=late.missed[0].start,
            missed_until=late.missed[-1].end,
            windows_missed=len(late.missed),
            watermark=late.watermark,
            origin=self._at(chunk, trades, row),
            payload=chunk.value(int(trades.index[row])) or b"",
        )
        return Out(topic=LATE.name, key=str(late.key), event=record)

    def _unfit(self, chunk: Chunk, index: int) -> Out[Any]:
        reason = (
            f"price or size does not fit {SCALE} decimal places of a 64-bit number, or ts_event is more than "
            f"{MAX_AHEAD_NS // NS_PER_S} s ahead of the log; correct its writer"
        )
        return dead_letter(ROLE, raw_record(chunk, index, self._prefix), MisplacedRecord(reason))

    def _at(self, chunk: Chunk, trades: Columns, row: int) -> str:
        return f"{chunk.topic.removeprefix(self._prefix)}/{chunk.partition}/{chunk.offsets[trades.index[row]]}"


def _events(trades: Columns, chunk: Chunk, wanted: Flags) -> tuple[Events, Longs, Longs]:
    """The wanted trades as events, the row of each, and rows of wanted trades that do not fit."""
    instruments = trades.texts("instrument_id")
    assert instruments.ids is not None and instruments.known is not None
    if bool((instruments.ids == NO_ID).any()):
        raise InvalidInput(f"more than {len(instruments.known)} instruments; run several workers on more partitions")
    price, price_fits = scaled(trades.longs("price_mantissa"), trades.longs("price_scale"))
    size, size_fits = scaled(trades.longs("size_mantissa"), trades.longs("size_scale"))
    ts, now_ns = trades.longs("ts_event"), chunk.timestamps_ms[trades.index] * NS_PER_MS
    fits = price_fits & size_fits & (ts - now_ns <= MAX_AHEAD_NS)
    rows = np.flatnonzero(wanted & fits)
    sides, names = trades.symbols("aggressor_side")[rows], trades.symbol_names("aggressor_side")
    size = size[rows]
    events = Events(
        keys=instruments.ids[rows].astype(np.int64),
        names=instruments.known.all(),
        ts=ts[rows],
        values={
            "price": price[rows],
            "size": size,
            "buy": np.where(sides == names.index("BUY"), size, 0),
            "sell": np.where(sides == names.index("SELL"), size, 0),
        },
        partition=chunk.partition,
        now_ns=now_ns[rows],
    )
    return events, rows, np.flatnonzero(wanted & ~fits)


def scaled(mantissas: Longs, scales: Longs) -> tuple[Longs, Flags]:
    """The numbers as mantissas of ``SCALE``, and which of them are exactly that (the others are not to be used)."""
    if bool((scales == SCALE).all()):
        return mantissas, np.ones(len(mantissas), np.bool_)
    found, fits = mantissas.copy(), np.zeros(len(mantissas), np.bool_)
    for scale in np.unique(scales).tolist():
        rows, shift = scales == scale, SCALE - scale
        factor = 10 ** min(abs(shift), MAX_SHIFT)
        if shift >= 0:
            found[rows] = mantissas[rows] * factor
            limit = np.iinfo(np.int64).max // factor
            fits[rows] = (np.abs(mantissas[rows]) <= limit) & (shift <= MAX_SHIFT)
        else:
            found[rows] = mantissas[rows] // factor
            fits[rows] = (mantissas[rows] % factor == 0) & (-shift <= MAX_SHIFT)
    return found, fits


def _values(window: Closed) -> dict[str, float]:
    buy, sell, vwap = window.results["buy"], window.results["sell"], window.results["vwap"]
    values = {
        "buy_volume": buy / 10**SCALE,
        "sell_volume": sell / 10**SCALE,
        "imbalance": (buy - sell) / (buy + sell) if buy + sell else 0.0,
        "trades": float(window.results["trades"]),
    }
    return values if vwap is None else {**values, "vwap": float(Fraction(vwap, 10**SCALE))}
