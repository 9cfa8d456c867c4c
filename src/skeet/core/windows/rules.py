"""Which windows an event belongs to. A window is ``[start, end)`` in nanoseconds, or in an instrument's own count of events.

=====================  =====================================================================================
Tumbling               one after the other, each event in one
Hopping                one begins every step; an event is in each that spans it
Sliding                one for each event: the last ``size_ns`` up to and including it
Session                a run of events less than ``gap_ns`` apart, cut when it is ``max_ns`` long
Count…                 the same by number of events of a key, in the order in which they came
=====================  =====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from skeet.core.errors import InvalidInput

MAX_OVERLAP = 1_000
"""Windows that one event may be in: each costs an update, and a row when it closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tumbling:
    """``[k × size_ns + offset_ns, (k + 1) × size_ns + offset_ns)`` for every integer ``k``; time 0 is the epoch.

    Raises
    ------
    InvalidInput
        the size is not positive; the message names field, value and remedy.
    """

    size_ns: int
    offset_ns: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "size_ns", "nanoseconds, such as 250_000_000")

    @property
    def step_ns(self) -> int:
        """From one beginning to the next."""
        return self.size_ns

    def starts(self, ts: int) -> range:
        """Beginnings of the windows that hold this time, in order."""
        return _starts(ts, self.size_ns, self.size_ns, self.offset_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hopping:
    """``[k × step_ns + offset_ns, k × step_ns + offset_ns + size_ns)``: one begins every step and they overlap.

    Raises
    ------
    InvalidInput
        size or step is not positive, a step larger than the size would leave events in no window, or an event would be in
        more than ``MAX_OVERLAP`` windows.
    """

    size_ns: int
    step_ns: int
    offset_ns: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "size_ns", "nanoseconds, such as 250_000_000")
        require_step(self, "step_ns", self.step_ns, "size_ns", self.size_ns, "nanoseconds")

    def starts(self, ts: int) -> range:
        """Beginnings of the windows that hold this time, in order."""
        return _starts(ts, self.size_ns, self.step_ns, self.offset_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding:
    """For each event the ``size_ns`` up to and including it: ``[ts + 1 - size_ns, ts + 1)``.

    Its result comes once nothing older can come any more. Costs as many updates as events are in the window.

    Raises
    ------
    InvalidInput
        the size is not positive.
    """

    size_ns: int

    def __post_init__(self) -> None:
        require_positive(self, "size_ns", "nanoseconds, such as 250_000_000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Events of a key less than ``gap_ns`` apart. An event that bridges two makes them one.

    The window is ``[first, last + gap_ns)``. With ``max_ns`` one that gets so long ends at ``first + max_ns``, and the next
    event begins another.

    Raises
    ------
    InvalidInput
        the gap is not positive, or the longest length is shorter than the gap.
    """

    gap_ns: int
    max_ns: int | None = None

    def __post_init__(self) -> None:
        require_positive(self, "gap_ns", "nanoseconds of silence, such as 5_000_000_000")
        if self.max_ns is not None and self.max_ns < self.gap_ns:
            raise InvalidInput(
                f"Session.max_ns is {self.max_ns}, shorter than gap_ns {self.gap_ns}: "
                "expected at least the gap, or None for no limit"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CountTumbling:
    """Every ``size`` events of a key, each in one window. ``InvalidInput`` when the size is not positive."""

    size: int

    def __post_init__(self) -> None:
        require_positive(self, "size", "events, such as 100")

    @property
    def step(self) -> int:
        """From one beginning to the next."""
        return self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class CountHopping:
    """The last ``size`` events of a key, every ``step`` events. ``InvalidInput`` as for :class:`Hopping`."""

    size: int
    step: int

    def __post_init__(self) -> None:
        require_positive(self, "size", "events, such as 100")
        require_step(self, "step", self.step, "size", self.size, "events")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSliding:
    """For each event of a key the last ``size`` up to and including it; fewer at the beginning.

    ``InvalidInput`` when the size is not positive.
    """

    size: int

    def __post_init__(self) -> None:
        require_positive(self, "size", "events, such as 100")


AlignedRule: TypeAlias = Tumbling | Hopping
"""Windows that begin at the same times for every key."""
OrderedRule: TypeAlias = Sliding | Session
"""Windows that depend on a key's own events."""
CountRule: TypeAlias = CountTumbling | CountHopping | CountSliding
Rule: TypeAlias = AlignedRule | OrderedRule | CountRule


def _starts(ts: int, size: int, step: int, offset: int) -> range:
    last = ts - (ts - offset) % step
    earlier = (size - 1 - (ts - last)) // step
    return range(last - earlier * step, last + 1, step)


def require_positive(rule: object, field: str, expected: str) -> None:
    """InvalidInput when the field is not a positive integer."""
    value = getattr(rule, field)
    if not isinstance(value, int) or value <= 0:
        raise InvalidInput(f"{type(rule).__name__}.{field} is {value!r}; expected a positive number of {expected}")


def require_step(rule: object, field: str, step: int, size_field: str, size: int, unit: str) -> None:
    """InvalidInput when the step is not positive, leaves gaps, or makes too many windows of one event."""
    require_positive(rule, field, f"{unit}, at most {size_field}")
    name = type(rule).__name__
    if step > size:
        raise InvalidInput(
            f"{name}.{field} is {step}, larger than {size_field} {size}: events between two windows would be in none; "
            f"expected at most {size_field}"
        )
    if size > step * MAX_OVERLAP:
        raise InvalidInput(
            f"{name}.{field} is {step} with {size_field} {size}: each event would be in {-(-size // step):,} windows; "
            f"expected at most {MAX_OVERLAP:,}, so a step of {-(-size // MAX_OVERLAP)} or more, or a Sliding window"
        )
