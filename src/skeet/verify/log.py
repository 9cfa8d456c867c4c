"""The log as a read_committed consumer is delivered it, from its start to the end captured when reading began."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from skeet.config import Settings
from skeet.connections.kafka import kafka_options, require_kafka
from skeet.verify.avro import Decoder, Unreadable, WriterSchema
from skeet.verify.findings import CannotVerify

TIMEOUT_S = 15.0
BATCH = 2_000
POLL_S = 0.2
SILENCE_LIMIT_S = 60.0

Place = tuple[str, int]
"""Topic without the installation's prefix, and partition."""


class Entry(NamedTuple):
    """One record as delivered. ``schema`` is None, and ``values`` empty, for bytes that are no record of their topic."""

    topic: str
    partition: int
    offset: int
    ts_ms: int
    value: bytes
    schema: WriterSchema | None
    values: dict[str, Any]

    @property
    def at(self) -> str:
        """``topic/partition/offset``."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Log:
    """Raw access to the installation's topics."""

    def __init__(self, settings: Settings) -> None:
        if not settings.kafka.bootstrap or not settings.registry.url:
            raise CannotVerify(
                "SKEET_KAFKA__BOOTSTRAP or SKEET_REGISTRY__URL is empty: start the platform with `skeet up`"
            )
        self._prefix = settings.kafka.topic_prefix
        self._bootstrap = settings.kafka.bootstrap
        self._common = kafka_options(settings.kafka) | {"client.id": "skeet-verify"}
        require_kafka(settings.kafka)
        self._decoder = Decoder(settings.registry)

    def places(self, topics: Iterable[str]) -> list[Place]:
        """Every partition that the broker has of the topics.

        Raises
        ------
        CannotVerify
            the broker is away, or a topic is missing.
        """
        wanted = list(topics)
        try:
            existing = AdminClient(self._common).list_topics(timeout=TIMEOUT_S).topics
        except KafkaException as error:
            raise CannotVerify(f"Kafka at {self._bootstrap} does not answer: {error}") from error
        missing = [topic for topic in wanted if self._prefix + topic not in existing]
        if missing:
            raise CannotVerify(f"topic {self._prefix}{missing[0]} is missing: run `skeet topics apply`")
        return [(topic, number) for topic in wanted for number in sorted(existing[self._prefix + topic].partitions)]

    def committed(self, group: str, places: Iterable[Place]) -> dict[Place, tuple[int, str]]:
        """The group's committed positions, each with its metadata; partitions without one are left out."""
        client = self._consumer(self._prefix + group)
        try:
            found = client.committed([self._partition(place) for place in places], timeout=TIMEOUT_S)
            return {self._place(at): (at.offset, at.metadata or "") for at in found if at.offset >= 0}
        except KafkaException as error:
            raise CannotVerify(f"positions of consumer group {self._prefix}{group}: {error}") from error
        finally:
            client.close()

    def ranges(self, places: Iterable[Place], isolation: str = "read_committed") -> dict[Place, tuple[int, int]]:
        """First kept offset of each partition, and the end of what a reader of that isolation is delivered."""
        client = self._consumer("skeet-verify-unused", isolation)
        try:
            return {p: client.get_watermark_offsets(self._partition(p), timeout=TIMEOUT_S) for p in places}
        except KafkaException as error:
            raise CannotVerify(f"offsets of the log: {error}") from error
        finally:
            client.close()

    def record(self, place: Place, offset: int) -> Entry | None:
        """The record at one offset; None when the log does not deliver it (any more)."""
        for entry in self.read([place], {place: offset}):
            return entry if entry.offset == offset else None
        return None

    def read(self, places: Iterable[Place], start: Mapping[Place, int] | None = None) -> Iterator[Entry]:
        """Records of each partition in order, up to its end at this moment; partitions interleave."""
        written = self.ranges(places, isolation="read_uncommitted")
        pending = {place: end for place, (_, end) in written.items() if end > 0}
        client = self._consumer("skeet-verify-unused")
        try:
            begin = [TopicPartition(self._prefix + t, n, (start or {}).get((t, n), -2)) for t, n in pending]
            client.assign(begin)
            silent_s = 0.0
            while pending:
                messages = client.consume(BATCH, POLL_S)
                silent_s = 0.0 if messages else silent_s + POLL_S
                if silent_s > SILENCE_LIMIT_S:
                    raise CannotVerify(
                        f"Kafka was silent for {SILENCE_LIMIT_S:.0f} s while {sorted(pending)} were unread"
                    )
                for message in messages:
                    error = message.error()
                    place = ((message.topic() or "").removeprefix(self._prefix), message.partition())
                    if error is None:
                        end = pending.get(place, 0)
                        if message.offset() < end:
                            yield self._entry(message)
                        if message.offset() + 1 >= end:  # where somebody writes all the time, no end is ever reported
                            pending.pop(place, None)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        pending.pop(place, None)
                    elif error.fatal() or not error.retriable():
                        raise CannotVerify(f"reading {message.topic()}: {error.str()}")
        finally:
            client.close()

    def _entry(self, message: Any) -> Entry:
        value = message.value() or b""
        place = (message.topic().removeprefix(self._prefix), message.partition(), message.offset())
        try:
            schema, values = self._decoder.decode(value)
        except Unreadable:
            return Entry(*place, message.timestamp()[1], value, None, {})
        if not self._decoder.belongs(message.topic(), schema):
            return Entry(*place, message.timestamp()[1], value, None, {})
        return Entry(*place, message.timestamp()[1], value, schema, values)

    def _consumer(self, group: str, isolation: str = "read_committed") -> Consumer:
        return Consumer(
            self._common
            | {
                "group.id": group,
                "isolation.level": isolation,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "queued.min.messages": 100_000,
                "fetch.queue.backoff.ms": 5,
                "fetch.wait.max.ms": 50,
            }
        )

    def _partition(self, place: Place) -> TopicPartition:
        return TopicPartition(self._prefix + place[0], place[1])

    def _place(self, at: TopicPartition) -> Place:
        return at.topic.removeprefix(self._prefix), at.partition
