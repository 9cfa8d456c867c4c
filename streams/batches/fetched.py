"""What one fetch brought of one partition: batch headers are read, checked and judged here, and given out as chunks.

The rules are those of every read_committed consumer (KIP-98): a batch whose checksum does not fit ends the reading, control
batches are never delivered, and batches of a producer are skipped from the first offset that the broker named as aborted
until that producer's abort marker.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from crc32c import crc32c

from skeet.core.errors import InvalidInput
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.framing import SMALLEST_RECORD, Walk
from skeet.streams.stages import Partition

HEADER = struct.Struct(">qiibIhiqqqhii")
FRAME = struct.Struct(">qiib")
"""What all formats begin with: base offset, length, then in ours leader epoch, and the format."""
LENGTH_ENDS = 12
CHECKED_FROM = 21
"""The checksum covers everything behind it."""
FORMAT = 2

CODECS: Mapping[int, Callable[[bytes], bytes]] = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
CODEC_MASK = 0x07
APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20


class _Batch(NamedTuple):
    """The header of a batch, with where it lies in the fetched bytes."""

    start: int
    end: int
    base_offset: int
    next_offset: int
    attributes: int
    first_time: int
    max_time: int
    producer_id: int
    records: int


@dataclass(slots=True)
class _Taken:
    """The batches of a chunk in the making."""

    rows: list[tuple[int, int, int, int, int, int]]
    pieces: list[bytes | memoryview]
    records: int = 0
    size: int = 0
    packed: bool = False


class FetchedChunks:
    """The batches of one partition's part of a fetch, given out in order.

    Parameters
    ----------
    aborted
        pairs of producer id and first offset, as the broker's answer lists them.
    position
        the offset that was asked for: records before it are left out.
    walk
        finds the records of batches.
    """

    def __init__(
        self, place: Partition, raw: bytes, aborted: Iterable[tuple[int, int]], position: int, walk: Walk
    ) -> None:
        self._walk = walk
        self._place = place
        self._raw = raw
        self._view = memoryview(raw)
        self._at = 0
        self._aborted = sorted(aborted, key=lambda pair: pair[1], reverse=True)
        self._aborting: set[int] = set()
        self._batches_end = 0
        self.next_fetch_offset = position

    @property
    def exhausted(self) -> bool:
        """Whether no whole batch is left; a batch that the fetch cut off does not count."""
        left = len(self._raw) - self._at
        if left < FRAME.size:
            return True
        return bool(left < LENGTH_ENDS + FRAME.unpack_from(self._raw, self._at)[1])

    def next_chunk(self, max_records: int, max_bytes: int) -> Chunk:
        """The next batches as one chunk, until it holds so many records or bytes; it has no records when only skipped
        batches were left.

        Raises
        ------
        CorruptRecordException
            a checksum does not fit, the bytes are not what the header says, or offsets go backwards; the batch would be
            fetched again.
        InvalidInput
            the batch has a format from before Kafka 0.11.
        """
        first = self.next_fetch_offset
        taken = _Taken([], [])
        while taken.records < max_records and taken.size < max_bytes and not self.exhausted:
            batch = self._next_batch()
            if self._delivers(batch):
                self._take(batch, taken)
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)
        return self._chunk(first, taken)

    def _next_batch(self) -> _Batch:
        at = self._at
        _, length, _, form = FRAME.unpack_from(self._raw, at)
        end = at + LENGTH_ENDS + length
        if form != FORMAT:
            raise InvalidInput(
                f"{self._at_text}: a batch of format {form}; only format 2 is read (convert the topic with a broker of 3.x)"
            )
        if end - at < HEADER.size:
            raise CorruptRecordException(f"{self._at_text}: a batch of {end - at} bytes")
        base, _, _, _, checksum, attributes, last, first_time, max_time, producer_id, _, _, count = HEADER.unpack_from(
            self._raw, at
        )
        if crc32c(self._view[at + CHECKED_FROM : end]) != checksum:
            raise CorruptRecordException(f"{self._at_text}: invalid CRC of the batch at offset {base}")
        # No checksum covers the base offset: the broker writes it behind the producer's back.
        if base < self._batches_end:
            raise CorruptRecordException(f"{self._at_text}: a batch at offset {base} behind {self._batches_end}")
        self._at, self._batches_end = end, base + last + 1
        return _Batch(at, end, base, base + last + 1, attributes, first_time, max_time, producer_id, count)

    def _delivers(self, batch: _Batch) -> bool:
        """Whether the batch holds records for the reader; keeps account of who is aborting."""
        while self._aborted and self._aborted[-1][1] <= batch.base_offset:
            self._aborting.add(self._aborted.pop()[0])
        if batch.attributes & CONTROL:
            if self._is_abort_marker(batch):
                self._aborting.discard(batch.producer_id)
            return False
        return not (batch.attributes & TRANSACTIONAL and batch.producer_id in self._aborting)

    def _is_abort_marker(self, batch: _Batch) -> bool:
        marker: Any = next(iter(DefaultRecordBatch(self._raw[batch.start : batch.end])))
        return bool(ControlRecord.parse(marker.key) == ABORT_MARKER)

    def _take(self, batch: _Batch, taken: _Taken) -> None:
        start, end = batch.start + HEADER.size, batch.end
        codec = batch.attributes & CODEC_MASK
        piece: bytes | memoryview = self._view[start:end]
        if codec:
            piece = self._unpacked(codec, start, end)
            taken.packed = True
        if not 0 <= batch.records <= len(piece) // SMALLEST_RECORD:
            raise CorruptRecordException(f"{self._at_text}: {batch.records} records in {len(piece)} bytes")
        append_time = 1 if batch.attributes & APPEND_TIME else 0
        base_time = batch.max_time if append_time else batch.first_time
        taken.rows.append((start, end, batch.records, batch.base_offset, base_time, append_time))
        taken.pieces.append(piece)
        taken.records += batch.records
        taken.size += len(piece)

    def _unpacked(self, codec: int, start: int, end: int) -> bytes:
        unpack = CODECS.get(codec)
        if unpack is None:
            raise CorruptRecordException(f"{self._at_text}: unknown compression {codec}")
        try:
            return unpack(self._raw[start:end])
        except Exception as error:  # each codec has its own errors
            raise CorruptRecordException(f"{self._at_text}: {type(error).__name__}: {error}") from error

    def _chunk(self, first: int, taken: _Taken) -> Chunk:
        raw, table = self._raw, np.array(taken.rows, np.int64).reshape(-1, 6)
        if taken.packed:
            raw = b"".join(taken.pieces)
            ends = np.cumsum([len(piece) for piece in taken.pieces])
            table[1:, 0], table[:, 1] = ends[:-1], ends
            table[0, 0] = 0
        found = self._walk(raw, table, first)
        if found is None:
            raise CorruptRecordException(f"{self._at_text}: malformed records")
        return Chunk(
            topic=self._place[0],
            partition=self._place[1],
            first=first,
            next_offset=self.next_fetch_offset,
            raw=raw,
            places=found[0],
            positions=found[1],
            size=taken.size,
        )

    @property
    def _at_text(self) -> str:
        return f"{self._place[0]}-{self._place[1]} from offset {self.next_fetch_offset}"
