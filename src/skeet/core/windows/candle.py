"""Candles: open, high, low, close and volume of a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from skeet.core.windows.folds import Value


class Candle(NamedTuple):
    """Open, high, low, close, volume; in the scales of price and size."""

    open: int
    high: int
    low: int
    close: int
    volume: int


@dataclass(frozen=True, slots=True)
class Ohlcv:
    """A candle of a price and a size."""

    price: str
    size: str

    def init(self) -> tuple[Any, ...] | None:
        return None

    def add(self, accumulator: tuple[Any, ...] | None, ts: int, value: Value) -> tuple[Any, ...]:
        price = value[self.price]
        return self.merge(accumulator, ((ts, price), price, price, (ts, price), value[self.size]))

    def merge(self, earlier: tuple[Any, ...] | None, later: tuple[Any, ...]) -> tuple[Any, ...]:
        if earlier is None:
            return later
        return (
            later[0] if later[0][0] < earlier[0][0] else earlier[0],
            max(earlier[1], later[1]),
            min(earlier[2], later[2]),
            later[3] if later[3][0] >= earlier[3][0] else earlier[3],
            earlier[4] + later[4],
        )

    def result(self, accumulator: tuple[Any, ...]) -> Candle:
        opened, high, low, closed, volume = accumulator
        return Candle(open=opened[1], high=high, low=low, close=closed[1], volume=volume)
