"""Several folds at once, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skeet.core.errors import InvalidInput
from skeet.core.windows.folds import Fold
from skeet.core.windows.outcome import Closed, Key, Span
from skeet.core.windows.state import Accumulators


class Folding:
    """Named folds over the same events; accumulators are lists in the names' order.

    Raises
    ------
    InvalidInput
        there is none.
    """

    def __init__(self, folds: Mapping[str, Fold[Any, Any]]) -> None:
        if not folds:
            raise InvalidInput('folds is empty; expected at least one by name, such as {"volume": Sum("size")}')
        self.names = tuple(folds)
        self.folds = tuple(folds.values())

    def init(self) -> Accumulators:
        """Of no events."""
        return [fold.init() for fold in self.folds]

    def add(self, accumulators: Accumulators, ts: int, value: Any) -> None:
        """One more event, in place."""
        for number, fold in enumerate(self.folds):
            accumulators[number] = fold.add(accumulators[number], ts, value)

    def of(self, events: Iterable[tuple[int, Any]]) -> Accumulators:
        """Of these events, in their order."""
        accumulators = self.init()
        for ts, value in events:
            self.add(accumulators, ts, value)
        return accumulators

    def closed(self, key: Key, span: Span, accumulators: Accumulators) -> Closed:
        """The window as it is published."""
        results = {
            name: fold.result(each) for name, fold, each in zip(self.names, self.folds, accumulators, strict=True)
        }
        return Closed(key=key, span=span, results=results)


def in_order(closed: list[Closed]) -> tuple[Closed, ...]:
    """By end, start and key; equal ones stay in their order."""
    closed.sort(key=lambda each: (each.span.end, each.span.start, each.key))
    return tuple(closed)
