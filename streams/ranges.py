"""Reading parts of the log outside a group: from an offset up to another, or the last records of a partition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.record import Record
from skeet.core.values import NS_PER_MS
from skeet.health import HEALTH
from skeet.schemas.codec import Codec
from skeet.streams.door import Door
from skeet.streams.kafka import consumer
from skeet.streams.reading import watermarks_of

Partition = tuple[str, int]
"""The broker's topic name, and the partition."""

SILENCE_LIMIT_S = 30.0
"""A broker that sends nothing for this long while there is something to read is away."""
BATCH = 1_000


def watermarks(settings: Settings, partitions: list[Partition]) -> dict[Partition, tuple[int, int]]:
    """First and next offset of each partition now; InfrastructureError when the broker does not answer."""
    client = consumer(settings, "skeet-watermarks")
    try:
        return {place: watermarks_of(client, place) for place in partitions}
    finally:
        client.close()


def offsets_at(settings: Settings, partitions: list[Partition], log_ns: int) -> dict[Partition, int]:
    """Offset of the first record at or after the log's time, of each partition; its end where there is none."""
    client = consumer(settings, "skeet-offsets")
    try:
        wanted = [TopicPartition(t, p, log_ns // NS_PER_MS) for t, p in partitions]
        found = client.offsets_for_times(wanted, timeout=10)
        ends = {(t, p): client.get_watermark_offsets(TopicPartition(t, p), timeout=10)[1] for t, p in partitions}
        return {(f.topic, f.partition): f.offset if f.offset >= 0 else ends[f.topic, f.partition] for f in found}
    finally:
        client.close()


def records_between(
    settings: Settings,
    codec: Codec,
    ranges: Mapping[Partition, tuple[int, int]],
    keys: Mapping[str, bytes] | None = None,
) -> Iterator[Record[Any]]:
    """Records from the first offset up to the second (excluded) of each partition, as a read_committed reader sees them.

    ``keys`` keeps only records of that key, by the broker's topic name. Unreadable records are left out: the agent that
    reads them in its stream has written their dead letter.
    """
    pending = {partition: (first, end) for partition, (first, end) in ranges.items() if end > first}
    if not pending:
        return
    client = consumer(settings, "skeet-ranges", enable_partition_eof=True)
    try:
        client.assign([TopicPartition(t, p, first) for (t, p), (first, _) in pending.items()])
        yield from _messages(client, Door(settings.kafka, codec), pending, keys or {})
    finally:
        client.close()


def _messages(
    client: Consumer,
    door: Door,
    pending: dict[Partition, tuple[int, int]],
    keys: Mapping[str, bytes],
) -> Iterator[Record[Any]]:
    silent_s = 0.0
    while pending:
        HEALTH.beat()
        messages = client.consume(BATCH, 0.1)
        silent_s = 0.0 if messages else silent_s + 0.1
        if silent_s > SILENCE_LIMIT_S:
            raise InfrastructureError(
                f"no answer from Kafka for {SILENCE_LIMIT_S:.0f} s while reading {sorted(pending)}"
            )
        for message in messages:
            partition = (message.topic(), message.partition())
            error = message.error()
            if error is not None:
                _check(error)
                if error.code() == KafkaError._PARTITION_EOF:
                    pending.pop(partition, None)
                continue
            _, end = pending.get(partition, (0, 0))
            if message.offset() + 1 >= end:
                pending.pop(partition, None)
            if message.offset() >= end or message.key() != keys.get(partition[0], message.key()):
                continue
            try:
                yield door.message(message)
            except InvalidInput:
                continue


def _check(error: KafkaError) -> None:
    """Raise what waiting does not cure."""
    if (
        error.code() != KafkaError._PARTITION_EOF
        and not error.retriable()
        and error.code() != KafkaError._ALL_BROKERS_DOWN
    ):
        raise InfrastructureError(f"reading the log: {error.str()}")
