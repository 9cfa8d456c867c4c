"""Blocks of history: which records go into the store together, and how a restart knows to repeat exactly those.

Before a block is inserted, its range is committed to Kafka beside the position (:class:`Mark`); after it, the position
moves past it. Whoever takes over reads the mark, reads exactly that range again and inserts it under the same token, which
the store drops if it has it. Pure: no client is touched here.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from zlib import crc32

from skeet.core.errors import InvalidInput

MAX_BLOCK_RECORDS = 20_000
MAX_BLOCK_BYTES = 16 * 1024 * 1024
"""A block is one part in the store: large enough for its speed, small enough to be held twice in memory."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A range being inserted: offsets ``first`` (included) to ``end`` (excluded), its records and sum of their CRCs."""

    first: int
    end: int
    count: int
    crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Records of one topic partition that are inserted together, as ``range`` (which a restart takes from the mark).

    They are held as columns (an object for each would cost more than all that is done with it): offsets, append times,
    keys, values and the values' CRCs, of equal lengths and in order.
    """

    topic: str
    partition: int
    range: Range
    offsets: Sequence[int]
    log_ms: Sequence[int]
    keys: Sequence[bytes]
    values: Sequence[bytes]
    crcs: Sequence[int]

    @classmethod
    def of(cls, topic: str, partition: int, records: Sequence[StoredRecord]) -> Block:
        """The block of these records (at least one)."""
        buffer = PartitionBuffer(topic=topic, partition=partition)
        for record in records:
            buffer.add(record)
        return buffer.block(len(records))

    def __len__(self) -> int:
        return len(self.offsets)

    def record(self, number: int) -> StoredRecord:
        """One of the records."""
        return StoredRecord(self.offsets[number], self.log_ms[number], self.keys[number], self.values[number])

    @property
    def token(self) -> str:
        """Equal for equal ranges: the store inserts a token once."""
        return f"{self.topic}/{self.partition}/{self.range.first}-{self.range.end}"

    @property
    def is_whole(self) -> bool:
        """Whether the records are those the range was made of; not, when some expired before a repetition."""
        return self.range == range_of(self.offsets, self.crcs)


def range_of(offsets: Sequence[int], crcs: Sequence[int]) -> Range:
    """The range that records (at least one) at these offsets and with these CRCs are."""
    return Range(first=offsets[0], end=offsets[-1] + 1, count=len(offsets), crc=sum(crcs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is committed beside a position: for which store it holds, and the range under way (None: none)."""

    store_id: str
    under_way: Range | None = None

    def to_text(self) -> str:
        """Text for the commit; Kafka allows 4,096 bytes."""
        entry: dict[str, str | int] = {"store": self.store_id}
        if self.under_way:
            part = self.under_way
            entry |= {"first": part.first, "end": part.end, "count": part.count, "crc": part.crc}
        return json.dumps(entry, separators=(",", ":"))

    @classmethod
    def from_text(cls, committed: str | None) -> Mark | None:
        """The mark of a commit; None when there is none, or it is not ours."""
        try:
            entry = json.loads(committed or "")
            under_way = (
                Range(first=entry["first"], end=entry["end"], count=entry["count"], crc=entry["crc"])
                if "end" in entry
                else None
            )
            return cls(store_id=entry["store"], under_way=under_way)
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(slots=True, kw_only=True)
class PartitionBuffer:
    """Records of one topic partition that were read and are not stored yet, in order; held as a :class:`Block` holds them."""

    topic: str
    partition: int
    repeat: Range | None = None
    offsets: list[int] = field(default_factory=list)
    log_ms: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    size_bytes: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, record: StoredRecord) -> None:
        """:meth:`append` of a record."""
        self.append(record.offset, record.log_ms, record.key, record.value)

    def append(self, offset: int, log_ms: int, key: bytes, value: bytes) -> None:
        """Take the next record; a block begun at a position past this record's is refused by its own order."""
        if self.offsets and offset <= self.offsets[-1]:
            raise InvalidInput(f"{self.topic}/{self.partition}: offset {offset} came after {self.offsets[-1]}")
        self.offsets.append(offset)
        self.log_ms.append(log_ms)
        self.keys.append(key)
        self.values.append(value)
        self.size_bytes += len(value)

    @property
    def full(self) -> bool:
        """Whether the next block is as large as blocks may be."""
        return len(self.offsets) >= MAX_BLOCK_RECORDS or self.size_bytes >= MAX_BLOCK_BYTES

    def next_block(self) -> Block | None:
        """The block to insert next; None while there is none, or the range to repeat is not read to its end."""
        count = self._repeated() if self.repeat else self._fitting()
        return self.block(count) if count else None

    def block(self, count: int) -> Block:
        """The first records (at least one) as a block: the range to repeat, or else one of its own."""
        crcs = list(map(crc32, self.values[:count]))
        offsets = self.offsets[:count]
        return Block(
            topic=self.topic,
            partition=self.partition,
            range=self.repeat or range_of(offsets, crcs),
            offsets=offsets,
            log_ms=self.log_ms[:count],
            keys=self.keys[:count],
            values=self.values[:count],
            crcs=crcs,
        )

    def stored(self, block: Block) -> None:
        """The store has the block."""
        for column in (self.offsets, self.log_ms, self.keys, self.values):
            del column[: len(block)]
        self.size_bytes -= sum(map(len, block.values))
        self.repeat = None

    def _repeated(self) -> int:
        """Records of the range to repeat, once the range was read to its end."""
        if self.repeat is None or not self.offsets or self.offsets[-1] < self.repeat.end - 1:
            return 0
        inside = bisect_left(self.offsets, self.repeat.end)
        if inside == 0:  # the whole range expired from the log meanwhile: there is nothing left to repeat
            self.repeat = None
            return self._fitting()
        return inside

    def _fitting(self) -> int:
        """Records of the next block: up to a limit, or the end of the month, where the store's partition ends."""
        count = min(len(self.offsets), MAX_BLOCK_RECORDS)
        if count and month_of(self.log_ms[0]) != month_of(self.log_ms[count - 1]):
            # Append times never fall within a partition, so the month's end is found by halving.
            count = bisect_right(self.log_ms, month_of(self.log_ms[0]), hi=count, key=month_of)
        if self.size_bytes <= MAX_BLOCK_BYTES:
            return count
        sizes = accumulate(map(len, self.values[:count]))
        return max(1, sum(1 for size in sizes if size <= MAX_BLOCK_BYTES))


def month_of(log_ms: int) -> tuple[int, int]:
    """Year and month (UTC) of an append time: the store's partition of the row."""
    moment = datetime.fromtimestamp(log_ms / 1000, UTC)
    return moment.year, moment.month
