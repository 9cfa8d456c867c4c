"""Blocks of history: which records go into the store together, and how a restart knows to repeat exactly those.

Before a block is inserted, its range is committed to Kafka beside the position (:class:`Mark`); after it, the position
moves past it. Whoever takes over reads the mark, reads exactly that range again and inserts it under the same token, which
the store drops if it has it. Pure: no client is touched here.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate

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
        return zlib.crc32(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A range being inserted: offsets ``first`` (included) to ``end`` (excluded), its records and sum of their CRCs."""

    first: int
    end: int
    count: int
    crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Records of one topic partition that are inserted together, as ``range`` (which a restart takes from the mark)."""

    topic: str
    partition: int
    range: Range
    records: tuple[StoredRecord, ...]

    @property
    def token(self) -> str:
        """Equal for equal ranges: the store inserts a token once."""
        return f"{self.topic}/{self.partition}/{self.range.first}-{self.range.end}"

    @property
    def is_whole(self) -> bool:
        """Whether the records are those the range was made of; not, when some expired before a repetition."""
        return self.range == range_of(self.records)


def range_of(records: Sequence[StoredRecord]) -> Range:
    """The range that these records (at least one) are."""
    return Range(
        first=records[0].offset,
        end=records[-1].offset + 1,
        count=len(records),
        crc=sum(record.crc for record in records),
    )


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
    """Records of one topic partition that were read and are not stored yet, in order."""

    topic: str
    partition: int
    repeat: Range | None = None
    records: list[StoredRecord] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, record: StoredRecord) -> None:
        """Take the next record; a block begun at a position past this record's is refused by its own order."""
        if self.records and record.offset <= self.records[-1].offset:
            raise InvalidInput(
                f"{self.topic}/{self.partition}: offset {record.offset} came after {self.records[-1].offset}"
            )
        self.records.append(record)
        self.size_bytes += len(record.value)

    @property
    def full(self) -> bool:
        """Whether the next block is as large as blocks may be."""
        return len(self.records) >= MAX_BLOCK_RECORDS or self.size_bytes >= MAX_BLOCK_BYTES

    def next_block(self) -> Block | None:
        """The block to insert next; None while there is none, or the range to repeat is not read to its end."""
        count = self._repeated() if self.repeat else self._fitting()
        if not count:
            return None
        records = tuple(self.records[:count])
        return Block(
            topic=self.topic, partition=self.partition, range=self.repeat or range_of(records), records=records
        )

    def stored(self, block: Block) -> None:
        """The store has the block."""
        del self.records[: len(block.records)]
        self.size_bytes -= sum(len(record.value) for record in block.records)
        self.repeat = None

    def _repeated(self) -> int:
        """Records of the range to repeat, once the range was read to its end."""
        if self.repeat is None or not self.records or self.records[-1].offset < self.repeat.end - 1:
            return 0
        inside = sum(1 for record in self.records if record.offset < self.repeat.end)
        if inside == 0:  # the whole range expired from the log meanwhile: there is nothing left to repeat
            self.repeat = None
            return self._fitting()
        return inside

    def _fitting(self) -> int:
        """Records of the next block: up to a limit, or the end of the month, where the store's partition ends."""
        count = min(len(self.records), MAX_BLOCK_RECORDS)
        if count and month_of(self.records[0].log_ms) != month_of(self.records[count - 1].log_ms):
            # Append times never fall within a partition, so the month's end is found by halving.
            month = month_of(self.records[0].log_ms)
            count = bisect_right(self.records, month, hi=count, key=lambda record: month_of(record.log_ms))
        if self.size_bytes <= MAX_BLOCK_BYTES:
            return count
        sizes = accumulate(len(record.value) for record in self.records[:count])
        return max(1, sum(1 for size in sizes if size <= MAX_BLOCK_BYTES))


def month_of(log_ms: int) -> tuple[int, int]:
    """Year and month (UTC) of an append time: the store's partition of the row."""
    moment = datetime.fromtimestamp(log_ms / 1000, UTC)
    return moment.year, moment.month
