"""1-minute bars from trades, and longer ones from 1-minute ones. A minute without trades has a flat bar, as on Binance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from skeet.venues.sim.tape import RecordFile

MINUTE_MS = 60_000
INTERVALS_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "2h": 120 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
    "6h": 360 * MINUTE_MS,
    "8h": 480 * MINUTE_MS,
    "12h": 720 * MINUTE_MS,
    "1d": 1_440 * MINUTE_MS,
    "3d": 4_320 * MINUTE_MS,
    "1w": 10_080 * MINUTE_MS,
}


class Bar(NamedTuple):
    """Prices in ticks, volumes in lots, values in price × lots. `taker_*`: where the buyer was the taker."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    value: int
    trades: int
    taker_volume: int
    taker_value: int

    def with_trade(self, price: int, quantity: int, *, buyer_took: bool) -> Bar:
        """The bar after one more trade."""
        value = price * quantity
        return Bar(
            self.open_ms,
            self.open if self.trades else price,
            max(self.high, price) if self.trades else price,
            min(self.low, price) if self.trades else price,
            price,
            self.volume + quantity,
            self.value + value,
            self.trades + 1,
            self.taker_volume + (quantity if buyer_took else 0),
            self.taker_value + (value if buyer_took else 0),
        )


def flat_bar(open_ms: int, price: int) -> Bar:
    """A minute in which nothing traded."""
    return Bar(open_ms, price, price, price, price, 0, 0, 0, 0, 0)


class BarSeries:
    """Closed 1-minute bars of one symbol on file, and the open one."""

    def __init__(self, directory: Path, symbol: str) -> None:
        self.file = RecordFile(directory / f"bars-{symbol}.bin", len(Bar._fields))
        self.open: Bar | None = None

    def add(self, ts_ns: int, price: int, quantity: int, *, buyer_took: bool) -> None:
        """Fold one trade in; earlier minutes are closed, silent ones filled."""
        minute = ts_ns // 60_000_000_000 * MINUTE_MS
        self.roll(minute, price)
        assert self.open is not None
        self.open = self.open.with_trade(price, quantity, buyer_took=buyer_took)

    def roll(self, minute_ms: int, price: int) -> None:
        """Close what is older than `minute_ms`. `price` opens the very first bar."""
        if self.open is None:
            self.open = flat_bar(minute_ms, price)
        while self.open.open_ms < minute_ms:
            self.file.append([self.open])
            self.open = flat_bar(self.open.open_ms + MINUTE_MS, self.open.close)

    def since(self, start_ms: int, stop_ms: int) -> list[Bar]:
        """1-minute bars that open in [start, stop), the open one included."""
        first = self.file.first_at_least(lambda row: row[0], start_ms)
        count = max(0, (stop_ms - start_ms + MINUTE_MS - 1) // MINUTE_MS)
        bars = [Bar(*row) for row in self.file.read(first, first + count)]
        if self.open is not None:
            bars.append(self.open)
        return [bar for bar in bars if start_ms <= bar.open_ms < stop_ms]

    def first_ms(self) -> int:
        """When the oldest bar opens; 0 if there is none."""
        rows = self.file.read(self.file.base, self.file.base + 1)
        return rows[0][0] if rows else (self.open.open_ms if self.open else 0)


def regroup(bars: Iterable[Bar], interval_ms: int) -> list[Bar]:
    """Longer bars, aligned to the epoch."""
    groups: dict[int, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.open_ms // interval_ms * interval_ms, []).append(bar)
    return [combine(start, group) for start, group in groups.items()]


def combine(open_ms: int, bars: Sequence[Bar]) -> Bar:
    """One bar out of several neighbours."""
    return Bar(
        open_ms,
        bars[0].open,
        max(bar.high for bar in bars),
        min(bar.low for bar in bars),
        bars[-1].close,
        sum(bar.volume for bar in bars),
        sum(bar.value for bar in bars),
        sum(bar.trades for bar in bars),
        sum(bar.taker_volume for bar in bars),
        sum(bar.taker_value for bar in bars),
    )
