"""A batch application on a real broker, for tests: what it read, and where its group stands."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.streams.batches.app import batch_app, each_chunk
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.ledger import Limits

DEADLINE_S = 60.0


@dataclass
class Seen:
    """What an application's agent was given."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def records(self) -> list[tuple[int, int, bytes | None]]:
        """Partition, offset and value of every record."""
        return [
            (chunk.partition, int(offset), value)
            for chunk in self.chunks
            for offset, value in zip(chunk.offsets, chunk.values(), strict=True)
        ]

    @property
    def count(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)


Handle = Callable[[Chunk, Outputs], Any]


@asynccontextmanager
async def running(
    kafka: str, group: str, topic: str, handle: Handle | None = None, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[Any, Seen]]:
    """An application with one agent that notes what it is given, then does what ``handle`` says."""
    app, seen = batch_app(group, kafka, limits=limits, **options), Seen()

    def note(chunk: Chunk, outputs: Outputs) -> Any:
        seen.chunks.append(chunk)
        return handle(chunk, outputs) if handle is not None else None

    app.agent(app.topic(topic, value_type=bytes), concurrency=1, name="noting")(each_chunk(app, note))
    await app.start()
    try:
        yield app, seen
    finally:
        await app.stop()


async def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition.

    Raises
    ------
    AssertionError
        it does not come true in time.
    """
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


def has(seen: Seen, count: int) -> bool:
    """Whether so many records were given."""
    return seen.count >= count


def numbered(count: int, first: int = 0) -> list[bytes]:
    """Values that tell themselves apart."""
    return [b"%d" % n for n in range(first, first + count)]


def group() -> str:
    """The name of a group that nobody has joined."""
    return f"g{uuid.uuid4().hex[:8]}"


def new_topic(kafka: str, partitions: int = 1, **config: str) -> str:
    """A topic of its own."""
    name = f"batches.{uuid.uuid4().hex[:8]}"
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(20)
    return name


def fill(kafka: str, topic: str, values: Iterable[bytes], partition: int = 0, key: bytes | None = None) -> None:
    """Write values into one partition, in order."""
    client = Producer(
        {"bootstrap.servers": kafka, "linger.ms": 5, "batch.num.messages": 200, "enable.idempotence": True}
    )
    for value in values:
        client.produce(topic, value, key, partition)
        client.poll(0)
    assert client.flush(30) == 0


def committed(kafka: str, group: str, topic: str, partition: int = 0) -> int:
    """The group's position; negative when it has none."""
    client = Consumer({"bootstrap.servers": kafka, "group.id": group})
    try:
        return int(client.committed([TopicPartition(topic, partition)], 20)[0].offset)
    finally:
        client.close()


def commit(kafka: str, group: str, topic: str, offset: int, partition: int = 0) -> None:
    """Put the group there."""
    client = Consumer({"bootstrap.servers": kafka, "group.id": group})
    client.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    client.close()


def read_committed(kafka: str, topic: str, first: int, partition: int = 0) -> list[tuple[int, int, bytes | None]]:
    """What librdkafka shows of one partition from an offset on."""
    client = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "librdkafka",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    client.assign([TopicPartition(topic, partition, first)])
    found = []
    while (message := client.poll(20)) is not None:
        if message.error():
            break
        found.append((partition, message.offset() or 0, message.value()))
    client.close()
    return found
