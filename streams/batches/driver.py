"""Faust's transport with chunks for messages: delivery, flow and commits; membership and sessions stay Faust's.

Nothing overtakes and nothing is passed over: a chunk is entered into the ledger before it is handed over, and only if it
begins where the one before it ended or where the partition was sought; else that place is sought again. The offset that is
committed is the ledger's, past the longest run of finished chunks. Reading waits for events (room, flow, partitions), not
for time.

Private names of faust-streaming and aiokafka are used; :mod:`skeet.streams.batches.contract` names them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types.tuples import TP
from mode import Service

from skeet.core.errors import InvalidInput
from skeet.process import logger
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.contract import require_known_versions
from skeet.streams.batches.fetching import fetched_chunks, keep_bytes, wake_at_once
from skeet.streams.batches.framing import Walk
from skeet.streams.batches.ledger import Ledger, Limits
from skeet.streams.batches.memory import give_back_regularly, hold_large_blocks
from skeet.streams.batches.messages import ChunkMessage
from skeet.streams.batches.sessions import remember_partitions
from skeet.streams.same_loop import SameLoopReader

POLL_S = 1.0
"""How long one question to the fetcher waits for records; it answers as soon as there are some."""
LOOK_AGAIN_S = 0.1
"""A reader that may not read is woken by whoever lets it; this bounds what a missed wake-up costs."""
FETCH_WAIT_MS = 100
"""How long a broker without new records holds a fetch: what a stop may have to wait for."""
DRAIN_S = 2.5
"""How long a revoke or a stop waits for chunks that an agent has begun, and for the commit; the rest is the next owner's."""


