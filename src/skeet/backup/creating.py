"""``create``: a cut, the exchange's files, then every record; the folder gets its name once it is whole."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from confluent_kafka import KafkaError, TopicPartition

from skeet.backup.cut import Cut, Place, take_cut
from skeet.backup.files import copy_files
from skeet.backup.layout import Manifest, PartitionBackup, TopicBackup, write_manifest
from skeet.backup.segments import Stored, write_segments
from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.streams.kafka import consumer

BATCH = 2_000
POLL_S = 0.2
SILENCE_LIMIT_S = 60.0

Progress = Callable[[int, int], None]
"""Called with offsets passed and offsets in all."""


def create(settings: Settings, folder: Path, progress: Progress = lambda done, total: None) -> Manifest:
    """Back this installation up into a folder that does not exist yet; while it is made it is called ``FOLDER.partial``.

    Raises
    ------
    InvalidInput
        the folder exists.
    InfrastructureError
        Kafka is away, or there was no quiet moment; nothing of the name ``folder`` is left behind.
    """
    if folder.exists():
        raise InvalidInput(f"{folder} exists: name a new folder; backups are never changed")
    with _partial(folder) as partial:
        cut = take_cut(settings)
        created_ns = time.time_ns()
        # At once, so that venue and log are of the same moment.
        files = copy_files(settings, partial)
        manifest = Manifest(
            created_ns=created_ns,
            skeet_version=version("skeet"),
            topic_prefix=settings.kafka.topic_prefix,
            account_partitions=settings.kafka.account_partitions,
            market_partitions=settings.kafka.market_partitions,
            topics=_topics(settings, partial, cut, progress),
            positions=cut.positions,
            files=files,
        )
        write_manifest(partial, manifest)
        partial.rename(folder)
    return manifest


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """A fresh folder beside the wanted one; what a killed run left there is deleted, a running one is not disturbed."""
    partial = folder.with_name(folder.name + ".partial")
    lock_path = folder.with_name(folder.name + ".lock")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInput(f"another backup is being made as {folder}; name another folder, or wait") from None
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock_path.unlink(missing_ok=True)


def _topics(settings: Settings, folder: Path, cut: Cut, progress: Progress) -> tuple[TopicBackup, ...]:
    total = sum(end - first for first, end in cut.ranges.values())
    passed = 0
    found: dict[str, list[PartitionBackup]] = {name: [] for name, _ in cut.ranges}
    for (name, partition), (first, end) in cut.ranges.items():
        records = _told(delivered(settings, (name, partition), first, end), passed - first, total, progress)
        segments = tuple(write_segments(folder, name, partition, records))
        found[name].append(PartitionBackup(partition=partition, first=first, end=end, segments=segments))
        passed += end - first
        progress(passed, total)
    return tuple(
        TopicBackup(name=name, config=cut.configs[name], partitions=tuple(partitions))
        for name, partitions in found.items()
    )


def _told(records: Iterator[Stored], before: int, total: int, progress: Progress) -> Iterator[Stored]:
    for number, record in enumerate(records):
        if number % BATCH == 0:
            progress(before + record.offset, total)
        yield record


def delivered(settings: Settings, place: Place, first: int, end: int) -> Iterator[Stored]:
    """What a read_committed reader is delivered of one partition from ``first`` up to ``end`` (excluded).

    Raises
    ------
    InfrastructureError
        Kafka fell silent, or records were deleted meanwhile by retention.
    """
    if first >= end:
        return
    client = consumer(settings, "skeet-backup", enable_partition_eof=True, auto_offset_reset="error")
    try:
        client.assign([TopicPartition(*place, first)])
        silent_s = 0.0
        while True:
            messages = client.consume(BATCH, POLL_S)
            silent_s = 0.0 if messages else silent_s + POLL_S
            if silent_s > SILENCE_LIMIT_S:
                raise InfrastructureError(
                    f"Kafka was silent for {SILENCE_LIMIT_S:.0f} s while {place[0]}/{place[1]} was read"
                )
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    if message.offset() >= end:
                        return
                elif error is not None and not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
                    raise InfrastructureError(f"reading {place[0]}/{place[1]}: {error.str()}")
                elif error is None:
                    if message.offset() >= end:
                        return
                    _, timestamp_ms = message.timestamp()
                    headers = tuple((name, value) for name, value in message.headers() or ())
                    yield Stored(message.offset(), timestamp_ms, message.key(), message.value(), headers)
                    if message.offset() == end - 1:
                        return
    finally:
        client.close()
