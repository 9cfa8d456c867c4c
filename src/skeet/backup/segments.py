"""Segment files: records of one partition as an Avro object container, compressed, read back record by record."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from skeet.backup.layout import SEGMENTS, BackupDamaged, Segment

SEGMENT_BYTES = 16 * 1024 * 1024
"""Of keys and values before compression; what is held in memory at a time, and read again after a bad one."""

SCHEMA: Any = fastavro.parse_schema(
    {
        "type": "record",
        "name": "StoredRecord",
        "namespace": "skeet.backup",
        "doc": "A Kafka record as it stood in its partition.",
        "fields": [
            {"name": "offset", "type": "long"},
            {"name": "timestamp_ms", "type": "long"},
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"]},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": ["null", "bytes"]}],
                    },
                },
            },
        ],
    }
)


class Stored(NamedTuple):
    """One record."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


def write_segments(folder: Path, topic: str, partition: int, records: Iterable[Stored]) -> Iterator[Segment]:
    """Write records into files of about :data:`SEGMENT_BYTES` each; one at a time, as they are asked for."""
    held: list[Stored] = []
    size = 0
    for record in records:
        held.append(record)
        size += record.size_bytes
        if size >= SEGMENT_BYTES:
            yield _write(folder, topic, partition, held)
            held, size = [], 0
    if held:
        yield _write(folder, topic, partition, held)


def _write(folder: Path, topic: str, partition: int, records: list[Stored]) -> Segment:
    buffer = io.BytesIO()
    fastavro.writer(buffer, SCHEMA, map(_to_avro, records), codec="zstandard", sync_interval=1 << 18)
    content = buffer.getvalue()
    path = SEGMENTS / topic / str(partition) / f"{records[0].offset:020d}.avro"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with (folder / path).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Segment(
        path=str(path),
        first=records[0].offset,
        last=records[-1].offset,
        records=len(records),
        size_bytes=len(content),
        sha256=sha256(content).hexdigest(),
    )


def read_segment(folder: Path, segment: Segment) -> list[Stored]:
    """The records of a segment, after its checksum, count and order were checked.

    Raises
    ------
    BackupDamaged
        names the file and what is wrong with it.
    """
    try:
        content = (folder / segment.path).read_bytes()
    except OSError as error:
        raise BackupDamaged(f"{segment.path} cannot be read: {error.strerror}") from error
    found = sha256(content).hexdigest()
    if found != segment.sha256:
        raise BackupDamaged(f"{segment.path}: its SHA-256 is {found}, the manifest says {segment.sha256}")
    try:
        records = [_from_avro(values) for values in fastavro.reader(io.BytesIO(content))]
    except Exception as error:  # whatever the bytes lead the decoder to
        raise BackupDamaged(f"{segment.path} cannot be decoded: {type(error).__name__}: {error}") from error
    offsets = [record.offset for record in records]
    ends = (offsets[0], offsets[-1], len(offsets)) if offsets else (-1, -1, 0)
    if ends != (segment.first, segment.last, segment.records) or offsets != sorted(set(offsets)):
        raise BackupDamaged(f"{segment.path}: first, last and count are {ends}, the manifest says otherwise")
    return records


def _to_avro(record: Stored) -> dict[str, Any]:
    headers = [{"name": name, "value": value} for name, value in record.headers]
    return {**record._asdict(), "headers": headers}


def _from_avro(values: Any) -> Stored:
    headers = tuple((header["name"], header["value"]) for header in values["headers"])
    return Stored(values["offset"], values["timestamp_ms"], values["key"], values["value"], headers)
