"""How far event time has come: the least over the partitions that still speak.

A partition's own time is the latest event it brought, never beyond the log's time of that record where this is given: one
event from the future does not make all others late. The merged watermark never moves back.

A partition is idle when the log's time, or whatever else ticks, moved ``idle_after_ns`` beyond its last record; it then holds
nobody up. When all are idle, event time goes on at the pace of the ticks. There is no wall clock: the same records and ticks
in the same order give the same watermarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

UNSEEN = -(1 << 63)
"""Before the first event: earlier than anything."""


@dataclass(slots=True)
class PartitionTime:
    """``ts`` is the partition's own event time, ``active`` the ticking time at its last record."""

    ts: int = UNSEEN
    active: int = UNSEEN


@dataclass(slots=True)
class Watermark:
    """The merged watermark ``value``, and what it is made of. ``now`` is the latest ticking time. Updated in place."""

    partitions: dict[int, PartitionTime] = field(default_factory=dict)
    now: int = UNSEEN
    value: int = UNSEEN

    @classmethod
    def over(cls, partitions: Iterable[int]) -> Watermark:
        """One that waits for each of these partitions to bring something, or to become idle."""
        return cls({partition: PartitionTime() for partition in partitions})

    def observe(self, partition: int, ts: int, now_ns: int | None, idle_after_ns: int | None) -> int:
        """Take a record's times; returns the watermark. Without the log's time, event time is what ticks."""
        found = self.partitions.get(partition)
        if found is None:
            found = self.partitions[partition] = PartitionTime()
        self._ticked(ts if now_ns is None else now_ns)
        found.active = self.now
        found.ts = max(found.ts, ts if now_ns is None else min(ts, now_ns))
        return self._advance(idle_after_ns)

    def tick(self, now_ns: int, idle_after_ns: int | None) -> int:
        """Time has come so far, although no record came; returns the watermark."""
        self._ticked(now_ns)
        return self._advance(idle_after_ns)

    def forget(self, partition: int) -> None:
        """Nothing more is expected from this partition: somebody else reads it, or it has ended."""
        self.partitions.pop(partition, None)

    def _ticked(self, now: int) -> None:
        if self.now == UNSEEN:
            for each in self.partitions.values():
                each.active = now
        self.now = max(self.now, now)

    def _advance(self, idle_after_ns: int | None) -> int:
        self.value = max(self.value, self._least(idle_after_ns))
        return self.value

    def _least(self, idle_after_ns: int | None) -> int:
        if len(self.partitions) == 1 and idle_after_ns is None:
            return next(iter(self.partitions.values())).ts
        live = [p.ts for p in self.partitions.values() if idle_after_ns is None or self.now - p.active < idle_after_ns]
        if live or idle_after_ns is None:
            return min(live, default=UNSEEN)
        seen = [p for p in self.partitions.values() if p.ts != UNSEEN]
        return max((p.ts + self.now - p.active - idle_after_ns for p in seen), default=UNSEEN)
