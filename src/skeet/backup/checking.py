"""``verify``: every file of a backup read again and held against the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skeet.backup.files import check_files
from skeet.backup.layout import BackupDamaged, Manifest, read_manifest
from skeet.backup.segments import read_segment


def check(folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Manifest:
    """Read a whole backup; returns its manifest. ``progress`` gets bytes done and in all.

    Raises
    ------
    InvalidInput
        there is no backup of a format that this version reads.
    BackupDamaged
        names the first bad segment or file.
    """
    manifest = read_manifest(folder)
    done, total = 0, manifest.size_bytes
    for topic in manifest.topics:
        for partition in topic.partitions:
            at = partition.first
            for segment in partition.segments:
                read_segment(folder, segment)
                if segment.first < at or segment.last >= partition.end:
                    raise BackupDamaged(
                        f"{segment.path}: offsets {segment.first} to {segment.last} are out of their order"
                    )
                at = segment.last + 1
                done += segment.size_bytes
                progress(done, total)
    for file in check_files(folder, manifest.files):
        done += file.size_bytes
        progress(done, total)
    return manifest
