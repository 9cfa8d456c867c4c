"""Chunks made of events, as a fetch would bring them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skeet.core.record import Record
from skeet.core.values import NS_PER_MS
from skeet.schemas.codec import Codec
from skeet.streams.batches.chunk import Chunk


def chunk_of(
    codec: Codec, records: Sequence[Record[Any]], topic: str, partition: int, *, keys: Sequence[bytes] | None = None
) -> Chunk:
    """The records, in order, as one chunk; their log's time must be whole milliseconds."""
    values = [codec.encode(record.event, record.meta) for record in records]
    owners = [record.event.instrument_id.encode() for record in records] if keys is None else list(keys)
    return raw_chunk(
        [(record.at.offset, record.log_ns // NS_PER_MS, key, value) for record, key, value in zip(records, owners, values, strict=True)],
        topic,
        partition,
    )  # fmt: skip


def raw_chunk(rows: Sequence[tuple[int, int, bytes, bytes]], topic: str, partition: int) -> Chunk:
    """Offset, time in ms, key and value of each record as one chunk."""
    raw, places = bytearray(), []
    for _, _, key, value in rows:
        at = len(raw)
        places.append((at + len(key), len(value), at, len(key), at))
        raw += key + value
    offsets = [row[0] for row in rows]
    return Chunk(
        topic=topic,
        partition=partition,
        first=offsets[0],
        next_offset=offsets[-1] + 1,
        raw=bytes(raw),
        places=np.array(places, np.int64).reshape(-1, 5).T.copy(),
        positions=np.array([offsets, [row[1] for row in rows]], np.int64),
        size=len(raw),
    )
