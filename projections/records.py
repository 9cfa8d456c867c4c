"""Raw records of one topic partition as columns over one buffer: what blocks are cut from, without an object per record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as Kafka holds it. ``log_ms`` is the append time in ms; topics stand without their prefix."""

    offset: int
    log_ms: int
    key: bytes
    value: bytes

    @property
    def crc(self) -> int:
        """CRC-32 of the value: what count and checksum comparisons between log and store are made of."""
        return crc32(self.value)


@dataclass(frozen=True, kw_only=True)
class Records:
    """Records in order of their offsets; int64 columns of equal lengths. A length of -1 is a null, which counts as empty.

    ``raw`` may hold more than the records.
    """

    raw: bytes
    offsets: Longs
    log_ms: Longs
    value_starts: Longs
    value_lengths: Longs
    key_starts: Longs
    key_lengths: Longs

    @classmethod
    def of(cls, records: Iterable[StoredRecord]) -> Records:
        """Of single records."""
        held = list(records)
        pieces = [piece for record in held for piece in (record.key, record.value)]
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        starts = np.cumsum(lengths) - lengths
        return cls(
            raw=b"".join(pieces),
            offsets=np.array([record.offset for record in held], np.int64),
            log_ms=np.array([record.log_ms for record in held], np.int64),
            key_starts=starts[0::2],
            key_lengths=lengths[0::2],
            value_starts=starts[1::2],
            value_lengths=lengths[1::2],
        )

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """The records of all parts, one after the other, over one buffer."""
        if len(parts) == 1:
            return parts[0]
        spans = [part._span() for part in parts]
        raws = [part.raw[begin:end] for part, (begin, end) in zip(parts, spans, strict=True)]
        sizes = np.array([end - begin for begin, end in spans], np.int64)
        moves = np.cumsum(sizes) - sizes - np.array([begin for begin, _ in spans], np.int64)
        return cls(
            raw=b"".join(raws),
            value_starts=np.concatenate([p.value_starts + move for p, move in zip(parts, moves, strict=True)]),
            key_starts=np.concatenate([p.key_starts + move for p, move in zip(parts, moves, strict=True)]),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _UNMOVED},
        )

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, begin: int, end: int | None = None) -> Records:
        """The records from one number to another, over the same buffer."""
        columns = {name: getattr(self, name)[begin:end] for name in ("value_starts", "key_starts", *_UNMOVED)}
        return Records(raw=self.raw, **columns)

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of the values."""
        return int(np.maximum(self.value_lengths, 0).sum())

    @cached_property
    def crcs(self) -> NDArray[np.uint32]:
        """CRC-32 of each value."""
        from skeet.streams.batches.checksums import crc32_of

        starts = np.ascontiguousarray(self.value_starts)
        return crc32_of(np.frombuffer(self.raw, np.uint8), starts, np.ascontiguousarray(self.value_lengths))

    def value(self, number: int) -> bytes:
        """The value of one record."""
        return self._bytes(self.value_starts, self.value_lengths, number)

    def key(self, number: int) -> bytes:
        """The key of one record."""
        return self._bytes(self.key_starts, self.key_lengths, number)

    def record(self, number: int) -> StoredRecord:
        """One record by itself."""
        return StoredRecord(int(self.offsets[number]), int(self.log_ms[number]), self.key(number), self.value(number))

    def _bytes(self, starts: Longs, lengths: Longs, number: int) -> bytes:
        start = int(starts[number])
        return self.raw[start : start + max(0, int(lengths[number]))]

    def _span(self) -> tuple[int, int]:
        """Where in the buffer the records begin and end."""
        if not len(self):
            return 0, 0
        starts = np.concatenate((self.value_starts, self.key_starts))
        ends = starts + np.maximum(np.concatenate((self.value_lengths, self.key_lengths)), 0)
        return int(starts.min()), int(ends.max())


_UNMOVED = ("offsets", "log_ms", "value_lengths", "key_lengths")
