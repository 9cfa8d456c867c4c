"""Signals: EMA cross and RSI on closed bars, order-book imbalance on quotes.

Indicators are TA-Lib's streaming ones, one handle per series, opened once enough bars came. Values are doubles and never
amounts. A signal names the record that completed it; the same records give the same signals with the same ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import talib
from talib import stream

from skeet.config import SignalSettings
from skeet.core.market import Bar, Quote, Signal
from skeet.core.record import MarketEvent, Out, Record
from skeet.core.values import NS_PER_MS
from skeet.streams.topics import SIGNALS

VERSION = "1"


class Indicator:
    """One TA-Lib streaming indicator over closing prices; ``value`` is None until it has enough bars."""

    def __init__(self, opened: Any, period: int) -> None:
        self._open = opened
        self._period = period
        self._history: list[float] = []
        self._handle: Any = None
        self.value: float | None = None

    def update(self, price: float) -> None:
        """Take one closed bar in."""
        if self._handle is not None:
            self.value = float(self._handle.update(price))
            return
        self._history.append(price)
        try:
            self._handle = self._open(np.array(self._history), timeperiod=self._period)
        except talib.InsufficientHistory:
            return
        self.value = float(self._handle.value)
        self._history.clear()


@dataclass(slots=True)
class BarSeries:
    """The indicators of one instrument and interval."""

    emas: dict[int, Indicator]
    rsis: dict[int, Indicator]
    ts_close: int = 0


@dataclass(slots=True)
class BarSignalsState:
    """All series, by instrument and interval."""

    series: dict[tuple[str, str], BarSeries] = field(default_factory=dict)


class BarSignals:
    """The machine for signals on bars. Bars of fetched history feed the indicators; only live bars make signals."""

    def __init__(self, settings: SignalSettings) -> None:
        self._pairs = settings.ema_pairs
        self._rsis = settings.rsi_periods

    @property
    def version(self) -> str:
        """Changes with the rules and their periods."""
        return f"bar-signals-{VERSION}-{self._pairs}-{self._rsis}"

    def initial(self) -> BarSignalsState:
        """No series yet."""
        return BarSignalsState()

    def step(self, state: BarSignalsState, record: Record[Any]) -> tuple[BarSignalsState, tuple[Out[Any], ...]]:
        """The signals that a closed bar completes. A bar that is not newer than the last one is not counted again."""
        bar = record.event
        if not isinstance(bar, Bar):
            return state, ()
        key = (bar.instrument_id, bar.interval)
        series = state.series.get(key)
        if series is None:
            series = state.series[key] = self._series()
        if bar.ts_close <= series.ts_close:
            return state, ()
        series.ts_close = bar.ts_close
        price = float(bar.close)
        for indicator in (*series.emas.values(), *series.rsis.values()):
            indicator.update(price)
        return state, tuple(self._signals(series, bar, record)) if bar.cause_at else ()

    def _series(self) -> BarSeries:
        periods = sorted({period for pair in self._pairs for period in pair})
        return BarSeries(
            emas={period: Indicator(stream.EMA, period) for period in periods},
            rsis={period: Indicator(stream.RSI, period) for period in self._rsis},
        )

    def _signals(self, series: BarSeries, bar: Bar, record: Record[Any]) -> Iterator[Out[Any]]:
        for fast, slow in self._pairs:
            fast_value, slow_value = series.emas[fast].value, series.emas[slow].value
            if fast_value is not None and slow_value is not None:
                values = {"fast": fast_value, "slow": slow_value}
                parameters = {"fast": str(fast), "slow": str(slow)}
                yield _signal("ema_cross", bar.interval, parameters, values, bar, record)
        for period, indicator in series.rsis.items():
            if indicator.value is not None:
                yield _signal("rsi", bar.interval, {"period": str(period)}, {"rsi": indicator.value}, bar, record)


class ImbalanceSignals:
    """Order-book imbalance at the touch: (bid size - ask size) / (bid size + ask size), conflated.

    From -1 (all at the ask) to 1 (all at the bid); published at once when the interval since the last one has passed.
    """

    version = f"book-imbalance-{VERSION}"

    def __init__(self, settings: SignalSettings) -> None:
        self.interval_ns = settings.imbalance_interval_ms * NS_PER_MS

    def initial(self) -> dict[str, int]:
        """When each instrument's last one was published, in the log's time."""
        return {}

    def step(self, state: dict[str, int], record: Record[Any]) -> tuple[dict[str, int], tuple[Out[Any], ...]]:
        """The imbalance of a quote, unless one was published just before."""
        quote = record.event
        if not isinstance(quote, Quote) or record.log_ns - state.get(quote.instrument_id, 0) < self.interval_ns:
            return state, ()
        outs = self.signal(record)
        if outs:
            state[quote.instrument_id] = record.log_ns
        return state, outs

    def signal(self, record: Record[Quote]) -> tuple[Out[Any], ...]:
        """The imbalance of a quote; none when both sizes make nothing together."""
        quote = record.event
        total = quote.bid_size_mantissa + quote.ask_size_mantissa
        if not total:
            return ()
        values = {"imbalance": (quote.bid_size_mantissa - quote.ask_size_mantissa) / total}
        return (_signal("book_imbalance", "", {}, values, quote, record),)


def _signal(
    name: str,
    interval: str,
    parameters: dict[str, str],
    values: dict[str, float],
    cause: MarketEvent,
    record: Record[Any],
) -> Out[Any]:
    signal = Signal(
        instrument_id=cause.instrument_id,
        ts_event=cause.ts_event,
        ts_init=cause.ts_init,
        name=name,
        version=VERSION,
        interval=interval,
        parameters=parameters,
        values=values,
        causation_id=record.event_id,
        cause_at=str(record.at),
    )
    return Out(topic=SIGNALS.name, key=cause.instrument_id, event=signal)
