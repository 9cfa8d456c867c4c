"""The rows of a chunk that a machine may fold as columns: records that the door would let in, seen without making them.

The door judges records one by one. Here the same is asked of a whole chunk: what plainly passes is a *usual* row; everything
else (another class, a key that is not its instrument, a flaw, a text that no table had room for) is left for the door, which
has the last word. So a row that is usual is one that the door lets in, never the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from skeet.core.admission import LAST_TIME_NS, MAX_ID, MAX_MARKET_SCALE
from skeet.core.errors import BugError
from skeet.core.record import MarketEvent, Record, TopicPosition
from skeet.core.values import NS_PER_MS
from skeet.schemas.codec import Codec
from skeet.schemas.columns.columns import Columns, Flags, Longs
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.interning import NO_ID, Texts
from skeet.streams.batches.chunk import Chunk
from skeet.streams.door import Door, RawRecord
from skeet.streams.partitioner import partition_of

INSTRUMENT = "instrument_id"
NOT_ASKED = -2
NOWHERE = -1
"""Partition of a text that is no instrument's id."""
NO_PLACES: Longs = np.zeros(0, np.int64)
MIN_CLEAN, MAX_CLEAN = 0x20, 0x7E
"""Bytes of a text that is plainly clean. Others may be, too: the door looks."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _usual(buffer: Any, keys: Any, instruments: Any, belonging: Any, times: Any, scales: Any, ids: Any) -> Any:
    key_starts, key_lengths = keys
    belongs, partition = belonging
    starts, lengths, numbers = instruments
    ts_event, ts_init = times
    price_scale, size_scale = scales
    id_starts, id_lengths = ids
    found = np.zeros(numbers.size, np.bool_)
    for row in range(numbers.size):
        number, length = numbers[row], lengths[row]
        if number < 0 or belongs[number] != partition or key_lengths[row] != length:
            continue
        if not 0 <= ts_event[row] <= LAST_TIME_NS or not 0 <= ts_init[row] <= LAST_TIME_NS:
            continue
        if not 0 <= price_scale[row] <= MAX_MARKET_SCALE or not 0 <= size_scale[row] <= MAX_MARKET_SCALE:
            continue
        good = True
        for at in range(length):
            if buffer[key_starts[row] + at] != buffer[starts[row] + at]:
                good = False
                break
        if good and id_starts.size:
            if id_lengths[row] > MAX_ID:
                continue
            for at in range(id_starts[row], id_starts[row] + id_lengths[row]):
                if buffer[at] < MIN_CLEAN or buffer[at] > MAX_CLEAN:
                    good = False
                    break
        found[row] = good
    return found


@dataclass(frozen=True, kw_only=True)
class ChunkRows:
    """A chunk of one event class. ``row_of`` is the row of each of its records in ``columns`` where it is a usual one, else -1.

    ``offsets`` and ``log_ns`` are by record; ``columns``, ``numbers`` (ids of instruments in ``known``) by row.
    """

    topic: str
    """Without prefix."""
    partition: int
    chunk: Chunk = field(repr=False)
    columns: Columns
    row_of: Longs
    offsets: Longs
    log_ns: Longs
    numbers: NDArray[np.int32]
    known: Texts
    door: Door

    def at(self, record: int) -> TopicPosition:
        """Where a record stands."""
        return TopicPosition(self.topic, self.partition, int(self.offsets[record]))

    def raw(self, record: int) -> RawRecord:
        """A record as the door takes it."""
        return RawRecord(
            at=self.at(record),
            key=self.chunk.key(record) or b"",
            value=self.chunk.value(record) or b"",
            log_ns=int(self.log_ns[record]),
        )

    def record(self, record: int) -> Record[Any]:
        """A record as the door lets it in, made now.

        Raises
        ------
        InvalidInput
            the door's, for a record that is not usual.
        """
        return self.door.record(self.raw(record))


class RowsReader:
    """Makes rows of a topic's chunks. One for each topic; ids of instruments are shared through ``known``."""

    def __init__(
        self,
        codec: Codec,
        door: Door,
        topic: str,
        partitions: int,
        event_class: type[MarketEvent],
        known: dict[str, Texts],
    ) -> None:
        self._decoder = ColumnDecoder(codec, event_class, known)
        if INSTRUMENT not in known:
            raise BugError(f"{event_class.__name__} has no column {INSTRUMENT}")
        self._door = door
        self._topic = topic
        self._partitions = partitions
        self._belongs = np.full(64, NOT_ASKED, np.int64)

    def rows(self, chunk: Chunk) -> ChunkRows:
        """The chunk's records as rows.

        Raises
        ------
        InfrastructureError
            the registry, asked for another version's schema, is away.
        """
        columns = self._decoder.decode(chunk.buffer, chunk.value_starts, chunk.value_lengths)
        texts = columns.texts(INSTRUMENT)
        assert texts.ids is not None and texts.known is not None
        self._ask(texts.known, texts.ids)
        usual = self._usual(chunk, columns)
        row_of = np.full(len(chunk), NO_ID, np.int64)
        row_of[columns.index[usual]] = np.flatnonzero(usual)
        return ChunkRows(
            topic=self._topic,
            partition=chunk.partition,
            chunk=chunk,
            columns=columns,
            row_of=row_of,
            offsets=chunk.offsets,
            log_ns=chunk.timestamps_ms * NS_PER_MS,
            numbers=texts.ids,
            known=texts.known,
            door=self._door,
        )

    def _usual(self, chunk: Chunk, columns: Columns) -> Flags:
        instruments = columns.texts(INSTRUMENT)
        index = columns.index
        identity = columns.texts("trade_id") if "trade_id" in columns.names else None
        found: Flags = _usual(
            instruments.buffer,
            (chunk.key_starts[index], chunk.key_lengths[index]),
            (instruments.starts, instruments.lengths, instruments.ids),
            (self._belongs, chunk.partition),
            (columns.longs("ts_event"), columns.longs("ts_init")),
            (columns.longs("price_scale"), columns.longs("size_scale")),
            (NO_PLACES, NO_PLACES.astype(np.int32)) if identity is None else (identity.starts, identity.lengths),
        )
        return found

    def _ask(self, known: Texts, numbers: NDArray[np.int32]) -> None:
        """Find out where instruments belong that were not met before."""
        if len(known) > len(self._belongs):
            more = np.full(2 * len(known), NOT_ASKED, np.int64)
            more[: len(self._belongs)] = self._belongs
            self._belongs = more
        there = numbers[numbers != NO_ID]
        for number in np.unique(there[self._belongs[there] == NOT_ASKED]).tolist():
            self._belongs[number] = self._partition_of(known[number])

    def _partition_of(self, text: str) -> int:
        clean = text.isascii() and text.isprintable() and 0 < len(text) <= MAX_ID and not text.startswith("~")
        return partition_of(text.encode(), self._partitions) if clean else NOWHERE
