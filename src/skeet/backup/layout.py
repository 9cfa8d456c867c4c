"""What stands in a backup's folder: ``manifest.json`` with its checksum beside it, segments of records, copied files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from skeet.core.errors import InfrastructureError, InvalidInput

FORMAT = 1
"""Of the folder. A reader refuses what is newer than itself."""
MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.sha256"
SEGMENTS = Path("segments")
FILES = Path("files")


class BackupDamaged(InfrastructureError):
    """A backup is not what its manifest says; the message names the first bad file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Consecutive records of one partition: an Avro object container file (zstandard), and its checksum."""

    path: str
    first: int
    last: int
    records: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionBackup:
    """One partition: first kept and next offset at the cut, and what a reader was delivered between them."""

    partition: int
    first: int
    end: int
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicBackup:
    """One topic: the settings that differ from the broker's defaults, and its partitions."""

    name: str
    config: Mapping[str, str]
    partitions: tuple[PartitionBackup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a consumer group stood in one partition, with what it noted beside it."""

    group: str
    topic: str
    partition: int
    offset: int
    metadata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """A file of the data directory, by its path below it."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All of a backup but the bytes themselves. ``created_ns``: when its cut was taken."""

    created_ns: int
    skeet_version: str
    topic_prefix: str
    account_partitions: int
    market_partitions: int
    topics: tuple[TopicBackup, ...]
    positions: tuple[Position, ...]
    files: tuple[CopiedFile, ...]
    format: int = FORMAT

    @property
    def records(self) -> int:
        """How many records it holds."""
        return sum(segment.records for segment in self.segments())

    @property
    def size_bytes(self) -> int:
        """Size of its segments and files."""
        return sum(s.size_bytes for s in self.segments()) + sum(file.size_bytes for file in self.files)

    def segments(self) -> Iterator[Segment]:
        """Every segment, topic by topic, in order."""
        for topic in self.topics:
            for partition in topic.partitions:
                yield from partition.segments


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, then its checksum; without both a folder is no backup."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True).encode()
    (folder / MANIFEST).write_bytes(text)
    (folder / MANIFEST_SUM).write_text(sha256(text).hexdigest() + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises
    ------
    InvalidInput
        no backup is there, or one of a newer format.
    BackupDamaged
        the manifest is not what its checksum says.
    """
    if not (folder / MANIFEST).is_file():
        raise InvalidInput(
            f"{folder} is no backup: it has no {MANIFEST}; name the folder that `skeet backup create` made"
        )
    text = (folder / MANIFEST).read_bytes()
    expected = (folder / MANIFEST_SUM).read_text().strip() if (folder / MANIFEST_SUM).is_file() else "missing"
    if sha256(text).hexdigest() != expected:
        raise BackupDamaged(
            f"{folder / MANIFEST}: its SHA-256 is {sha256(text).hexdigest()}, {MANIFEST_SUM} says {expected}"
        )
    found: dict[str, Any] = json.loads(text)
    if found.get("format") != FORMAT:
        raise InvalidInput(
            f"{folder} has format {found.get('format')!r}, this version reads {FORMAT}: use a newer skeet"
        )
    topics = tuple(_topic(topic) for topic in found.pop("topics"))
    positions = tuple(Position(**position) for position in found.pop("positions"))
    files = tuple(CopiedFile(**file) for file in found.pop("files"))
    return Manifest(topics=topics, positions=positions, files=files, **found)


def _topic(found: dict[str, Any]) -> TopicBackup:
    partitions = tuple(
        PartitionBackup(**{**partition, "segments": tuple(Segment(**each) for each in partition["segments"])})
        for partition in found["partitions"]
    )
    return TopicBackup(name=found["name"], config=found["config"], partitions=partitions)
