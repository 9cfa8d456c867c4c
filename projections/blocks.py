"""Blocks of history: which records go into the store together, and how a restart knows to repeat exactly those.

Before a block is inserted, its range is committed to Kafka beside the position (:class:`Mark`); after it, the position
moves past it. Whoever takes over reads the mark, reads exactly that range again and inserts it under the same token, which
the store drops if it has it. Pure: no client is touched here.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from skeet.core.errors import InvalidInput
from skeet.projections.records import Records, StoredRecord

MAX_BLOCK_RECORDS = 65_536
MAX_BLOCK_BYTES = 16 * 1024 * 1024
"""A block is one part in the store: large enough for its speed (an insert costs the store 10 ms whatever its size), small
enough to be held twice in memory."""


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
    records: Records

    @classmethod
    def of(cls, topic: str, partition: int, records: Sequence[StoredRecord]) -> Block:
        """The block of these records (at least one)."""
        held = Records.of(records)
        return cls(topic=topic, partition=partition, range=range_of(held), records=held)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def token(self) -> str:
        """Equal for equal ranges: the store inserts a token once."""
        return f"{self.topic}/{self.partition}/{self.range.first}-{self.range.end}"

    @property
    def is_whole(self) -> bool:
        """Whether the records are those the range was made of; not, when some expired before a repetition."""
        return self.range == range_of(self.records)


def range_of(records: Records) -> Range:
    """The range that these records (at least one) are."""
    return Range(
        first=int(records.offsets[0]),
        end=int(records.offsets[-1]) + 1,
        count=len(records),
        crc=int(records.crcs.sum(dtype=np.int64)),
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
    size_bytes: int = 0
    _parts: list[Records] = field(default_factory=list)
    _single: list[StoredRecord] = field(default_factory=list)
    _count: int = 0
    _last: int = -1

    def __len__(self) -> int:
        return self._count

    def add(self, record: StoredRecord) -> None:
        """Take one more record; a block begun at a position past this record's is refused by its own order."""
        self._follow(record.offset, record.offset, 1, len(record.value))
        self._single.append(record)

    def take(self, records: Records) -> None:
        """Take the next records, all or none."""
        if len(records):
            self._follow(int(records.offsets[0]), int(records.offsets[-1]), len(records), records.size_bytes)
            self._collect()
            self._parts.append(records)

    def _follow(self, first: int, last: int, count: int, size: int) -> None:
        if first <= self._last:
            raise InvalidInput(f"{self.topic}/{self.partition}: offset {first} came after {self._last}")
        self._last = last
        self._count += count
        self.size_bytes += size

    def _collect(self) -> None:
        if self._single:
            self._parts.append(Records.of(self._single))
            self._single = []

    @property
    def full(self) -> bool:
        """Whether the next block is as large as blocks may be."""
        return self._count >= MAX_BLOCK_RECORDS or self.size_bytes >= MAX_BLOCK_BYTES

    def next_block(self) -> Block | None:
        """The block to insert next; None while there is none, or the range to repeat is not read to its end."""
        self._collect()
        if not self._parts:
            return None
        held = Records.joined(self._parts)
        self._parts = [held]
        count = self._repeated(held) if self.repeat else self._fitting(held)
        if not count:
            return None
        records = held.part(0, count)
        return Block(
            topic=self.topic, partition=self.partition, range=self.repeat or range_of(records), records=records
        )

    def stored(self, block: Block) -> None:
        """The store has the block."""
        self._collect()
        held = Records.joined(self._parts)
        self._parts = [held.part(len(block))] if len(held) > len(block) else []
        self._count -= len(block)
        self.size_bytes -= block.records.size_bytes
        self.repeat = None

    def _repeated(self, held: Records) -> int:
        """Records of the range to repeat, once the range was read to its end."""
        if self.repeat is None or self._last < self.repeat.end - 1:
            return 0
        inside = int(np.searchsorted(held.offsets, self.repeat.end))
        if inside == 0:  # the whole range expired from the log meanwhile: there is nothing left to repeat
            self.repeat = None
            return self._fitting(held)
        return inside

    def _fitting(self, held: Records) -> int:
        """Records of the next block: up to a limit, or the end of the month, where the store's partition ends."""
        count = min(len(held), MAX_BLOCK_RECORDS)
        month = month_of(int(held.log_ms[0]))
        if month_of(int(held.log_ms[count - 1])) != month:
            # Append times never fall within a partition, so the month's end is found by halving.
            count = bisect_right(held.log_ms, month, hi=count, key=lambda ms: month_of(int(ms)))
        if self.size_bytes <= MAX_BLOCK_BYTES:
            return count
        sizes = np.cumsum(np.maximum(held.value_lengths[:count], 0))
        return max(1, int(np.searchsorted(sizes, MAX_BLOCK_BYTES, side="right")))


def month_of(log_ms: int) -> tuple[int, int]:
    """Year and month (UTC) of an append time: the store's partition of the row."""
    moment = datetime.fromtimestamp(log_ms / 1000, UTC)
    return moment.year, moment.month
