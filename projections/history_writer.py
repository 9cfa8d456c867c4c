"""The writer of the history: a consumer group over all history topics, blocks into ClickHouse, each exactly once.

One :class:`HistorySession` lives from joining the group to the first error; the role starts another. What was read and not
stored is read again, so nothing here needs undoing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.core.record import TopicPosition
from skeet.core.values import NS_PER_MS
from skeet.health import HEALTH
from skeet.process import StopSignal, logger
from skeet.projections.blocks import Block, Mark, PartitionBuffer
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history import TABLES
from skeet.projections.history_columns import BlockReader
from skeet.projections.history_rebuild import replace, replacement_waits
from skeet.projections.history_rows import Insert, Unreadable
from skeet.projections.records import Records
from skeet.projections.sessions import ProjectionAge
from skeet.schemas.codec import Codec
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.client import ChunkClient
from skeet.streams.catching_up import Partition, Progress
from skeet.streams.crash_points import (
    CLICKHOUSE_AFTER_CHECKPOINT,
    CLICKHOUSE_AFTER_INSERT,
    CLICKHOUSE_AFTER_RANGE,
    CLICKHOUSE_IN_INSERT,
    reach,
)
from skeet.streams.door import RawRecord, dead_letter
from skeet.streams.hang_guard import HangGuard
from skeet.streams.kafka import group_name, producer
from skeet.streams.publishing import Publisher
from skeet.streams.topics import topic_name

GROUP = "projection-clickhouse"
POLL_S = 0.1
FLUSH_AFTER_S = 2.0
"""A record waits at most this long for company: an insert costs the same for one row as for a thousand. With 1 s, a market of 25
frames a second cost ClickHouse a quarter of a core, more than any process on the way of an order but the broker."""
FETCH_WAIT_MS = 250
FETCH_BYTES = 1024 * 1024
"""The broker answers when so much is there or so long has passed: history that asks for every record as it comes would
take the processor from the path of an order."""
MAX_HELD_BYTES = 48 * 1024 * 1024
MAX_HELD_RECORDS = 131_072
COMMIT_HANGS_S = 30.0
"""A commit that takes longer hangs, since the client itself gives up before: after its coordinator was gone for a moment, librdkafka was seen to hold a commit back
for more than three minutes. The process ends, and its successor repeats the ranges."""
SWAP_LOOK_S = 2.0
"""How often to look whether a rebuilt database waits to take this one's place."""

log = logger()


@cache
def _commit_guard() -> HangGuard:
    """One for all sessions: it has a thread."""
    return HangGuard("commit of positions", COMMIT_HANGS_S)


class StoreReplaced(InfrastructureError):
    """A rebuilt database took the place of the one written to: begin again at its own positions."""


