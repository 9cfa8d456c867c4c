"""Rebuilding the history from the topics beside the one in use, and putting it in its place.

The new database is filled up to an end captured at the start and then marked complete. A running projection finds it,
finishes its block, swaps the databases and goes on from the new one's own positions; without one the command swaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.projections.archive_files import Manifest, difference, manifests, read_segment
from skeet.projections.blocks import PartitionBuffer
from skeet.projections.clickhouse_store import (
    REBUILD_SUFFIX,
    REPLACED_SUFFIX,
    HistoryStore,
    TableChecksum,
    quoted,
)
from skeet.projections.history import TABLE_OF_TOPIC, TABLES
from skeet.projections.history_columns import BlockReader
from skeet.projections.records import StoredRecord
from skeet.schemas.codec import Codec
from skeet.streams.kafka import consumer
from skeet.streams.ranges import watermarks
from skeet.streams.reading import Partition, end_offsets, messages_until_end, partitions_of

COMPLETE = "rebuild_complete"
"""A table whose being there says that the rebuilt database may take over."""

Progress = Callable[[int, int], None]
"""Called with records done and the highest number there can be (control markers occupy offsets)."""


def rebuild_beside(settings: Settings, codec: Codec, progress: Progress = lambda done, total: None) -> HistoryStore:
    """Fill an empty database beside the one in use from the topics, up to their present ends. Not yet complete:
    :func:`mark_complete` or :func:`replace` is the caller's decision."""
    store = HistoryStore(settings, REBUILD_SUFFIX)
    store.command_outside(f"DROP DATABASE IF EXISTS {quoted(store.database)} SYNC")
    store.migrate()
    fill(settings, codec, store, progress)
    return store


def fill(settings: Settings, codec: Codec, store: HistoryStore, progress: Progress = lambda done, total: None) -> None:
    """Copy every record of the history topics up to their present ends into an empty store.

    What left the log comes from the archive, as far as it lies on this machine.

    Raises
    ------
    InfrastructureError
        a segment of the archive is damaged, or records left the log meanwhile: the copy may have a hole.
    """
    prefix = settings.kafka.topic_prefix
    partitions = partitions_of(settings, [table.topic for table in TABLES])
    total = _log_size(settings, partitions)
    reader = BlockReader(codec)
    buffers = {(t, p): PartitionBuffer(topic=t.removeprefix(prefix), partition=p) for t, p in partitions}
    starts = {partition: start for partition, (start, _) in watermarks(settings, partitions).items()}
    for manifest, record in archived_before(settings, starts):
        buffer = buffers[prefix + manifest.topic, manifest.partition]
        buffer.add(record)
        if buffer.full:
            _drain(buffer, reader, store)
    for done, message in enumerate(messages_until_end(settings, partitions, starts), start=1):
        buffer = buffers[message.topic(), message.partition()]
        _, log_ms = message.timestamp()
        buffer.add(StoredRecord(message.offset(), log_ms, message.key() or b"", message.value() or b""))
        if buffer.full:
            _drain(buffer, reader, store)
            progress(done, total)
    for buffer in buffers.values():
        _drain(buffer, reader, store)
    moved = [place for place, (start, _) in watermarks(settings, partitions).items() if start > starts[place]]
    if moved:
        raise InfrastructureError(f"records left {moved} while they were copied; run the rebuild again")
    progress(total, total)


def archived_before(settings: Settings, starts: Mapping[Partition, int]) -> Iterator[tuple[Manifest, StoredRecord]]:
    """Records of the history topics that the archive holds and the log no longer does, in order within a partition.

    Raises
    ------
    InfrastructureError
        a segment is not what was sealed: nothing may be rebuilt from it.
    """
    prefix, root = settings.kafka.topic_prefix, settings.archive_dir
    for manifest in manifests(root):
        start = starts.get((prefix + manifest.topic, manifest.partition), 0)
        if manifest.topic not in TABLE_OF_TOPIC or manifest.first_offset >= start:
            continue
        if wrong := difference(root, manifest):
            raise InfrastructureError(f"{wrong}; move it away to rebuild without its range")
        for record in read_segment(root, manifest):
            if record.offset < start:
                yield manifest, record


