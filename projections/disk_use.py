"""What an installation keeps on this machine's disks: walked from outside, so that it needs no server to answer."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from skeet.config import Settings
from skeet.core.retention import DiskUse, Place, Volume

PARTS = ("kafka", "postgres", "clickhouse", "archive")
"""Folders of the data directory that get a name in messages; a part given by address has none here."""
BLOCK_BYTES = 512
_SEGMENT = re.compile(r"(\d{20})\.log")


def look(settings: Settings, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> DiskUse:
    """The use of all disks now.

    Parameters
    ----------
    starts, ends
        first and next offset that the log has of each partition (see :meth:`Archive.ranges`): what lies below a start is
        leaving.
    """
    return DiskUse(
        used=sum(allocated(root) for root in _roots(settings)),
        budget=settings.disk_budget,
        reserve=settings.disk_reserve,
        leaving=sum(leaving_bytes(settings, place, start, ends[place]) for place, start in starts.items()),
        volumes=volumes(settings),
    )


def volumes(settings: Settings) -> tuple[Volume, ...]:
    """Where the parts write on this machine, with the space that is free there."""
    folders = {name: settings.data / name for name in PARTS} | {"archive": settings.archive_dir, "data": settings.data}
    return tuple(
        Volume(name=name, path=str(folder.resolve()), free=shutil.disk_usage(folder).free)
        for name, folder in folders.items()
        if folder.exists()
    )


def partition_bytes(settings: Settings) -> dict[Place, int]:
    """Bytes of each partition of the log of a broker in this data directory; empty for one elsewhere."""
    logs = settings.data / "kafka" / "logs"
    found: dict[Place, int] = {}
    for folder in logs.glob(f"{settings.kafka.topic_prefix}*-*"):
        topic, _, partition = folder.name.removeprefix(settings.kafka.topic_prefix).rpartition("-")
        if partition.isdecimal():
            found[topic, int(partition)] = allocated(folder)
    return found


def leaving_bytes(settings: Settings, place: Place, start: int, end: int) -> int:
    """Bytes of a partition's files that hold records below the log's start, or wait for their deletion."""
    folder = settings.data / "kafka" / "logs" / f"{settings.kafka.topic_prefix}{place[0]}-{place[1]}"
    files = list(_files(folder))
    waiting = sum(size for name, size in files if name.endswith(".deleted"))
    segments = sorted((int(match[1]), size) for name, size in files if (match := _SEGMENT.fullmatch(name)))
    below = 0
    # A segment file ends where the next one begins. The one that the start lies in counts by its share of offsets.
    for (base, size), (following, _) in itertools.pairwise([*segments, (end, 0)]):
        below += size * min(max(0, start - base), following - base) // max(1, following - base)
    return waiting + below


def allocated(root: Path) -> int:
    """Bytes that the files below a folder take on disk (holes are none); files that vanish meanwhile count nothing."""
    total, folders = 0, [str(root)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
        except OSError:
            continue
    return total


def _roots(settings: Settings) -> set[Path]:
    """The data directory, what its links lead to, and the archive where it lies elsewhere."""
    data = settings.data.resolve()
    linked = [path.resolve() for path in data.iterdir() if path.is_symlink()] if data.is_dir() else []
    outside = [path for path in (*linked, settings.archive_dir.resolve()) if not path.is_relative_to(data)]
    return {data, *(path for path in outside if path.is_dir())}


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat().st_blocks * BLOCK_BYTES
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return
