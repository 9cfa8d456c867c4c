"""Aggregations: how the events of a window become one result.

Values are integers (mantissas of one scale for each key), so that sums are exact and their order does not matter. Where a
result is a quotient it is a ``Fraction``; :func:`decimal_of` rounds it once, where the caller says. First and last are by
event time; of equal times the earlier arrival is first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol, TypeVar, runtime_checkable

from skeet.core.values import divide, from_mantissa

A = TypeVar("A")
R = TypeVar("R", covariant=True)
Value = Mapping[str, int]
"""An event's fields by name; a fold of one's own may take anything else."""


class Fold(Protocol[A, R]):
    """An aggregation of one's own: a frozen object whose methods are pure.

    An accumulator is a plain value (numbers, texts, lists, dataclasses), so that the state can be written down, and is never
    changed in place: ``add`` returns the next one. Time windows that tumble or hop add events in the order in which they
    came; whoever wants results that do not depend on it looks at ``ts``. All others add in the order of event time.
    """

    def init(self) -> A:
        """The accumulator of no events."""
        ...

    def add(self, accumulator: A, ts: int, value: Any) -> A:
        """One more event."""
        ...

    def result(self, accumulator: A) -> R:
        """What is published of a window; it holds at least one event."""
        ...


@runtime_checkable
class Mergeable(Protocol):
    """A fold that can join two parts of a window; columns need it, for parts are folded at once."""

    def merge(self, earlier: Any, later: Any) -> Any:
        """The accumulator of both; ``earlier`` holds the events that came first."""
        ...


@dataclass(frozen=True, slots=True)
class Count:
    """Number of events."""

    def init(self) -> int:
        return 0

    def add(self, accumulator: int, ts: int, value: Value) -> int:
        return accumulator + 1

    def merge(self, earlier: int, later: int) -> int:
        return earlier + later

    def result(self, accumulator: int) -> int:
        return accumulator


@dataclass(frozen=True, slots=True)
class Sum:
    """Sum of a field."""

    field: str

    def init(self) -> int:
        return 0

    def add(self, accumulator: int, ts: int, value: Value) -> int:
        return accumulator + value[self.field]

    def merge(self, earlier: int, later: int) -> int:
        return earlier + later

    def result(self, accumulator: int) -> int:
        return accumulator


@dataclass(frozen=True, slots=True)
class Min:
    """Smallest value of a field."""

    field: str

    def init(self) -> int | None:
        return None

    def add(self, accumulator: int | None, ts: int, value: Value) -> int:
        return self.merge(accumulator, value[self.field])

    def merge(self, earlier: int | None, later: int) -> int:
        return later if earlier is None or later < earlier else earlier

    def result(self, accumulator: int) -> int:
        return accumulator


@dataclass(frozen=True, slots=True)
class Max:
    """Largest value of a field."""

    field: str

    def init(self) -> int | None:
        return None

    def add(self, accumulator: int | None, ts: int, value: Value) -> int:
        return self.merge(accumulator, value[self.field])

    def merge(self, earlier: int | None, later: int) -> int:
        return later if earlier is None or later > earlier else earlier

    def result(self, accumulator: int) -> int:
        return accumulator


At = tuple[int, int]
"""A time and the value then."""


@dataclass(frozen=True, slots=True)
class First:
    """The field of the earliest event."""

    field: str

    def init(self) -> At | None:
        return None

    def add(self, accumulator: At | None, ts: int, value: Value) -> At:
        return self.merge(accumulator, (ts, value[self.field]))

    def merge(self, earlier: At | None, later: At) -> At:
        return later if earlier is None or later[0] < earlier[0] else earlier

    def result(self, accumulator: At) -> int:
        return accumulator[1]


@dataclass(frozen=True, slots=True)
class Last:
    """The field of the latest event."""

    field: str

    def init(self) -> At | None:
        return None

    def add(self, accumulator: At | None, ts: int, value: Value) -> At:
        return self.merge(accumulator, (ts, value[self.field]))

    def merge(self, earlier: At | None, later: At) -> At:
        return later if earlier is None or later[0] >= earlier[0] else earlier

    def result(self, accumulator: At) -> int:
        return accumulator[1]


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """Σ value × weight / Σ weight, exact: the volume-weighted average price of prices and sizes.

    In units of the value's scale, whatever the weight's. None when all weights are zero.
    """

    field: str
    weight: str

    def init(self) -> tuple[int, int]:
        return 0, 0

    def add(self, accumulator: tuple[int, int], ts: int, value: Value) -> tuple[int, int]:
        weight = value[self.weight]
        return accumulator[0] + value[self.field] * weight, accumulator[1] + weight

    def merge(self, earlier: tuple[int, int], later: tuple[int, int]) -> tuple[int, int]:
        return earlier[0] + later[0], earlier[1] + later[1]

    def result(self, accumulator: tuple[int, int]) -> Fraction | None:
        total, weight = accumulator
        return Fraction(total, weight) if weight else None


@dataclass(frozen=True, slots=True)
class Mean:
    """Σ value / number of events, exact."""

    field: str

    def init(self) -> tuple[int, int]:
        return 0, 0

    def add(self, accumulator: tuple[int, int], ts: int, value: Value) -> tuple[int, int]:
        return accumulator[0] + value[self.field], accumulator[1] + 1

    def merge(self, earlier: tuple[int, int], later: tuple[int, int]) -> tuple[int, int]:
        return earlier[0] + later[0], earlier[1] + later[1]

    def result(self, accumulator: tuple[int, int]) -> Fraction:
        return Fraction(*accumulator)


def decimal_of(quotient: Fraction, scale: int, places: int) -> Decimal:
    """A mean of mantissas of this scale as a decimal number, rounded half-even to so many decimal places."""
    return divide(from_mantissa(quotient.numerator, scale), Decimal(quotient.denominator), places)