def carry_over_expired(settings: Settings, rebuilt: HistoryStore) -> int:
    """Copy rows that the log no longer holds from the database in use, so that a rebuild never forgets. Returns how many.

    They are older than the first record that the log still delivered: below the smallest offset rebuilt of their partition,
    or of a partition that the log delivered nothing of.
    """
    current = HistoryStore(settings)
    if not current.exists():
        return 0
    first = {
        (topic, partition): offset
        for topic, partition, offset in rebuilt.rows(
            "SELECT log_topic, log_partition, min(log_offset) FROM log_records GROUP BY 1, 2"
        )
    }
    before = {position: min(end, first.get(position, end)) for position, end in current.next_offsets().items()}
    moved = 0
    for checksum in current.checksums(before):
        if checksum.rows:
            rebuilt.copy_below(checksum.table, current.database, before)
            moved += checksum.rows
    return moved


def comparable_checksums(
    current: HistoryStore, rebuilt: HistoryStore
) -> tuple[list[TableChecksum], list[TableChecksum]]:
    """Checksums of both stores over the records that both had the time to copy."""
    held, built = current.next_offsets(), rebuilt.next_offsets()
    both = {position: min(held.get(position, 0), end) for position, end in built.items()}
    return current.checksums(both), rebuilt.checksums(both)


def mark_complete(rebuilt: HistoryStore) -> None:
    """Let a running projection put the rebuilt database in place."""
    rebuilt.command(f"CREATE TABLE IF NOT EXISTS {COMPLETE} (x UInt8) ENGINE = Memory")


def replacement_waits(settings: Settings, store: HistoryStore | None = None) -> bool:
    """Whether a rebuilt database is complete and not in place yet."""
    opened = store or HistoryStore(settings)
    name = settings.clickhouse.database + REBUILD_SUFFIX
    sql = "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {table:String}"
    return bool(opened.rows_outside(sql, {"database": name, "table": COMPLETE})[0][0])


def replace(settings: Settings) -> None:
    """Put the rebuilt database in the place of the one in use, and drop that. Repeating a half-done one finishes it."""
    current, rebuilt = HistoryStore(settings), HistoryStore(settings, REBUILD_SUFFIX)
    if not rebuilt.exists():
        raise InvalidInput(f"there is no database {rebuilt.database}; run `skeet projection rebuild clickhouse`")
    replaced = settings.clickhouse.database + REPLACED_SUFFIX
    if current.exists():
        current.command_outside(f"DROP DATABASE IF EXISTS {quoted(replaced)} SYNC")
        current.command_outside(f"RENAME DATABASE {quoted(current.database)} TO {quoted(replaced)}")
    current.command_outside(f"RENAME DATABASE {quoted(rebuilt.database)} TO {quoted(current.database)}")
    current.command(f"DROP TABLE IF EXISTS {COMPLETE} SYNC")
    current.migrate()  # views name their database: they are made again under the new name
    current.command_outside(f"DROP DATABASE IF EXISTS {quoted(replaced)} SYNC")


def finish_interrupted_replacement(settings: Settings) -> None:
    """After a process died between the two renames: the database in use is missing, a complete one waits."""
    store = HistoryStore(settings)
    try:
        if not store.exists() and replacement_waits(settings, store):
            replace(settings)
    finally:
        store.close()


def _drain(buffer: PartitionBuffer, reader: BlockReader, store: HistoryStore) -> None:
    while block := buffer.next_block():
        for insert in reader.inserts_of(block)[0]:
            store.insert(insert.table, insert.rows, block.token)
        buffer.stored(block)


def _log_size(settings: Settings, partitions: list[Partition]) -> int:
    client = consumer(settings, "skeet-rebuild")
    try:
        return sum(end_offsets(client, partitions).values())
    finally:
        client.close()
