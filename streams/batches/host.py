"""Folds chunks: the worker's host, without a Python object for each record.

A machine that offers ``fold`` is given the usual records of a chunk as columns; whatever is not usual, and every record of
machines that do not offer it, goes through the door and ``step`` as before. A chunk is cut where a barrier's end lies, so
that a clock tick is taken between the same two records. Few records are not worth columns. A chunk is finished when all that
it caused is acknowledged; a kill repeats whole chunks, and what they cause again is equal, with equal ids.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from skeet.config import Settings
from skeet.core.errors import BugError
from skeet.core.market import Quote, Trade
from skeet.core.record import MarketEvent, Out, Record
from skeet.core.values import NS_PER_S, exact_arithmetic
from skeet.metrics import histogram, observe_all
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.schemas.columns.interning import Texts
from skeet.streams.batches.app import raw_record
from skeet.streams.batches.chunk import Chunk, nothing_of
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.ledger import Limits
from skeet.streams.batches.rows import ChunkRows, RowsReader
from skeet.streams.batches.snapshots import SNAPSHOT_EVERY_S, SnapshotWriter
from skeet.streams.crash_points import WORKER_BEFORE_ACKNOWLEDGED, WORKER_BEFORE_OFFSET_COMMIT, reach
from skeet.streams.door import RawRecord
from skeet.streams.faust_app import COMMIT_INTERVAL_S, FaustHost, Plan
from skeet.streams.stages import Partition
from skeet.streams.topics import PartitionedBy, Topic, partition_count, topic_name

WORTH_COLUMNS = 24
"""Records of a chunk from which on columns cost less than taking them one by one (8 to 24, by the number of instruments)."""
PACE_S = 0.025
"""Paced machines are asked this often; a quarter of the 100 ms they promise."""
MAX_BARRIERS = 16
"""Barriers that wait for lagging inputs; the oldest go first, a newer one says more."""


@runtime_checkable
class Folding(Protocol):
    """A machine that also takes many records at once, with the same outputs."""

    def fold(self, state: Any, rows: ChunkRows, first: int, end: int) -> tuple[int, Sequence[Out[Any]]]:
        """Take records from ``first`` on up to ``end``, or up to the first one that only ``step`` takes.

        Returns the first record not taken, and what those taken caused, in order. The state is changed in place.
        """
        ...


@dataclass(slots=True)
class _Barrier:
    stage: int
    record: Record[Any]
    ends: Mapping[Partition, int]


def _as_it_is(out: Out[Any]) -> Out[Any]:
    return out


class ChunkHost(FaustHost):
    """Runs the stages of a plan that has neither a journal nor keys."""

    # A chunk's outputs must fit the producer's queue beside those on their way.
    limits = Limits(chunk_records=4_096, commit_after_s=COMMIT_INTERVAL_S)

    def __init__(self, settings: Settings, codec: Codec, plan: Plan) -> None:
        if plan.resume is not None or plan.keys or plan.pinned:
            raise BugError(f"{plan.role}: a plan with a journal, keys or pinned partitions is for JournaledHost")
        super().__init__(settings, codec, plan)
        self._barriers: deque[_Barrier] = deque(maxlen=MAX_BARRIERS)
        self._captures: set[asyncio.Task[None]] = set()
        self._frame_to_log = histogram("skeet_hop_latency_seconds", "frame_to_log") if plan.role == "worker" else None
        self._rows = self._readers_of_rows()
        self._snapshots = SnapshotWriter(settings, self._stages, {})
        self._compile()

    def _compile(self) -> None:
        """Now, or load what was compiled before: records must not wait for it."""
        for topic, reader in self._rows.items():
            nothing = reader.rows(nothing_of(topic))
            for index, _ in self._readers[topic]:
                machine = self._stages[index].machine
                if isinstance(machine, Folding):
                    machine.fold(machine.initial(), nothing, 0, 0)

    def _readers_of_rows(self) -> dict[str, RowsReader]:
        """For each topic of one class that a machine folds, by the broker's name. Their ids of instruments agree."""
        known: dict[str, Texts] = {}
        folded: set[Topic] = {t for stage in self._stages if isinstance(stage.machine, Folding) for t in stage.inputs}
        return {
            topic_name(topic, self._settings.kafka): RowsReader(
                self._codec,
                self._door,
                topic.name,
                partition_count(topic, self._settings.kafka),
                topic.events[0],
                known,
            )
            for topic in sorted(folded, key=lambda each: each.name)
            if len(topic.events) == 1
            and topic.partitioned_by is PartitionedBy.MARKET
            and issubclass(topic.events[0], MarketEvent)
        }

    # Snapshots: the state between two chunks, behind everything that came of it.

    def _snapshot(self) -> None:
        if not self._warm:
            return
        with exact_arithmetic():
            outs = self._snapshots.due(self._states, {place: self.position(place) for place in self._next})
        for out in outs:
            self._outbox.add_behind(partial(_as_it_is, out))

    async def _snapshot_regularly(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_EVERY_S)
            self._snapshot()

    def _jobs(self, side_tasks: Sequence[Any]) -> Sequence[Any]:
        return (*super()._jobs(side_tasks), self._pace(), self._snapshot_regularly())

    async def _finish(self) -> None:
        self._snapshot()
        await super()._finish()

    async def revoking(self) -> None:
        """Whoever has the partitions next begins with a snapshot of where this ends."""
        self._snapshot()
        await super().revoking()

    def revoked(self) -> None:
        """Forget states and positions; the next assignment restores them."""
        super().revoked()
        self._barriers.clear()
        self._snapshots.written.clear()

    def committing(self) -> None:
        """What is finished is about to be committed."""
        reach(WORKER_BEFORE_OFFSET_COMMIT)

    # The stream.

    async def _take(self, chunk: Chunk, outputs: Outputs) -> None:
        with exact_arithmetic():
            self._fold_chunk(chunk, outputs.hold())

    def _fold_chunk(self, chunk: Chunk, finished: Callable[[], None]) -> None:
        place = (chunk.topic, chunk.partition)
        rows = self._rows[chunk.topic].rows(chunk) if self._worth_columns(chunk) else None
        if rows is not None:
            self._observe_rows(rows)
        first = 0
        for cut in [*self._cuts(chunk), chunk.next_offset]:
            end = int(np.searchsorted(chunk.offsets, cut))
            outs = self._one_by_one(chunk, first, end) if rows is None else self._fold(rows, first, end)
            self._next[place] = cut
            is_last = cut == chunk.next_offset
            self._outbox.add(outs, on_finished=finished if is_last else None)
            if outs:
                reach(WORKER_BEFORE_ACKNOWLEDGED)
            if self._barriers:
                self._pass_barriers()
            first = end

    def _worth_columns(self, chunk: Chunk) -> bool:
        return len(chunk) >= WORTH_COLUMNS and chunk.topic in self._rows

    def _cuts(self, chunk: Chunk) -> list[int]:
        """Where barriers wait for this partition to get to, within the chunk."""
        ends = {barrier.ends.get((chunk.topic, chunk.partition), 0) for barrier in self._barriers}
        return sorted(end for end in ends if chunk.first < end < chunk.next_offset)

    def _one_by_one(self, chunk: Chunk, first: int, end: int) -> list[Out[Any]]:
        raws = (raw_record(chunk, record, self._prefix) for record in range(first, end))
        return [out for raw in raws for out in self._react_to(raw, chunk.topic)]

    def _fold(self, rows: ChunkRows, first: int, end: int) -> list[Out[Any]]:
        """Runs of usual records as columns, each other one by itself."""
        outs: list[Out[Any]] = []
        unusual = np.flatnonzero(rows.row_of[first:end] < 0) + first
        for stop in [*unusual.tolist(), end]:
            if stop > first:
                outs.extend(self._fold_usual(rows, first, stop))
            if stop < end:
                outs.extend(self._react_to(rows.raw(stop), rows.chunk.topic))
            first = stop + 1
        return outs

    def _fold_usual(self, rows: ChunkRows, first: int, end: int) -> list[Out[Any]]:
        """Each machine through all of them: no two write what the other reads, or to one topic from one input."""
        outs: list[Out[Any]] = []
        for index, _ in self._readers[rows.chunk.topic]:
            machine, at = self._stages[index].machine, first
            while at < end:
                if isinstance(machine, Folding):
                    at, made = machine.fold(self._states[index], rows, at, end)
                    outs.extend(made)
                if at < end:
                    outs.extend(self._step(index, rows.record(at)))
                    at += 1
        return outs

    def _observe_rows(self, rows: ChunkRows) -> None:
        columns = rows.columns
        if self._frame_to_log is None:
            return
        seen = rows.row_of >= 0
        if columns.event_class is not Quote:
            seen &= ~columns.booleans("backfilled")[rows.row_of]
        waited_ns = rows.log_ns[seen] - columns.longs("ts_init")[rows.row_of[seen]]
        observe_all(self._frame_to_log, (np.maximum(0, waited_ns) / NS_PER_S).tolist())

    def _react_to(self, raw: RawRecord, topic: str) -> Sequence[Out[Any]]:
        record = self._record(raw)
        if isinstance(record, Out):
            return (record,)
        self._observe(record)
        outs: list[Out[Any]] = []
        for index, behind_barrier in self._readers[topic]:
            if behind_barrier:
                self._capture(index, record)
            else:
                outs.extend(self._step(index, record))
        return outs

    def _step(self, index: int, record: Record[Any]) -> Sequence[Out[Any]]:
        self._states[index], outs = self._stages[index].machine.step(self._states[index], record)
        return outs

    def _observe(self, record: Record[Any]) -> None:
        event = record.event
        if (
            self._frame_to_log is not None
            and isinstance(event, Trade | Quote)
            and not getattr(event, "backfilled", False)
        ):
            self._frame_to_log.observe(max(0, record.log_ns - event.ts_init) / NS_PER_S)

    # Barriers: a clock tick waits until the stage has read what its inputs held when the tick came.

    def _capture(self, index: int, record: Record[Any]) -> None:
        task = asyncio.ensure_future(self._captured(index, record))
        self._captures.add(task)
        task.add_done_callback(self._captures.discard)

    async def _captured(self, index: int, record: Record[Any]) -> None:
        topics = {topic_name(topic, self._settings.kafka) for topic in self._stages[index].inputs}
        assigned = [tp for tp in self._app.consumer.assignment() if tp.topic in topics]
        try:
            ends = await self._app.consumer.highwaters(*assigned)
        except Exception as error:
            # A tick that finds no broker is skipped; the next one does its work.
            logger().warning("ends not captured", error=repr(error))
            return
        self._barriers.append(_Barrier(index, record, {(tp.topic, tp.partition): end for tp, end in ends.items()}))
        with exact_arithmetic():
            self._pass_barriers()

    def _pass_barriers(self) -> None:
        while self._barriers and self._warm and self._reached(self._barriers[0].ends):
            barrier = self._barriers.popleft()
            self.emit(self._step(barrier.stage, barrier.record))

    def _reached(self, ends: Mapping[Partition, int]) -> bool:
        return all(self.position(partition) >= end for partition, end in ends.items())

    # Pace.

    async def _pace(self) -> None:
        paced = [(index, stage.paced) for index, stage in enumerate(self._stages) if stage.paced is not None]
        while paced:
            await asyncio.sleep(PACE_S)
            if not self._warm:
                continue
            for index, machine in paced:
                with exact_arithmetic():
                    self._states[index], outs = machine.due(self._states[index], time.time_ns())
                if outs:
                    self.emit(outs)
