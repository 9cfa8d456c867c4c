"""A full disk in one line: which part, where, and what is free."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from skeet.core.errors import DiskFull
from skeet.core.retention import sized

FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
FULL_BELOW = 8 * 1024 * 1024
"""A part with less than this cannot go on: it is the size of an index that Kafka maps, of half a WAL file of PostgreSQL,
of eight of ClickHouse's reservations. Starting it would only make it die in the middle of something."""

PARTS = ("kafka", "postgres", "clickhouse", "archive")
"""Folders of the data directory that a part of its own writes to."""


def no_space(name: str, path: Path) -> str:
    """``disk full: NAME at PATH, free X``."""
    return f"disk full: {name} at {path.resolve()}, free {sized(free_bytes(path))}"


def free_bytes(path: Path) -> int:
    """Bytes free on the file system of a path, or of its nearest parent that exists."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(there).free


def full_disks(data: Path) -> list[str]:
    """One line for every part of this data directory whose disk is full; parts given by address have no folder here."""
    places = {name: data / name for name in PARTS} | {"data": data}
    full = {name: path for name, path in places.items() if path.exists() and free_bytes(path) < FULL_BELOW}
    # Several parts on one full disk are one finding.
    named: dict[int, str] = {}
    for name, path in full.items():
        named.setdefault(path.stat().st_dev, no_space(name, path))
    return list(named.values())


def require_space(name: str, path: Path) -> None:
    """Raise DiskFull when a part could not work in its folder."""
    if free_bytes(path) < FULL_BELOW:
        raise DiskFull(f"{no_space(name, path)}; free at least {sized(FULL_BELOW)} there, it starts again by itself")
