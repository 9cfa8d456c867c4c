"""What the platform says about itself (``platform.events.v1``, one partition): stalls, restarts, disks. No decision reads
it; people and alarms do."""

from __future__ import annotations

from dataclasses import dataclass

from skeet.core.record import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStalled(Event):
    """A consumer group was assigned a partition and stood still at ``position`` while its end was ``end``."""

    process: str
    group: str
    topic: str
    partition: int
    position: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLagged(Event):
    """A group was behind by more records than its limit (``lag > limit``), or is below it again (``lag <= limit``)."""

    group: str
    lag: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRestarted(Event):
    """A process was started again: after it ended by itself (``how``), or because something outside asked for it."""

    process: str
    how: str
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestStopped(Event):
    """Feeds stopped writing market data so that account facts keep their space. Sizes in bytes."""

    used: int
    budget: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResumed(Event):
    """Space returned, and market data is written again. What was missed is a gap like any other."""

    used: int
    budget: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSealed(Event):
    """A range of a market topic was written to the archive and verified there; the topic may expire it now."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    records: int
    checksum: str
    path: str
