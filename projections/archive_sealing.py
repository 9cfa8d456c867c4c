"""From the log into the archive and out of the log: seal ranges, prove them, let them leave.

A range passes the steps in this order, and each is repeatable: segment and manifest on disk → read back → equal to
ClickHouse → SegmentSealed in the log → deleted from the log. Deleting comes last and is asked for from outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.core.retention import Place, SealedRange, expirable, to_expire
from skeet.health import HEALTH
from skeet.process import logger
from skeet.projections.archive_files import Manifest, Proof, difference, manifests, write_manifest, write_segment
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history import TABLE_OF_TOPIC, UNREADABLE
from skeet.projections.records import StoredRecord
from skeet.streams.access import BUDGETED
from skeet.streams.crash_points import ARCHIVE_AFTER_ANNOUNCED, reach
from skeet.streams.kafka import admin
from skeet.streams.ranges import watermarks
from skeet.streams.reading import messages_until_end, partitions_of
from skeet.streams.topics import TOPIC_BY_NAME

MAX_SEGMENT_RECORDS = 200_000
"""A segment is held in memory while it is made: so many records are about 100 MB of Python objects at most."""
ADMIN_TIMEOUT_S = 30.0

log = logger()


class Archive:
    """The archive of one installation. Not thread-safe; one process at a time works on it (see ``archive.main``)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = settings.kafka.topic_prefix
        self.root: Path = settings.archive_dir
        self._sealed: dict[Place, list[Manifest]] = {}
        self._waiting: dict[Place, tuple[int, float]] = {}
        self._differing: set[str] = set()
        for manifest in manifests(self.root):
            self._sealed.setdefault((manifest.topic, manifest.partition), []).append(manifest)

    @property
    def segments(self) -> list[Manifest]:
        """Every segment, by topic, partition and offset."""
        return [manifest for place in sorted(self._sealed) for manifest in self._sealed[place]]

    def ranges(self) -> dict[Place, tuple[int, int]]:
        """First and next offset that the log holds of each partition of the market topics, now."""
        found = watermarks(self._settings, partitions_of(self._settings, BUDGETED))
        return {(topic.removeprefix(self._prefix), partition): ends for (topic, partition), ends in found.items()}

    def seal(self, ranges: Mapping[Place, tuple[int, int]], *, all_of_it: bool = False) -> list[Manifest]:
        """Seal at most one segment of every partition that has a full one, or records that waited long enough.

        ``all_of_it``: seal what there is, full or not. Returns the new segments, already read back.

        Raises
        ------
        InfrastructureError
            Kafka is away, the disk is full, or a segment read back is not what was written.
        """
        made = []
        for place, (start, end) in ranges.items():
            HEALTH.beat()
            first = max(start, self._next(place))
            if first < end and (all_of_it or self._waited(place, first, end)):
                records = self._records(place, first)
                full = sum(len(record.value) for record in records) >= self._settings.archive.segment_size
                if records and (full or all_of_it or self._old(place, first)):
                    made.append(self._write(place, first, records))
                    self._waiting.pop(place, None)
        return made

    def prove(self, store: Callable[[], HistoryStore]) -> list[Manifest]:
        """Compare with ClickHouse the segments that were not yet; what it does not hold yet is left for the next time.

        Topics that are no history need no more than to be read back. Returns the segments proven now.
        """
        proven = []
        waits: set[Place] = set()
        for manifest in self.segments:
            place = (manifest.topic, manifest.partition)
            if is_proven(manifest) or place in waits:
                continue
            held = stored_sums(store(), manifest)
            if held == (manifest.records, manifest.record_crc):
                proven.append(self._replace(manifest, replace(manifest, proof=Proof.CLICKHOUSE)))
                continue
            waits.add(place)  # ClickHouse stores a partition in order: it has none of what follows either
            if held[0] >= manifest.records and manifest.stem not in self._differing:
                self._differing.add(manifest.stem)
                log.error("ClickHouse differs from a sealed segment", segment=manifest.stem, rows=held[0], crc=held[1])
        return proven

    def announce(self, publish: Callable[[Manifest], None]) -> None:
        """``publish`` every proven segment once; a crash in between repeats it."""
        for manifest in self.segments:
            if is_proven(manifest) and not manifest.announced:
                publish(manifest)
                reach(ARCHIVE_AFTER_ANNOUNCED)
                self._replace(manifest, replace(manifest, announced=True))

    def expire(self, wanted: int, ranges: Mapping[Place, tuple[int, int]], sizes: Mapping[Place, int]) -> list[Place]:
        """Let proven and announced segments leave the log, oldest first, until about ``wanted`` bytes are free.

        Parameters
        ----------
        sizes
            bytes that each partition takes in the log now; unknown ones are estimated from the records.

        Returns the partitions that records left. Kafka gives the space back at its next look at the files.
        """
        now_ms = time.time_ns() // 1_000_000
        young_ms = int(self._settings.archive.keep_minutes * 60_000)
        kept_after = {topic.name: now_ms - max(young_ms, topic.kept_at_least_ms) for topic in BUDGETED}
        starts = {place: start for place, (start, _) in ranges.items()}
        sealed = [self._range(manifest, ranges, sizes) for manifest in self.segments]
        chosen = to_expire(expirable(sealed, starts, kept_after), wanted)
        ends = {(each.topic, each.partition): each.next_offset for each in chosen}
        self._delete_below(ends)
        return list(ends)

    def _range(
        self, manifest: Manifest, ranges: Mapping[Place, tuple[int, int]], sizes: Mapping[Place, int]
    ) -> SealedRange:
        place = (manifest.topic, manifest.partition)
        start, end = ranges.get(place, (0, 0))
        span = manifest.next_offset - manifest.first_offset
        size = sizes[place] * span // max(1, end - start) if place in sizes else manifest.file_bytes
        return SealedRange(
            topic=manifest.topic,
            partition=manifest.partition,
            first_offset=manifest.first_offset,
            next_offset=manifest.next_offset,
            last_ms=manifest.last_ms,
            size=size,
            verified=is_proven(manifest) and manifest.announced,
        )

    def _delete_below(self, ends: Mapping[Place, int]) -> None:
        if not ends:
            return
        client = admin(self._settings)
        wanted = [TopicPartition(self._prefix + topic, partition, end) for (topic, partition), end in ends.items()]
        try:
            for future in client.delete_records(wanted, request_timeout=ADMIN_TIMEOUT_S).values():
                future.result(timeout=ADMIN_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise InfrastructureError(f"deleting sealed records from Kafka: {error!r}") from error
        log.info("sealed records left the log", below={f"{t}/{p}": end for (t, p), end in ends.items()})

    def _next(self, place: Place) -> int:
        sealed = self._sealed.get(place)
        return sealed[-1].next_offset if sealed else 0

    def _waited(self, place: Place, first: int, end: int) -> bool:
        """Whether it is worth reading: many records, or old ones; offsets are cheap to know, bytes are not."""
        if self._waiting.get(place, (-1, 0.0))[0] != first:
            self._waiting[place] = (first, time.monotonic())
        return end - first >= self._settings.archive.segment_size // 1024 or self._old(place, first)

    def _old(self, place: Place, first: int) -> bool:
        position, since = self._waiting.get(place, (first, 0.0))
        return position == first and time.monotonic() - since >= self._settings.archive.seal_after_s

    def _records(self, place: Place, first: int) -> list[StoredRecord]:
        """Committed records from an offset on: up to a segment's size, or what there is."""
        broker_place = (self._prefix + place[0], place[1])
        records: list[StoredRecord] = []
        size = 0
        with closing(messages_until_end(self._settings, [broker_place], {broker_place: first})) as messages:
            for message in messages:
                record = StoredRecord(
                    message.offset(), message.timestamp()[1], message.key() or b"", message.value() or b""
                )
                records.append(record)
                size += len(record.value)
                if size >= self._settings.archive.segment_size or len(records) >= MAX_SEGMENT_RECORDS:
                    break
        return records

    def _write(self, place: Place, first: int, records: list[StoredRecord]) -> Manifest:
        manifest = write_segment(self.root, *place, first, records)
        if wrong := difference(self.root, manifest):
            raise InfrastructureError(f"a segment read back is not what was written: {wrong}")
        manifest = replace(manifest, proof=Proof.FILE)
        write_manifest(self.root, manifest)
        self._sealed.setdefault(place, []).append(manifest)
        log.info("sealed", segment=manifest.stem, records=manifest.records, bytes=manifest.file_bytes)
        return manifest

    def _replace(self, old: Manifest, new: Manifest) -> Manifest:
        write_manifest(self.root, new)
        sealed = self._sealed[old.topic, old.partition]
        sealed[sealed.index(old)] = new
        return new


def is_proven(manifest: Manifest) -> bool:
    """Whether everything was compared that can be: ClickHouse where the topic is history, else the file alone."""
    topic = TOPIC_BY_NAME.get(manifest.topic)
    needed = Proof.CLICKHOUSE if topic is not None and topic.history else Proof.FILE
    return manifest.proof is needed or manifest.proof is Proof.CLICKHOUSE


def stored_sums(store: HistoryStore, manifest: Manifest) -> tuple[int, int]:
    """Rows and sum of record CRCs that ClickHouse holds of the segment's range."""
    table = TABLE_OF_TOPIC[manifest.topic].name
    where = (
        f"log_partition = {manifest.partition} "
        f"AND log_offset >= {manifest.first_offset} AND log_offset < {manifest.next_offset}"
    )
    sql = (
        f"SELECT count(), sum(record_crc) FROM (SELECT record_crc FROM {table} WHERE {where} UNION ALL "
        f"SELECT record_crc FROM {UNREADABLE} WHERE log_topic = {{topic:String}} AND {where})"
    )
    count, crc = store.rows(sql, {"topic": manifest.topic})[0]
    return int(count), int(crc)
