"""Outgoing records in the order of what caused them, and how far they are acknowledged.

Each input record adds one entry, with the records it caused (none is common). An input is finished once its entry and all
before it are acknowledged: the next offset of its partition may then be committed. Nobody waits for single records.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from skeet.config import KafkaSettings
from skeet.core.errors import InfrastructureError
from skeet.core.record import Out
from skeet.schemas.codec import Codec
from skeet.streams.topics import TOPIC_BY_NAME, topic_name

Partition = tuple[str, int]

MAX_IN_FLIGHT = 5_000
"""Inputs whose outputs are on their way; more wait. Bounds what a kill makes a successor repeat."""
POLL_INTERVAL_S = 0.005
"""Acknowledgements are collected this often. They gate commits, not the sending of anything."""


class _Entry:
    __slots__ = ("next_offset", "partition", "waiting")

    def __init__(self, partition: Partition | None, next_offset: int, waiting: int) -> None:
        self.partition = partition
        self.next_offset = next_offset
        self.waiting = waiting


class Outbox:
    """Sends outs through one producer and tracks the inputs they belong to. For one event loop."""

    def __init__(self, kafka: KafkaSettings, codec: Codec, client: Producer) -> None:
        self._codec = codec
        self._client = client
        self._names = {name: topic_name(topic, kafka) for name, topic in TOPIC_BY_NAME.items()}
        self._entries: deque[_Entry] = deque()
        self._finished: dict[Partition, int] = {}
        self._pending = asyncio.Event()
        self.failure: InfrastructureError | None = None

    @property
    def finished(self) -> dict[Partition, int]:
        """Next offset of each partition: everything before it is done and acknowledged."""
        return self._finished

    async def room(self) -> None:
        """Return once fewer than :data:`MAX_IN_FLIGHT` inputs wait for acknowledgements."""
        while len(self._entries) >= MAX_IN_FLIGHT and self.failure is None:
            self.collect()
            await asyncio.sleep(POLL_INTERVAL_S)

    def add(self, partition: Partition | None, next_offset: int, outs: Sequence[Out[Any]]) -> None:
        """Send the outs of one input; ``partition`` is None for outs that no single record caused."""
        if not outs and not self._entries:
            if partition is not None:
                self._finished[partition] = next_offset
            return
        entry = _Entry(partition, next_offset, len(outs))
        self._entries.append(entry)
        for out in outs:
            self._send(out, entry)
        self._pending.set()

    def forget(self) -> None:
        """Drop the account of what is in flight: its partitions belong to somebody else now."""
        self._entries.clear()
        self._finished.clear()

    async def drained(self, deadline_s: float) -> bool:
        """Wait until everything is acknowledged; False when the deadline came first."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while self._entries and self.failure is None and loop.time() < end:
            self.collect()
            await asyncio.sleep(POLL_INTERVAL_S)
        return not self._entries

    async def run(self) -> None:
        """Collect acknowledgements until one fails.

        Raises
        ------
        InfrastructureError
            a record was not acknowledged in its time; inputs from there on are not finished.
        """
        while self.failure is None:
            if not self._entries:
                self._pending.clear()
                await self._pending.wait()
            self.collect()
            await asyncio.sleep(POLL_INTERVAL_S)
        raise self.failure

    def collect(self) -> None:
        """Take the acknowledgements that arrived and move the finished offsets on."""
        self._client.poll(0)
        while self._entries and self._entries[0].waiting == 0 and self.failure is None:
            entry = self._entries.popleft()
            if entry.partition is not None:
                self._finished[entry.partition] = entry.next_offset

    def _send(self, out: Out[Any], entry: _Entry) -> None:
        value = self._codec.encode(out.event, out.meta)

        def delivered(error: KafkaError | None, _: Message) -> None:
            entry.waiting -= 1
            if error is not None:
                self.failure = InfrastructureError(f"{out.topic}: not acknowledged: {error}")

        arguments: dict[str, Any] = {"key": out.key.encode(), "on_delivery": delivered}
        if out.partition is not None:
            arguments["partition"] = out.partition
        try:
            self._client.produce(self._names[out.topic], value, **arguments)
        except (BufferError, KafkaException) as error:
            raise InfrastructureError(f"{out.topic}: {error}") from error
