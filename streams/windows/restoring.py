"""The windows of each partition, kept over restarts: a checkpoint, and what was read since.

Windows of a partition are a function of its log alone: its watermark is its own, and no clock takes part. So the state at an
offset can be made again anywhere: from a checkpoint at or before it, by folding the records between. What this gives up: a
partition that falls silent keeps its last windows open until its next record.

A checkpoint is written once everything that its state caused is confirmed, so whoever starts from it owes nothing that
came before. It stands in ``agents.checkpoints.v1`` under ``agent_id/partition``; only the same ``version`` may use it.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.ids import derive_id
from skeet.core.journal import AgentCheckpointed
from skeet.core.record import Meta, Out
from skeet.core.values import NS_PER_MS, NS_PER_S, AccountId, PrincipalId, TenantId
from skeet.core.windows import WindowState, state_from_bytes, state_to_bytes
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.batches.chunk import Chunk
from skeet.streams.journaling import CHECKPOINT_MAX_BYTES
from skeet.streams.partitioner import partition_of
from skeet.streams.ranges import offsets_at, records_between, watermarks
from skeet.streams.topics import CHECKPOINTS, partition_count, topic_name
from skeet.streams.windows.tail import chunks_between

Partition = tuple[str, int]
"""The broker's topic name, and the partition."""

CHECKPOINT_EVERY_S = 2.0
"""What a restart folds again is what came in this time, and while it was away."""
BLIND_REACH_NS = 60 * NS_PER_S
BLIND_RECORDS = 200_000
"""Without a usable checkpoint the state is made from records of the last minute, or from so many if they are more: longer
than any window of ours, so that none is published half."""


class ChunkWindows(Protocol):
    """What is kept for each partition: pure, but for tables that only make it faster."""

    @property
    def version(self) -> str:
        """Changes whenever states or outputs could."""
        ...

    def initial(self) -> WindowState:
        """Before the first record."""
        ...

    def fold(self, state: WindowState, chunk: Chunk, first: int) -> tuple[Out[Any], ...]:
        """Take the chunk's records from offset ``first`` on; what they cause, in order."""
        ...


@dataclass(slots=True)
class Held:
    """One partition: its state after every record before ``position``; ``expected`` is where its next chunk begins."""

    state: WindowState
    position: int
    expected: int
    taken_s: float = 0.0
    waiting: tuple[int, Out[AgentCheckpointed]] | None = None
    """A checkpoint that waits until all before this offset is confirmed."""


@dataclass(slots=True)
class PartitionWindows:
    """The windows of every partition that a process reads.

    ``committable`` tells up to which offset a partition's chunks are finished, outputs confirmed.
    """

    settings: Settings
    codec: Codec
    agent_id: str
    windows: ChunkWindows
    committable: Callable[[Partition], int]
    _held: dict[Partition, Held] = field(default_factory=dict)
    _warned: bool = False

    async def take(self, chunk: Chunk) -> tuple[Out[Any], ...]:
        """What the chunk causes; a checkpoint behind it when one is due.

        A chunk that does not begin where the last one ended (an assignment, a rebalance) has its state made first.
        """
        place = (chunk.topic, chunk.partition)
        held = self._held.get(place)
        if held is None or held.expected != chunk.first:
            self._held.pop(place, None)
            held = await asyncio.to_thread(self._restored, chunk)
            self._held[place] = held
        outs = self.windows.fold(held.state, chunk, held.position)
        held.position, held.expected = max(held.position, chunk.next_offset), chunk.next_offset
        return (*outs, *self._checkpoint(held, place))

    def _checkpoint(self, held: Held, place: Partition) -> tuple[Out[AgentCheckpointed], ...]:
        """The checkpoint that waited, if it may be written by now; else take one when it is time."""
        if held.waiting is not None:
            position, out = held.waiting
            if self.committable(place) < position:
                return ()
            held.waiting = None
            return (out,)
        if time.monotonic() - held.taken_s >= CHECKPOINT_EVERY_S:
            held.taken_s = time.monotonic()
            content = self._state_bytes(held.state)
            if content:
                held.waiting = held.position, self._out(place, held.position, content)
        return ()

    def _state_bytes(self, state: WindowState) -> bytes:
        try:
            content = zlib.compress(state_to_bytes(state), 1)
        except InvalidInput as error:
            return self._unsaved(str(error))
        if len(content) > CHECKPOINT_MAX_BYTES:
            return self._unsaved(f"it has {len(content):,} bytes, the limit is {CHECKPOINT_MAX_BYTES:,}")
        return content

    def _unsaved(self, reason: str) -> bytes:
        if not self._warned:
            logger().warning("no checkpoint of windows", agent=self.agent_id, reason=reason)
            self._warned = True
        return b""

    def _out(self, place: Partition, position: int, content: bytes) -> Out[AgentCheckpointed]:
        agent_id = f"{self.agent_id}/{place[1]}"
        event = AgentCheckpointed(
            agent_id=agent_id,
            epoch=0,
            owner=0,
            sequence=position,
            journal_offset=-1,
            code_version=self.windows.version,
            positions={self._name(place): position},
            state=content,
        )
        identity = derive_id("AgentCheckpointed", agent_id, self.windows.version, position)
        meta = Meta(
            event_id=identity,
            tenant_id=TenantId(""),
            account_id=AccountId(""),
            principal_id=PrincipalId(self.agent_id),
            correlation_id=identity,
            causation_id=identity,
            cause_at="",
            ts_event=0,
            ts_init=0,
        )
        return Out(topic=CHECKPOINTS.name, key=agent_id, event=event, meta=meta)

    # Making a state again. Blocking.

    def _restored(self, chunk: Chunk) -> Held:
        place = (chunk.topic, chunk.partition)
        began = time.monotonic()
        saved = self._saved(place)
        if saved is None:
            position, state = self._blind_start(chunk), self.windows.initial()
        else:
            position, state = saved
        for passed in chunks_between(self.settings, place, position, chunk.first):
            self.windows.fold(state, passed, position)
        logger().info(
            "windows restored",
            at=self._name(place),
            first=chunk.first,
            from_checkpoint=saved is not None,
            folded=max(0, chunk.first - position),
            seconds=round(time.monotonic() - began, 3),
        )
        return Held(state=state, position=max(position, chunk.first), expected=chunk.first)

    def _saved(self, place: Partition) -> tuple[int, WindowState] | None:
        key = f"{self.agent_id}/{place[1]}".encode()
        count = partition_count(CHECKPOINTS, self.settings.kafka)
        stored = (topic_name(CHECKPOINTS, self.settings.kafka), partition_of(key, count))
        limits = watermarks(self.settings, [stored])
        newest: AgentCheckpointed | None = None
        for record in records_between(self.settings, self.codec, limits, {stored[0]: key}):
            if record.event.code_version == self.windows.version:
                newest = record.event
        if newest is None:
            return None
        return newest.positions[self._name(place)], state_from_bytes(zlib.decompress(newest.state))

    def _blind_start(self, chunk: Chunk) -> int:
        place = (chunk.topic, chunk.partition)
        since = int(chunk.timestamps_ms[0]) * NS_PER_MS - BLIND_REACH_NS
        earlier = min(offsets_at(self.settings, [place], since)[place], chunk.first - BLIND_RECORDS)
        first: Mapping[Partition, tuple[int, int]] = watermarks(self.settings, [place])
        return min(chunk.first, max(first[place][0], earlier))

    def _name(self, place: Partition) -> str:
        return f"{place[0].removeprefix(self.settings.kafka.topic_prefix)}/{place[1]}"
