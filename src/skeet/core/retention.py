"""When market ingest must stand still, and which sealed ranges may leave the log. Pure: sizes in, decisions out.

The budget bounds what one installation keeps on one machine. From the fractions below, in this order as it fills: market
records are sealed into the archive, sealed ones leave the log (oldest first), and market ingest stops, so that the rest
of the budget belongs to the facts about accounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SEAL_PERCENT = 50
"""Sealing begins here: earlier it would only keep everything twice."""
EXPIRE_PERCENT = 80
EXPIRE_TO_PERCENT = 75
"""Records leave the log from the first on until the second is reached, so that it is not done a segment at a time."""
STOP_PERCENT = 90
RESUME_PERCENT = 85
"""Ingest stops at the first and resumes below the second: between them it stays as it is, so that it does not flap."""
RESUME_RESERVE_PERCENT = 150
"""Ingest that stopped because a file system was nearly full resumes when so much of the reserve is free again."""

Place = tuple[str, int]
"""Topic without prefix, and partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A directory that a part writes to, and the bytes free on its file system."""

    name: str
    path: str
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """One look at a machine's disks, in bytes.

    ``reserve`` is what must stay free on every volume. ``leaving`` is the part of ``used`` whose records left the log
    already: the broker gives it back later, a file at a time, so it must not be asked for twice.
    """

    used: int
    budget: int
    reserve: int
    leaving: int = 0
    volumes: tuple[Volume, ...] = ()


def stop_reason(use: DiskUse, *, stopped: bool) -> str:
    """Why market ingest must stand still now; empty when it may run. ``stopped`` is whether it stands still already."""
    reserve = use.reserve * RESUME_RESERVE_PERCENT // 100 if stopped else use.reserve
    for volume in use.volumes:
        if volume.free < reserve:
            return f"disk nearly full: {volume.name} at {volume.path}, free {sized(volume.free)} of {sized(reserve)}"
    percent = RESUME_PERCENT if stopped else STOP_PERCENT
    if use.used * 100 >= use.budget * percent:
        return f"{sized(use.used)} used, {percent} % of the disk budget of {sized(use.budget)} or more"
    return ""


def sealing_is_due(use: DiskUse) -> bool:
    """Whether market records are to be written to the archive now."""
    return use.used * 100 >= use.budget * SEAL_PERCENT or bool(stop_reason(use, stopped=True))


def excess(use: DiskUse) -> int:
    """How many bytes of records should leave the log now, besides those that are leaving."""
    short = max((use.reserve * RESUME_RESERVE_PERCENT // 100 - volume.free for volume in use.volumes), default=0)
    staying = use.used - use.leaving
    over = staying - use.budget * EXPIRE_TO_PERCENT // 100 if staying * 100 >= use.budget * EXPIRE_PERCENT else 0
    return max(0, over, short - use.leaving)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRange:
    """A range of one partition that the archive holds.

    ``verified``: read back, and equal to ClickHouse where the topic is history. ``size`` is what it takes in the log, in
    bytes, as well as that is known. ``last_ms`` is the append time of its newest record.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    last_ms: int
    size: int
    verified: bool


def expirable(
    ranges: Iterable[SealedRange], starts: Mapping[Place, int], kept_after_ms: Mapping[str, int]
) -> list[SealedRange]:
    """The ranges that may leave the log, oldest first, each only after the ones before it in its partition.

    Parameters
    ----------
    starts
        first offset that the log still has, per partition; a range below it has left already.
    kept_after_ms
        per topic, the append time from which on records stay whatever the budget says. A topic not named here is kept.
    """
    allowed: list[SealedRange] = []
    reached = dict(starts)
    for sealed in sorted(ranges, key=lambda each: (each.topic, each.partition, each.first_offset)):
        place = (sealed.topic, sealed.partition)
        start = reached.get(place)
        if start is None or sealed.next_offset <= start:
            continue
        # A hole in the archive, an unverified range or one that is too young ends what its partition may give.
        whole = sealed.verified and sealed.first_offset <= start
        if whole and sealed.last_ms < kept_after_ms.get(sealed.topic, 0):
            allowed.append(sealed)
            reached[place] = sealed.next_offset
        else:
            del reached[place]
    return sorted(allowed, key=lambda each: (each.last_ms, each.topic, each.partition, each.first_offset))


def to_expire(allowed: Iterable[SealedRange], wanted: int) -> list[SealedRange]:
    """The first of ``allowed`` that together free at least ``wanted`` bytes; all of them when they do not."""
    chosen: list[SealedRange] = []
    freed = 0
    for sealed in allowed:
        if freed >= wanted:
            break
        chosen.append(sealed)
        freed += sealed.size
    return chosen


def sized(count: int) -> str:
    """Bytes for people: ``512 B``, ``1.5 GiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