class ChunkThread(SameLoopReader):
    """The consumer's thread in name only: reads committed records, in sessions, and makes chunks of what it fetched."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        remember_partitions(consumer)
        return consumer

    async def on_start(self) -> None:
        """Connect, and be woken by every answer."""
        await super().on_start()
        wake_at_once(self._consumer._fetcher)

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[Any],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> dict[Any, Chunk]:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            limits, walk = self.consumer.ledger.limits, self.consumer.walk
            return await fetched_chunks(fetcher, active_partitions, timeout or 0.0, limits, walk)


class ChunkConsumer(Consumer):  # type: ignore[misc]  # untyped library
    """Faust's consumer, delivering chunks."""

    walk: Walk

    def __init__(self, transport: ChunkTransport, *args: Any, **kwargs: Any) -> None:
        self._changed = asyncio.Event()
        self._finished = asyncio.Event()
        self._many_finished = asyncio.Event()
        self._rewind_due = False
        self.ledger = Ledger(transport.limits, self._on_progress)
        super().__init__(transport, *args, **kwargs)

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    async def on_start(self) -> None:
        """Refuse what chunks cannot serve, and compile what is to be compiled.

        Raises
        ------
        InvalidInput
            the application has tables: their changelogs are read record by record.
        """
        if self.app.tables:
            raise InvalidInput(
                f"tables {sorted(self.app.tables)}: an application that reads chunks keeps its own state"
            )
        self.walk = self.transport.walk or _compiled()
        await super().on_start()

    async def fail(self, error: BaseException) -> None:
        """End the process; what is not finished is not committed and is delivered again."""
        await self.crash(error)

    # Reading.

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._rewind()
                if self._may_read():
                    chunks = await self._getmany(set(self._get_active_partitions()), POLL_S)
                    for place, chunk in chunks.items():
                        await self._deliver(TP(*place), chunk)
                else:
                    await self._change()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    def _may_read(self) -> bool:
        return self._open() and self.ledger.has_room and bool(self._get_active_partitions())

    def _open(self) -> bool:
        """Whether a chunk could be handed over now without waiting."""
        buffer = self.app.producer.buffer
        return bool(self.flow_active and self.app.flow_control.is_active() and buffer.size <= buffer.max_messages)

    async def _change(self) -> None:
        """Wait until something that keeps the reader waiting may have changed."""
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), LOOK_AGAIN_S)
        except TimeoutError:
            pass

    async def _deliver(self, place: TP, chunk: Chunk) -> None:
        while not self._open() and not self.should_stop:
            await self._change()
        await self._rewind()
        expected = self.ledger.expected(place)
        if expected is None or self.should_stop:
            return
        if chunk.first != expected:
            # Fetched before a seek, or after a chunk whose reader was cancelled on its way here.
            if not await self._unreadable(place, expected):
                await super().seek(place, expected)
                return
            logger().warning(
                "records are gone", at=f"{place.topic}-{place.partition}", first=expected, next=chunk.first
            )
            self.ledger.start(place, chunk.first)
        delivery = self.ledger.deliver(place, chunk.first, chunk.next_offset, len(chunk), chunk.size)
        if not len(chunk):
            return
        message = ChunkMessage(chunk, delivery, place, self.app.consumer_generation_id)
        self.app.monitor.track_tp_end_offset(place, self.highwater(place))
        self._read_offset[place] = message.offset
        await self.callback(message)

    async def _unreadable(self, place: TP, position: int) -> bool:
        """Whether the broker no longer has the position (retention, a topic made anew), so that the reader was reset."""
        earliest = await self.earliest_offsets(place)
        ends = await self.highwaters(place)
        return not earliest[place] <= position <= ends[place]

    async def _rewind(self) -> None:
        """After a suspension: Faust has emptied its streams' queues, so what waited there is read again."""
        if self._rewind_due and self._open():
            self._rewind_due = False
            for place, position in self.ledger.rewind().items():
                await super().seek(TP(*place), position)

    # What lets the reader go on.

    def _on_progress(self) -> None:
        self._changed.set()
        if self.ledger.uncommitted:
            self._finished.set()
        if self.ledger.uncommitted >= self.ledger.limits.commit_records:
            self._many_finished.set()

    def resume_flow(self) -> None:
        """Let chunks be delivered again."""
        super().resume_flow()
        self._rewind_due = True
        self._changed.set()

    def resume_partitions(self, tps: Iterable[Any]) -> None:
        """Let these partitions be read again."""
        super().resume_partitions(tps)
        self._changed.set()

    def on_buffer_drop(self, tp: Any) -> None:
        """A stream's queue has room again."""
        super().on_buffer_drop(tp)
        self._changed.set()

    # Going elsewhere.

    async def seek(self, partition: Any, offset: int) -> None:
        """Read this partition from there; what is in flight of it is forgotten."""
        self.ledger.start(partition, offset)
        await super().seek(partition, offset)

    async def seek_wait(self, partitions: Mapping[Any, int]) -> None:
        """Read these partitions from there; what is in flight of them is forgotten."""
        for place, offset in partitions.items():
            self.ledger.start(place, offset)
        await super().seek_wait(partitions)

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Read every partition from where it is committed (else from where the settings say); forget what is in flight."""
        self.ledger.forget()
        found: dict[Any, int] = dict(await super().seek_to_committed())
        new = [place for place, offset in found.items() if offset is None]
        if new:
            latest = self.app.conf.consumer_auto_offset_reset == "latest"
            begin = await (self.highwaters(*new) if latest else self.earliest_offsets(*new))
            found |= {place: begin[place] for place in new}
            await self.seek_wait({TP(*place): found[place] for place in new})
        for place, offset in found.items():
            self.ledger.start(place, offset)
        return found

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Give the partitions up. Faust calls :meth:`wait_empty` in it, once nothing more is delivered."""
        await super().on_partitions_revoked(revoked)
        self.ledger.forget(revoked)

    async def wait_empty(self) -> None:
        """Let agents end the chunks they have begun, within a limit, and commit; before a revoke and at a stop."""
        if self.crashed:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_S
        while loop.time() < deadline and any(each.begun for each in self.ledger.in_flight()):
            await self._change()
        committing = asyncio.ensure_future(self._commit_finished())
        await asyncio.wait({committing}, timeout=DRAIN_S)
        committing.cancel()

    async def _commit_finished(self) -> None:
        # A commit that was under way when it was asked for covers less.
        await self.maybe_wait_for_commit_to_finish()
        await self.commit()

    # Committing.

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Whether there was a commit under way; it has ended now. Who is cancelled while waiting is cancelled.

        Faust's would go on and commit itself, which never ends where the one under way did not: a stop that waits for ever.
        """
        under_way = self._commit_fut
        if under_way is None:
            return False
        await asyncio.shield(under_way)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        # Faust notes every acknowledged message; nothing here reads its notes.
        self._acked.clear()
        self._acked_index.clear()
        return (
            TP(*place)
            for place in list(self.ledger.committable)
            if topics is None or place in topics or place[0] in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        return self.ledger.committable.get(tp)

    def _should_commit(self, tp: TP, offset: int) -> bool:
        """Also backwards: who sought back and was killed goes on from there."""
        return bool(self._committed_offset[tp] != offset)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps mean nothing here: a chunk says where the next one begins."""

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is finished."""
        self.ledger.committing()
        return bool(await super().force_commit(topics, start_new_transaction))

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """As Faust does, without the table it draws for its log at every commit, and noting only what was committed."""
        await self.app.producer.flush()
        assignment = self.assignment()
        owned = {place: offset for place, offset in offsets.items() if place in assignment}
        if not owned or not await self._commit(owned):
            return False
        self._committed_offset.update(owned)
        self.app.monitor.on_tp_commit(owned)
        return True

    @Service.task  # type: ignore[untyped-decorator]
    async def _commit_soon(self) -> None:
        limits = self.ledger.limits
        while not self.should_stop:
            await self._finished.wait()
            if self.ledger.uncommitted < limits.commit_records:
                try:
                    await asyncio.wait_for(self._many_finished.wait(), limits.commit_after_s)
                except TimeoutError:
                    pass
            self._finished.clear()
            self._many_finished.clear()
            await self.commit()

    @Service.task  # type: ignore[untyped-decorator]
    async def _give_back(self) -> None:
        await give_back_regularly()


def _compiled() -> Walk:
    """Numba is imported only where it is used: the plain walk is for processes that must be small."""
    from skeet.streams.batches.walking import compiled

    return compiled()


class ChunkTransport(Transport):  # type: ignore[misc]  # untyped library
    """Faust's transport with our consumer.

    Parameters
    ----------
    walk
        finds the records of fetched batches; the compiled one, if None.

    Raises
    ------
    InfrastructureError
        Faust or aiokafka is not of a version that this was proven with.
    """

    Consumer: type[ChunkConsumer] = ChunkConsumer

    def __init__(self, *args: Any, limits: Limits | None = None, walk: Walk | None = None, **kwargs: Any) -> None:
        require_known_versions()
        keep_bytes()
        hold_large_blocks()
        super().__init__(*args, **kwargs)
        self.limits = limits or Limits()
        self.walk = walk
