"""Reading the log outside a consumer group: from a position to a captured end, as a read_committed reader sees it.

"Caught up" always means: end of partition was reported at or past an end captured before. Offset differences prove
nothing, because control markers and aborted records occupy offsets.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.record import Record, TopicPosition
from skeet.core.values import NS_PER_MS
from skeet.health import HEALTH
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.door import Door
from skeet.streams.kafka import consumer
from skeet.streams.topics import Topic, partition_count, topic_name

POLL_S = 0.2
WATERMARK_TIMEOUT_S = 10.0
READ_DEADLINE_S = 120.0
"""A captured end that is not reached within this time of silence means that the broker is away."""

LEADER_DEADLINE_S = 15.0
"""A new partition gets its leader within this time even on a busy machine."""
LEADER_POLL_S = 0.1
LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    # A starved broker whose controller took it for dead is missing from one answer about the cluster: the client lets go of it.
    KafkaError._DESTROY_BROKER,
    KafkaError._UNKNOWN_PARTITION,
)

Partition = tuple[str, int]
"""The broker's topic name, and the partition."""


def record_of(codec: Codec, message: Message, prefix: str) -> Record[Any]:
    """Decode a message; its topic loses the prefix, its time is the log's.

    Raises
    ------
    DecodeError, UnknownEvent
        see :meth:`Codec.decode`.
    """
    event, meta = codec.decode(message.value() or b"")
    _, timestamp_ms = message.timestamp()
    position = TopicPosition(message.topic().removeprefix(prefix), message.partition(), message.offset())
    return Record(event=event, meta=meta, at=position, log_ns=timestamp_ms * NS_PER_MS)


def partitions_of(settings: Settings, topics: Iterable[Topic]) -> list[Partition]:
    """Every partition of the topics, by the counts fixed at genesis."""
    return [(topic_name(t, settings.kafka), p) for t in topics for p in range(partition_count(t, settings.kafka))]


def end_offsets(client: Consumer, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """High watermarks (last stable for read_committed readers) at this moment."""
    return {place: watermarks_of(client, place)[1] for place in partitions}


def watermarks_of(client: Consumer, place: Partition) -> tuple[int, int]:
    """First kept offset and high watermark of a partition.

    One that was just made, or whose broker just died, has no leader for a moment: asked again, with a limit.

    Raises
    ------
    InfrastructureError
        the broker does not answer, or does not know the topic.
    """
    topic, partition = place
    deadline = time.monotonic() + LEADER_DEADLINE_S
    while True:
        try:
            found = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=WATERMARK_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() not in LEADERLESS or time.monotonic() > deadline:
                raise InfrastructureError(f"end of {topic}/{partition}: {error.args[0].str()}") from error
            time.sleep(LEADER_POLL_S)
            continue
        if found is None:
            raise InfrastructureError(f"end of {topic}/{partition}: no answer in {WATERMARK_TIMEOUT_S:.0f} s")
        start, end = found
        return start, end


def written_offsets(settings: Settings, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """High watermarks at this moment, records of transactions that are still open included."""
    client = consumer(settings, "skeet-ends", isolation_level="read_uncommitted")
    try:
        return end_offsets(client, partitions)
    finally:
        client.close()


def messages_until_end(
    settings: Settings,
    partitions: list[Partition],
    start: Mapping[Partition, int] | None = None,
    ends: Mapping[Partition, int] | None = None,
) -> Generator[Message, None, None]:
    """Messages from ``start`` (default: the beginning) up to the ends captured when this is called, then stop.

    Messages of one partition come in order; partitions interleave. Nothing committed before the call is left out, and nothing
    of what comes later is read: where somebody writes all the time, the broker never reports an end. With ``ends`` (see
    :func:`written_offsets`) it waits until every transaction that was open below them has ended.
    """
    client = consumer(settings, "skeet-reader", enable_partition_eof=True)
    try:
        offsets = [TopicPartition(t, p, (start or {}).get((t, p), OFFSET_BEGINNING)) for t, p in partitions]
        client.assign(offsets)
        # Not the last stable offset: a transaction's end is told to its writer before it is told to the partitions.
        wanted = ends if ends is not None else written_offsets(settings, partitions)
        pending = {partition for partition in partitions if wanted[partition] > 0}
        silent_s = 0.0
        while pending:
            HEALTH.beat()
            message = client.poll(POLL_S)
            if message is None:
                silent_s += POLL_S
                if silent_s > READ_DEADLINE_S:
                    raise InfrastructureError(
                        f"no answer from Kafka for {READ_DEADLINE_S:.0f} s while reading {pending}"
                    )
                continue
            silent_s = 0.0
            error, partition, offset = message.error(), (message.topic(), message.partition()), message.offset()
            if error is None:
                if partition in pending and offset < wanted[partition]:
                    yield message
                if offset + 1 >= wanted[partition]:
                    pending.discard(partition)
            elif error.code() == KafkaError._PARTITION_EOF:  # behind it are only markers and aborted records
                if ends is None or offset >= ends[partition]:
                    pending.discard(partition)
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
                raise InfrastructureError(f"reading {message.topic()}: {error.str()}")
    finally:
        client.close()


def records_until_end(
    settings: Settings, codec: Codec, topics: Iterable[Topic], start: Mapping[Partition, int] | None = None
) -> Iterator[Record[Any]]:
    """:func:`messages_until_end` of whole topics, decoded. What is no record of its topic is left out with a warning: the
    role that answers for the topic writes its dead letter."""
    door = Door(settings.kafka, codec)
    for message in messages_until_end(settings, partitions_of(settings, topics), start):
        try:
            yield door.message(message)
        except InvalidInput as error:
            at = f"{message.topic()}/{message.partition()}/{message.offset()}"
            logger().warning("unreadable record left out", at=at, cause=str(error))
