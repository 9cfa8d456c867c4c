"""Folds over groups of rows at once: for each group the accumulator that adding its rows one by one would make.

Rows are given in groups, those of a group in order of time and, at equal times, of arrival. Sums are exact: a product that
needs more than 64 bits is summed in slices of its bits and put together as Python integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from skeet.core.windows import Count, First, Last, Max, Mean, Min, Ohlcv, Sum, WeightedMean
from skeet.schemas.columns.columns import Longs

WORD_BITS = 63
"""Of an int64, without its sign."""
LEAST_SLICE_BITS = 8
"""With narrower slices it is quicker to multiply Python integers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """``starts`` is each group's first row, ``ends`` the one behind its last; none is empty. Columns hold all rows."""

    ts: Longs
    values: Mapping[str, Longs]
    starts: Longs
    ends: Longs

    @property
    def counts(self) -> Longs:
        """Rows of each group."""
        return self.ends - self.starts


@runtime_checkable
class PartsFold(Protocol):
    """A fold of one's own that knows how to fold groups at once."""

    def parts(self, groups: Groups) -> list[Any]:
        """The accumulator of each group."""
        ...


BUILT_IN = (Count, Sum, Min, Max, First, Last, Mean, WeightedMean, Ohlcv)


def has_parts(fold: object) -> bool:
    """Whether :func:`parts` takes it."""
    return isinstance(fold, (*BUILT_IN, PartsFold))


def parts(fold: Any, groups: Groups) -> list[Any]:
    """The accumulator of each group, as plain Python values."""
    values, starts, ends = groups.values, groups.starts, groups.ends
    match fold:
        case Count():
            return _list(groups.counts)
        case Sum(field):
            return sums(values[field], groups)
        case Min(field):
            return _list(np.minimum.reduceat(values[field], starts))
        case Max(field):
            return _list(np.maximum.reduceat(values[field], starts))
        case First(field):
            return _at(groups.ts, values[field], starts)
        case Last(field):
            return _at(groups.ts, values[field], ends - 1)
        case Mean(field):
            return _pairs(sums(values[field], groups), _list(groups.counts))
        case WeightedMean(field, weight):
            return _pairs(product_sums(values[field], values[weight], groups), sums(values[weight], groups))
        case Ohlcv(price, size):
            prices = values[price]
            high, low = np.maximum.reduceat(prices, starts), np.minimum.reduceat(prices, starts)
            opened, closed = _at(groups.ts, prices, starts), _at(groups.ts, prices, ends - 1)
            return list(zip(opened, _list(high), _list(low), closed, sums(values[size], groups), strict=True))
        case _:
            made: list[Any] = fold.parts(groups)
            return made


def sums(column: Longs, groups: Groups) -> list[int]:
    """Σ of each group, exact."""
    return product_sums(column, None, groups)


def product_sums(column: Longs, weights: Longs | None, groups: Groups) -> list[int]:
    """Σ column × weight of each group (without weights: Σ column), exact."""
    taken = int(groups.counts.max()).bit_length() + (_bits(weights) if weights is not None else 0)
    width = WORD_BITS - taken
    if width < LEAST_SLICE_BITS:
        exact = column.astype(object) * (weights if weights is None else weights.astype(object))
        return _list(np.add.reduceat(exact, groups.starts))
    totals: list[int] = []
    shift, rest = 0, column
    while True:
        last = _bits(rest) <= width
        slice_ = rest if last else rest & ((1 << width) - 1)
        found = _list(np.add.reduceat(slice_ if weights is None else slice_ * weights, groups.starts))
        totals = [t + (f << shift) for t, f in zip(totals, found, strict=True)] if shift else found
        if last:
            return totals
        rest, shift = rest >> width, shift + width


def _bits(column: Longs) -> int:
    return max(int(column.max()).bit_length(), int(column.min()).bit_length())


def _at(ts: Longs, column: Longs, rows: Longs) -> list[tuple[int, int]]:
    return _pairs(_list(ts[rows]), _list(column[rows]))


def _pairs(left: list[int], right: list[int]) -> list[tuple[int, int]]:
    return list(zip(left, right, strict=True))


def _list(column: Any) -> list[int]:
    made: list[int] = column.tolist()
    return made
