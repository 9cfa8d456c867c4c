"""Outputs of a chunk: collected, sent as whole batches in order for each key, and confirmed before the chunk counts as finished."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from skeet.streams.batches.ledger import Delivery
from skeet.streams.partitioner import partition_of

Record = tuple[bytes | None, bytes | None]
"""Key and value."""


class Outputs:
    """What one chunk causes.

    Records of one partition keep the order in which they were added, over all chunks of an agent. Nothing waits for a
    confirmation but the chunk's commit; :meth:`send` waits only while the producer still holds an earlier batch of the same
    partition.
    """

    def __init__(self, app: Any, delivery: Delivery) -> None:
        self._app = app
        self._delivery = delivery
        self._keyed: dict[str, list[Record]] = defaultdict(list)
        self._placed: dict[tuple[str, int], list[Record]] = defaultdict(list)

    @property
    def forgotten(self) -> bool:
        """Whether the chunk's partition was given up, or is read again: nothing of it may be used any more."""
        return self._delivery.forgotten

    def hold(self) -> Callable[[], None]:
        """Keep the chunk from being committed until the function returned is called: for what is sent by another way."""
        self._delivery.sending()
        return self._delivery.confirmed

    def add(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        """One record. Without a partition its key decides it, as every client with the murmur2 partitioner does; without
        both it goes to the first."""
        if partition is None:
            self._keyed[topic].append((key, value))
        else:
            self._placed[topic, partition].append((key, value))

    async def send(self) -> None:
        """Hand everything to the producer.

        A send that fails later, at the broker, ends the process with the chunk uncommitted.

        Raises
        ------
        aiokafka.errors.KafkaError
            the producer cannot take it (no such topic, closed, no room within the request's timeout).
        """
        if not self._keyed and not self._placed:
            return
        producer = self._app.producer._producer
        for topic, records in self._keyed.items():
            count = len(await producer.partitions_for(topic))
            for key, value in records:
                self._placed[topic, partition_of(key, count) if key is not None else 0].append((key, value))
        self._keyed.clear()
        for (topic, partition), records in self._placed.items():
            for batch in _batches(producer, topic, records):
                self._delivery.sending()
                sent = await producer.send_batch(batch, topic, partition=partition)
                sent.add_done_callback(self._sent)
        self._placed.clear()

    def _sent(self, sent: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
        if error is None:
            self._delivery.confirmed()
        else:
            self._app.loop.create_task(self._app.consumer.fail(error))


def _batches(producer: Any, topic: str, records: list[Record]) -> list[Any]:
    """The records in as few batches as the producer's size allows, each closed. The first of a batch may be of any size."""
    batch = producer.create_batch()
    batches = [batch]
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            batch = producer.create_batch()
            batches.append(batch)
            batch.append(key=key, value=value, timestamp=None)
    for each in batches:
        each.close()
    return batches
