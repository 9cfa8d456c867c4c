"""Outgoing records in the order of what caused them, and how far they are acknowledged.

Each input adds one entry, with the records it caused. It is finished once they and all before them are acknowledged: its
offsets may then be committed. Nobody waits for single records.

Two things may hold an entry's records back: another record that must be acknowledged first (a journal's entry before the
outputs of what it orders), and everything before it (a checkpoint).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from skeet.config import KafkaSettings
from skeet.core.errors import InfrastructureError
from skeet.core.record import Out
from skeet.schemas.codec import Codec
from skeet.streams.topics import TOPIC_BY_NAME, topic_name

MAX_IN_FLIGHT = 5_000
"""Inputs whose outputs are on their way; more wait. Bounds what a kill makes a successor repeat."""
MAX_RECORDS = 20_000
"""Records on their way; more wait. A fifth of what the producer's queue takes: the next input may cause thousands."""
POLL_INTERVAL_S = 0.005
"""Acknowledgements are collected this often while they gate commits only."""
HELD_POLL_S = 0.05
"""While one of them holds outputs back, a thread waits for it. The loop's own timers are whole milliseconds late."""

Ready = tuple[str, bytes, bytes, int | None]
"""A record to be sent: the broker's topic name, key, value, partition where the key does not decide."""


class _Entry:
    __slots__ = ("at_head", "on_finished", "waiting")

    def __init__(self, waiting: int, on_finished: Callable[[], None] | None = None) -> None:
        self.waiting = waiting
        self.on_finished = on_finished
        self.at_head: Callable[[], Out[Any]] | None = None


class Outbox:
    """Sends outs through one producer and tracks the inputs they belong to. For one event loop."""

    def __init__(self, kafka: KafkaSettings, codec: Codec, client: Producer) -> None:
        self._codec = codec
        self._client = client
        self._names = {name: topic_name(topic, kafka) for name, topic in TOPIC_BY_NAME.items()}
        self._entries: deque[_Entry] = deque()
        self._arrived: deque[Callable[[], None]] = deque()
        self._wanted = asyncio.Event()
        """Set when whoever collects has reason to look at once."""
        self._held = 0
        self._records = 0
        self.failure: InfrastructureError | None = None

    async def room(self) -> None:
        """Return once fewer than :data:`MAX_IN_FLIGHT` inputs and :data:`MAX_RECORDS` records wait for acknowledgements."""
        while (len(self._entries) >= MAX_IN_FLIGHT or self._records >= MAX_RECORDS) and self.failure is None:
            self.collect()
            await asyncio.sleep(POLL_INTERVAL_S)

    def add(
        self,
        outs: Sequence[Out[Any]],
        *,
        first: Out[Any] | None = None,
        on_first: Callable[[int], None] = lambda _: None,
        on_finished: Callable[[], None] | None = None,
    ) -> None:
        """Send the outs of one input; ``on_finished`` is called once they and all that was added before are acknowledged.

        With ``first`` that record is sent, and the outs once it is acknowledged; ``on_first`` is then told its offset.
        """
        if not outs and first is None and not self._entries:
            if on_finished is not None:
                on_finished()
            return
        entry = _Entry(len(outs) + (first is not None), on_finished)
        ready = [self._encoded(out) for out in outs]
        self._append(entry, holds=first is not None)
        if first is None:
            self._send_all(ready, entry)
        else:
            self._held += 1
            self._send(self._encoded(first), entry, lambda offset: self._release(ready, entry, on_first, offset))

    def add_behind(self, made: Callable[[], Out[Any]]) -> None:
        """Send a record, made at that moment, once everything added before is acknowledged."""
        entry = _Entry(1)
        entry.at_head = made
        self._append(entry)

    def forget(self) -> None:
        """Drop the account of what is in flight: its partitions belong to somebody else now."""
        self._entries.clear()
        self._held = 0

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
                self._wanted.clear()
                await self._wanted.wait()
            self.collect()
            if self._held:
                await asyncio.to_thread(self._client.poll, HELD_POLL_S)
            elif self._entries:
                await self._pause()
        raise self.failure

    def _append(self, entry: _Entry, *, holds: bool = False) -> None:
        if holds or not self._entries:
            self._wanted.set()
        self._entries.append(entry)

    async def _pause(self) -> None:
        """Until it is time to collect; at once when somebody begins to wait for an acknowledgement."""
        self._wanted.clear()
        try:
            await asyncio.wait_for(self._wanted.wait(), POLL_INTERVAL_S)
        except TimeoutError:
            pass

    def collect(self) -> None:
        """Take the acknowledgements that arrived, and say what is finished by them."""
        self._client.poll(0)
        while self._arrived:
            self._arrived.popleft()()
        while self._entries and self.failure is None:
            entry = self._entries[0]
            if entry.at_head is not None:
                made, entry.at_head = entry.at_head, None
                self._send(self._encoded(made()), entry)
            if entry.waiting:
                return
            self._entries.popleft()
            if entry.on_finished is not None:
                entry.on_finished()

    def _release(self, ready: Sequence[Ready], entry: _Entry, on_first: Callable[[int], None], offset: int) -> None:
        self._held = max(0, self._held - 1)
        on_first(offset)
        self._send_all(ready, entry)

    def _send_all(self, ready: Sequence[Ready], entry: _Entry) -> None:
        for each in ready:
            self._send(each, entry)

    def _encoded(self, out: Out[Any]) -> Ready:
        return self._names[out.topic], out.key.encode(), self._codec.encode(out.event, out.meta), out.partition

    def _send(self, ready: Ready, entry: _Entry, then: Callable[[int], None] = lambda _: None) -> None:
        topic, key, value, partition = ready

        def acknowledged(error: KafkaError | None, offset: int | None) -> None:
            if error is not None:
                self.failure = InfrastructureError(f"{topic}: not acknowledged: {error}")
                return
            entry.waiting -= 1
            self._records -= 1
            then(offset or 0)

        def delivered(error: KafkaError | None, message: Message) -> None:
            # In whatever thread polls: only noted here.
            self._arrived.append(partial(acknowledged, error, message.offset()))

        arguments: dict[str, Any] = {"key": key, "on_delivery": delivered}
        if partition is not None:
            arguments["partition"] = partition
        try:
            self._client.produce(topic, value, **arguments)
            self._records += 1
        except (BufferError, KafkaException) as error:
            raise InfrastructureError(f"{topic}: {error}") from error
