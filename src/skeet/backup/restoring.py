"""``restore``: refuse what cannot end well, then topics, records at their offsets, settings, positions, the exchange's files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from skeet.backup.checking import check
from skeet.backup.cut import REQUEST_S, Place, ends, places_of, positions_of
from skeet.backup.files import EXCHANGE, put_back
from skeet.backup.layout import Manifest, PartitionBackup, TopicBackup
from skeet.backup.segments import Stored, read_segment
from skeet.backup.steps import Dropped, Step, steps
from skeet.backup.writing import LogWriter
from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.streams.kafka import admin, consumer

WHILE_RESTORING: Mapping[str, str] = {
    # Old records are not to expire or be compacted under the writer's hands, and keep the time they were appended at.
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
}

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def refuse_other_installation(settings: Settings, manifest: Manifest) -> None:
    """Whether this backup fits these settings and this data directory.

    Raises
    ------
    InvalidInput
        names the setting or the folder, and the remedy.
    """
    for name in ("topic_prefix", "account_partitions", "market_partitions"):
        ours, theirs = getattr(settings.kafka, name), getattr(manifest, name)
        if ours != theirs:
            raise InvalidInput(
                f"SKEET_KAFKA__{name.upper()} is {ours!r}, the backup was made with {theirs!r}: set it to that, for offsets and"
                " keys mean nothing under another"
            )
    for folder in (
        settings.data / EXCHANGE,
        settings.archive_dir,
        settings.data / "postgres",
        settings.data / "clickhouse",
    ):
        if folder.exists() and any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty: restore into an empty data directory (--data DIR)")


def restore(settings: Settings, folder: Path, progress: Progress = lambda what, done, total: None) -> Manifest:
    """Write a backup into empty brokers and an empty data directory.

    The stores must be empty too: they are filled from the log. A restore that fails leaves half-written topics: delete them
    (or the data directory) and begin again.

    Raises
    ------
    InvalidInput
        the target is not empty, or is of another shape; BackupDamaged: a file of the backup is bad. Nothing was changed.
    InfrastructureError
        a broker failed while writing.
    """
    manifest = check(folder, lambda done, total: progress("checking", done, total))
    refuse_other_installation(settings, manifest)
    client = admin(settings)
    try:
        _refuse_full_brokers(client, settings)
        _create_topics(client, settings, manifest)
        _write_records(client, settings, folder, manifest, progress)
        _set_configs(client, manifest)
        _commit_positions(settings, manifest)
    except KafkaException as error:
        raise InfrastructureError(f"restoring: {error.args[0].str()}") from error
    put_back(settings, folder, manifest.files)
    return manifest


def _refuse_full_brokers(client: AdminClient, settings: Settings) -> None:
    topics = sorted({topic for topic, _ in places_of(client, settings)})
    if topics:
        raise InvalidInput(
            f"Kafka at {settings.kafka.bootstrap} has topic {topics[0]}: restore into brokers without topics of"
            f" {settings.kafka.topic_prefix}* and without _schemas"
        )
    positions = positions_of(client, settings)
    if positions:
        raise InvalidInput(
            f"Kafka at {settings.kafka.bootstrap} has positions of consumer group {positions[0].group}: restore into empty brokers"
        )


def _create_topics(client: AdminClient, settings: Settings, manifest: Manifest) -> None:
    wanted = [
        NewTopic(topic.name, len(topic.partitions), settings.kafka.replication_factor, config=dict(WHILE_RESTORING))
        for topic in manifest.topics
    ]
    for name, answer in client.create_topics(wanted, operation_timeout=REQUEST_S).items():
        try:
            answer.result(REQUEST_S)
        except KafkaException as error:
            raise InfrastructureError(f"creating {name}: {error.args[0].str()}") from error


def _write_records(
    client: AdminClient, settings: Settings, folder: Path, manifest: Manifest, progress: Progress
) -> None:
    wanted = {(topic.name, each.partition): each for topic in manifest.topics for each in topic.partitions}
    total = sum(each.end for each in wanted.values())
    dropped: dict[Place, int] = defaultdict(int)
    done = 0

    def noted(place: Place, each: PartitionBackup) -> Iterator[Step]:
        for step in steps(_records(folder, each), each.first, each.end):
            if isinstance(step, Dropped):
                dropped[place] += step.fillers
            yield step

    def passed(count: int) -> None:
        nonlocal done
        done += count
        progress("restoring", done, total)

    LogWriter(settings).write({place: noted(place, each) for place, each in wanted.items()}, passed)
    before = [TopicPartition(*place, count) for place, count in dropped.items()]
    for deletion in client.delete_records(before, request_timeout=REQUEST_S).values() if before else ():
        deletion.result()
    found = ends(client, wanted)
    for place, each in wanted.items():
        if found[place] != each.end:
            raise InfrastructureError(f"{place[0]}/{place[1]} ends at {found[place]}, the backup's end is {each.end}")


def _records(folder: Path, partition: PartitionBackup) -> Iterator[Stored]:
    for segment in partition.segments:
        yield from read_segment(folder, segment)


def _set_configs(client: AdminClient, manifest: Manifest) -> None:
    """The settings each topic had; what was set for the restore only goes back to the broker's default."""
    changes = [
        ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=_entries(topic)) for topic in manifest.topics
    ]
    for answer in client.incremental_alter_configs(changes, request_timeout=REQUEST_S).values():
        answer.result(REQUEST_S)


def _entries(topic: TopicBackup) -> list[ConfigEntry]:
    entries: list[Any] = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in topic.config.items()
    ]
    entries += [
        ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE)
        for name in WHILE_RESTORING
        if name not in topic.config
    ]
    return entries


def _commit_positions(settings: Settings, manifest: Manifest) -> None:
    by_group: dict[str, list[TopicPartition]] = defaultdict(list)
    for each in manifest.positions:
        by_group[each.group].append(TopicPartition(each.topic, each.partition, each.offset, metadata=each.metadata))
    for group, offsets in by_group.items():
        client = consumer(settings, "skeet-restore", group_id=group)
        try:
            for committed in client.commit(offsets=offsets, asynchronous=False) or ():
                if committed.error is not None:
                    raise InfrastructureError(f"position of {group} in {committed.topic}: {committed.error.str()}")
        finally:
            client.close()