class HistorySession:
    """One membership in the consumer group. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        store: HistoryStore,
        on_ready: Callable[[], None] = lambda: None,
        reader: BlockReader | None = None,
        flush_after_s: float = FLUSH_AFTER_S,
    ) -> None:
        self._flush_after_s = flush_after_s
        self._on_ready = on_ready
        self._settings = settings
        self._codec = codec
        self._reader = reader or BlockReader(codec)
        self._store = store
        self._store_id = store.migrate()
        self._prefix = settings.kafka.topic_prefix
        self._buffers: dict[tuple[str, int], PartitionBuffer] = {}
        self._places: tuple[Partition, ...] = ()
        self._oldest_s = 0.0
        self._letters: Publisher | None = None
        """Made with the first dead letter: most installations never have one."""
        self._client = ChunkClient(
            settings,
            f"{GROUP}-{settings.slot}",
            group_name(settings, GROUP),
            fetch_min_bytes=FETCH_BYTES,
            fetch_wait_ms=FETCH_WAIT_MS,
        )
        self._progress = Progress(group_name(settings, GROUP), self._client)
        self._age = ProjectionAge(GROUP, self._progress)

    def run(self, stop: StopSignal) -> None:
        """Copy records until asked to stop; then store what is held and leave the group.

        Raises
        ------
        InfrastructureError
            Kafka or ClickHouse is away, or the group moved on: start another session.
        """
        self._reader.prepare()
        names = [topic_name(table.topic, self._settings.kafka) for table in TABLES]
        try:
            self._client.subscribe(names, on_assign=self._assigned, on_revoke=self._revoked)
            looked_s = time.monotonic()
            while not stop.stopping:
                HEALTH.beat()
                self._progress.look()
                self._take(self._client.poll(POLL_S))
                if self._due():
                    self.flush()
                if time.monotonic() - looked_s > SWAP_LOOK_S:
                    looked_s = time.monotonic()
                    self._look_for_replacement()
            self.flush()
        finally:
            self._age.close()
            self._progress.close()
            self._client.close()

    def flush(self) -> None:
        """Store what is held: mark the ranges, insert the blocks, move the positions past them."""
        while blocks := [block for buffer in self._buffers.values() if (block := buffer.next_block())]:
            begun = [
                (block, block.range.first, Mark(store_id=self._store_id, under_way=block.range)) for block in blocks
            ]
            self._commit(begun)
            reach(CLICKHOUSE_AFTER_RANGE)
            self._insert_all(blocks)
            reach(CLICKHOUSE_AFTER_INSERT)
            self._commit((block, block.range.end, Mark(store_id=self._store_id)) for block in blocks)
            reach(CLICKHOUSE_AFTER_CHECKPOINT)
        self._oldest_s = 0.0

    def _insert_all(self, blocks: Sequence[Block]) -> None:
        """Insert blocks in their order. While the engine takes one, the next is read; at an error the one under way is
        waited for."""
        with ThreadPoolExecutor(1, "insert") as engine:
            under_way: tuple[Block, Future[None]] | None = None
            for block in blocks:
                if not block.is_whole:
                    log.error("a range to repeat is not what it was: records expired meanwhile", block=block.token)
                inserts, unreadable = self._reader.inserts_of(block)
                if under_way is not None:
                    self._inserted(*under_way)
                    reach(CLICKHOUSE_IN_INSERT)
                under_way = block, engine.submit(self._insert, block, inserts)
                if unreadable:
                    self._write_letters(block, unreadable)
            if under_way is not None:
                self._inserted(*under_way)

    def _insert(self, block: Block, inserts: Iterable[Insert]) -> None:
        for insert in inserts:
            self._store.insert(insert.table, insert.rows, block.token)

    def _inserted(self, block: Block, insertion: Future[None]) -> None:
        insertion.result()
        self._buffers[block.topic, block.partition].stored(block)
        self._age.stored(int(block.records.log_ms[-1]) * NS_PER_MS)

    def _write_letters(self, block: Block, unreadable: Sequence[Unreadable]) -> None:
        """A dead letter for each, acknowledged before the position moves on; a repeated block repeats them under equal ids."""
        letters = []
        for entry in unreadable:
            record = entry.record
            at = TopicPosition(block.topic, block.partition, record.offset)
            log.error("unreadable record kept in unreadable_records", at=str(at), cause=entry.cause)
            raw = RawRecord(at=at, key=record.key, value=record.value, log_ns=record.log_ms * NS_PER_MS)
            letters.append(dead_letter(GROUP, raw, entry.cause))
        if self._letters is None:
            self._letters = Publisher(self._settings, self._codec, producer(self._settings, f"{GROUP}-letters"))
        self._letters.send(letters)
        self._letters.flush()

    def _commit(self, entries: Iterable[tuple[Block, int, Mark]]) -> None:
        offsets = {
            (self._prefix + block.topic, block.partition): (offset, mark.to_text()) for block, offset, mark in entries
        }
        with _commit_guard():
            self._client.commit(offsets)

    def _take(self, chunks: Sequence[Chunk]) -> None:
        for place, end in self._client.ended(self._places):
            self._progress.ended(place, end)
        for chunk in chunks:
            self._buffers[chunk.topic.removeprefix(self._prefix), chunk.partition].take(_records(chunk))
            self._oldest_s = self._oldest_s or time.monotonic()

    def _due(self) -> bool:
        if not self._oldest_s:
            return False
        buffers = self._buffers.values()
        return (
            time.monotonic() - self._oldest_s >= self._flush_after_s
            or any(buffer.full for buffer in buffers)
            or sum(buffer.size_bytes for buffer in buffers) > MAX_HELD_BYTES
            or sum(map(len, buffers)) > MAX_HELD_RECORDS
        )

    def _assigned(self, places: Sequence[Partition]) -> None:
        held = self._store.next_offsets()
        committed = self._client.committed(places)
        starts: dict[Partition, int | None] = {}
        for name, partition in places:
            topic = name.removeprefix(self._prefix)
            buffer = PartitionBuffer(topic=topic, partition=partition)
            offset, text = committed.get((name, partition), (-1, ""))
            mark = Mark.from_text(text) if offset >= 0 else None
            if mark is not None and mark.store_id == self._store_id:
                buffer.repeat = mark.under_way
                starts[name, partition] = offset
            else:  # this store was never committed for: it says itself how far it is
                starts[name, partition] = held.get((topic, partition))
            self._buffers[topic, partition] = buffer
        self._places = tuple(places)
        self._progress.assigned(places)
        self._client.start(starts)
        log.info("partitions assigned", count=len(places), store=self._store_id)
        self._on_ready()

    def _revoked(self, places: Sequence[Partition]) -> None:
        self._progress.revoked(places)
        self._places = tuple(place for place in self._places if place not in places)
        for name, partition in places:
            self._buffers.pop((name.removeprefix(self._prefix), partition), None)

    def _look_for_replacement(self) -> None:
        if replacement_waits(self._settings, self._store):
            self.flush()
            replace(self._settings)
            raise StoreReplaced("the rebuilt database took over; starting at its positions")


def _records(chunk: Chunk) -> Records:
    return Records(
        raw=chunk.raw,
        offsets=chunk.offsets,
        log_ms=chunk.timestamps_ms,
        value_starts=chunk.value_starts,
        value_lengths=chunk.value_lengths,
        key_starts=chunk.key_starts,
        key_lengths=chunk.key_lengths,
    )
