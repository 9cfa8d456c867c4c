"""Sealed segments on disk: a range of one partition as a Parquet file, and a manifest beside it that proves the file.

A segment holds what Kafka held: offset, append time, key and framed value of every record, compressed with zstd, so that it
can be replayed, decoded with the registry's schemas, or opened by any Parquet reader. Layout below the archive's directory:
``TOPIC/PARTITION/FIRST-NEXT.parquet`` and ``.json``. A file counts only once its manifest is there, which is written last.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.projections.records import StoredRecord
from skeet.streams.crash_points import ARCHIVE_BEFORE_MANIFEST, reach

FORMAT = 1
"""Raised when a manifest changes its meaning; a newer one is refused, never guessed at."""
SCHEMA = pa.schema([("offset", pa.int64()), ("log_ms", pa.int64()), ("key", pa.binary()), ("value", pa.binary())])
HASH_CHUNK = 1024 * 1024


class Proof(StrEnum):
    """What a segment was compared with."""

    NONE = "none"
    FILE = "file"
    """Read back from disk: count, checksum, offsets."""
    CLICKHOUSE = "clickhouse"
    """And equal to what ClickHouse holds of the range, by count and checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one segment must be. ``record_crc`` is the sum of the CRC-32 of every value, as in ClickHouse's columns.

    The range is ``first_offset`` (included) to ``next_offset`` (excluded); control markers leave holes in it. Times are
    append times in ms. ``announced``: its SegmentSealed is in the log.
    """

    format: int = FORMAT
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    records: int
    record_crc: int
    first_ms: int
    last_ms: int
    raw_bytes: int
    file_bytes: int
    sha256: str
    proof: Proof = Proof.NONE
    announced: bool = False

    @property
    def stem(self) -> str:
        """The path below the archive's directory, without suffix."""
        return f"{self.topic}/{self.partition}/{self.first_offset:020d}-{self.next_offset:020d}"


def write_segment(
    root: Path, topic: str, partition: int, first_offset: int, records: Sequence[StoredRecord]
) -> Manifest:
    """Write the records (at least one, ascending) as one segment that begins at ``first_offset``.

    When it returns, file and manifest are on disk, flushed. A crash before leaves nothing that counts.

    Raises
    ------
    InfrastructureError
        the directory cannot be written, or its disk is full.
    """
    draft = Manifest(
        topic=topic,
        partition=partition,
        first_offset=first_offset,
        next_offset=records[-1].offset + 1,
        records=len(records),
        record_crc=sum(record.crc for record in records),
        first_ms=records[0].log_ms,
        last_ms=records[-1].log_ms,
        raw_bytes=sum(len(record.key) + len(record.value) for record in records),
        file_bytes=0,
        sha256="",
    )
    path = segment_path(root, draft)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        pq.write_table(_table(records), scratch, compression="zstd")
        _flush(scratch)
        manifest = replace(draft, file_bytes=scratch.stat().st_size, sha256=digest(scratch))
        scratch.replace(path)
        reach(ARCHIVE_BEFORE_MANIFEST)
        write_manifest(root, manifest)
    except (OSError, pa.ArrowException) as error:
        raise InfrastructureError(f"archive {path}: {error}") from error
    return manifest


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Put the manifest in place of the one that is there, at once and flushed."""
    path = segment_path(root, manifest).with_suffix(".json")
    scratch = path.with_suffix(".json.tmp")
    scratch.write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    _flush(scratch)
    scratch.replace(path)
    _flush(path.parent)


def manifests(root: Path) -> list[Manifest]:
    """Every segment of the archive, by topic, partition and offset.

    Raises
    ------
    InvalidInput
        a manifest cannot be read, or is of a newer format; the message names the file.
    """
    found = [_manifest(path) for path in sorted(root.glob("*/*/*.json"))]
    return sorted(found, key=lambda each: (each.topic, each.partition, each.first_offset))


def read_segment(root: Path, manifest: Manifest) -> list[StoredRecord]:
    """The records, in order.

    Raises
    ------
    InfrastructureError
        the file is missing or no Parquet any more.
    """
    path = segment_path(root, manifest)
    try:
        columns = pq.read_table(path, schema=SCHEMA).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise InfrastructureError(f"archive {path}: {' '.join(str(error).split())[:300]}") from error
    rows = zip(columns["offset"], columns["log_ms"], columns["key"], columns["value"], strict=True)
    return [StoredRecord(*row) for row in rows]


def difference(root: Path, manifest: Manifest) -> str:
    """How the file differs from its manifest; empty when it is what was sealed, byte for byte and record for record."""
    path = segment_path(root, manifest)
    try:
        if (found := digest(path)) != manifest.sha256:
            return f"{path} has SHA-256 {found}, sealed was {manifest.sha256}"
        records = read_segment(root, manifest)
    except (OSError, InfrastructureError) as error:
        return f"{path} cannot be read: {error}"
    offsets = [record.offset for record in records]
    inside = not offsets or (offsets[0] >= manifest.first_offset and offsets[-1] < manifest.next_offset)
    if not inside or any(a >= b for a, b in itertools.pairwise(offsets)):
        return f"{path} holds offsets outside its range or out of order"
    found_sums = (len(records), sum(record.crc for record in records))
    if found_sums != (manifest.records, manifest.record_crc):
        return f"{path} holds {found_sums[0]} records with CRC sum {found_sums[1]}, sealed were {manifest.records} with {manifest.record_crc}"
    return ""


def segment_path(root: Path, manifest: Manifest) -> Path:
    """The segment's Parquet file."""
    return root / f"{manifest.stem}.parquet"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def _table(records: Sequence[StoredRecord]) -> pa.Table:
    return pa.table(
        [
            pa.array([record.offset for record in records], pa.int64()),
            pa.array([record.log_ms for record in records], pa.int64()),
            pa.array([record.key for record in records], pa.binary()),
            pa.array([record.value for record in records], pa.binary()),
        ],
        schema=SCHEMA,
    )


def _manifest(path: Path) -> Manifest:
    try:
        raw = json.loads(path.read_text())
        if raw["format"] > FORMAT:
            raise InvalidInput(
                f"{path} has format {raw['format']}; this version reads up to {FORMAT}: use a newer SKEET"
            )
        known = {each.name for each in fields(Manifest)}
        return Manifest(**{**{k: v for k, v in raw.items() if k in known}, "proof": Proof(raw["proof"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path} is no manifest of a segment ({error!r}); delete it and its .parquet, and the range is sealed again if "
            "the log still holds it"
        ) from error


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
