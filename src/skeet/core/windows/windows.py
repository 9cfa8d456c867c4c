"""The operator: events of keyed streams in, results of closed windows and late events out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skeet.core.errors import InvalidInput
from skeet.core.values import LateReason
from skeet.core.windows.aligned import Aligned
from skeet.core.windows.counted import ByCount
from skeet.core.windows.folding import Folding
from skeet.core.windows.folds import Fold
from skeet.core.windows.ordered import Ordered
from skeet.core.windows.outcome import NOTHING, Closed, Key, Late, Outcome, Span
from skeet.core.windows.rules import Hopping, Rule, Session, Sliding, Tumbling
from skeet.core.windows.state import WindowState
from skeet.core.windows.watermark import UNSEEN, Watermark

ENDED = 1 << 63
"""After the last event."""


class Windows:
    """What is computed over which windows. Holds no state: one may serve any number of them.

    A window closes when the watermark has passed its end by the grace, and exactly once. Until then events of any order
    count in it; from then on an event that would belong to it is late: it is put out, and changes nothing. So what was
    published is the fold of all events that were not late, in whatever order they came.

    Parameters
    ----------
    rule
        which windows an event belongs to.
    folds
        what is computed over each, by name.
    grace_ns
        how far behind the latest event another one may be and still count, in ns.
    idle_after_ns
        how long a partition may be silent, in the log's time, before it holds nobody up; None: for ever.

    Raises
    ------
    InvalidInput
        the grace is negative, the idle time not positive, or there is no fold.
    """

    def __init__(
        self, rule: Rule, folds: Mapping[str, Fold[Any, Any]], *, grace_ns: int = 0, idle_after_ns: int | None = None
    ) -> None:
        if grace_ns < 0:
            raise InvalidInput(f"grace_ns is {grace_ns}; expected 0 (nothing may be late) or more nanoseconds")
        if idle_after_ns is not None and idle_after_ns <= 0:
            raise InvalidInput(f"idle_after_ns is {idle_after_ns}; expected a positive number of ns, or None for never")
        self.rule = rule
        self.folding = Folding(folds)
        self.grace_ns = grace_ns
        self.idle_after_ns = idle_after_ns
        self._counted: ByCount | None = None
        if isinstance(rule, Tumbling | Hopping):
            self.timed: Aligned | Ordered = Aligned(rule, self.folding)
        elif isinstance(rule, Sliding | Session):
            self.timed = Ordered(rule, self.folding)
        else:
            self._counted = ByCount(rule, self.folding)

    def initial(self, partitions: Iterable[int] = ()) -> WindowState:
        """Before the first event. The watermark waits for each of these partitions, and for every one that appears."""
        return WindowState(watermark=Watermark.over(partitions))

    def add(
        self, state: WindowState, key: Key, ts: int, value: Any, *, partition: int = 0, now_ns: int | None = None
    ) -> Outcome:
        """One event: the windows that it closes, and itself if it is late.

        Parameters
        ----------
        key
            what windows are kept apart by, such as the instrument.
        ts
            the event's time in ns.
        value
            its fields by name, or whatever the folds take.
        partition
            where it came from: the watermark is the least over the partitions.
        now_ns
            the log's time of the record: it drives the idle rule, and no event moves the watermark beyond it.
        """
        mark = state.watermark.observe(partition, ts, now_ns, self.idle_after_ns)
        if self._counted is not None:
            return Outcome(self._counted.add(state, key, ts, value))
        bound = self.bound(state)
        closed = self.timed.close(state, bound)
        missed, taken = self.timed.add(state, key, ts, value, bound)
        if not missed:
            return Outcome(closed) if closed else NOTHING
        return Outcome(closed, (late(state, key, ts, value, missed, taken, mark),))

    def tick(self, state: WindowState, now_ns: int) -> Outcome:
        """Time has come so far although nothing came: what closes because partitions are idle."""
        state.watermark.tick(now_ns, self.idle_after_ns)
        return Outcome(self._close(state, self.bound(state)))

    def forget(self, state: WindowState, partition: int) -> None:
        """A partition is somebody else's now: it holds the watermark up no longer."""
        state.watermark.forget(partition)

    def finish(self, state: WindowState) -> Outcome:
        """The streams have ended: everything closes, but for windows by count that are not full. What comes now is late."""
        closed = self._close(state, ENDED)
        state.watermark.value = ENDED + self.grace_ns
        return Outcome(closed)

    def bound(self, state: WindowState) -> int:
        """The time up to which everything is closed: the watermark less the grace."""
        value = state.watermark.value
        return UNSEEN if value == UNSEEN else value - self.grace_ns

    def _close(self, state: WindowState, bound: int) -> tuple[Closed, ...]:
        return () if self._counted is not None else self.timed.close(state, bound)


def late(
    state: WindowState, key: Key, ts: int, value: Any, missed: tuple[Span, ...], taken: int, watermark: int
) -> Late:
    """The event for the side output, counted."""
    state.late_events += 1
    state.missed_windows += len(missed)
    reason = LateReason.SOME_WINDOWS_CLOSED if taken else LateReason.WINDOW_CLOSED
    return Late(key=key, ts=ts, value=value, reason=reason, missed=missed, watermark=watermark)
