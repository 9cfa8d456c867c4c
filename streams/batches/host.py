"""Runs machines on chunks: what :class:`skeet.streams.faust_app.FaustHost` does, without a Python object for each record.

A machine that offers ``fold`` is given the usual records of a chunk as columns; whatever is not usual, and every record of
machines that do not offer it, goes through the door and ``step`` as before. A chunk is cut where a barrier's end lies, so
that a clock tick is taken between the same two records. Few records are not worth columns. A chunk is finished when all that
it caused is acknowledged; a kill repeats whole chunks, and what they cause again is equal, with equal ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from skeet.config import Settings
from skeet.core.errors import BugError
from skeet.core.market import Quote
from skeet.core.record import MarketEvent, Out
from skeet.core.values import NS_PER_S, exact_arithmetic
from skeet.metrics import observe_all
from skeet.schemas.codec import Codec
from skeet.schemas.columns.interning import Texts
from skeet.streams.batches.app import batch_app, each_chunk, raw_record
from skeet.streams.batches.chunk import Chunk, nothing_of
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.hosted import HostedChunkTransport
from skeet.streams.batches.ledger import Limits
from skeet.streams.batches.rows import ChunkRows, RowsReader
from skeet.streams.batches.snapshots import SNAPSHOT_EVERY_S, SnapshotWriter
from skeet.streams.crash_points import WORKER_BEFORE_ACKNOWLEDGED, reach
from skeet.streams.faust_app import COMMIT_INTERVAL_S, FaustHost, Plan, faust_credentials
from skeet.streams.kafka import group_name
from skeet.streams.stages import Partition
from skeet.streams.topics import PartitionedBy, Topic, partition_count, topic_name

WORTH_COLUMNS = 24
"""Records of a chunk from which on columns cost less than taking them one by one (8 to 24, by the number of instruments)."""
LIMITS = Limits(chunk_records=4_096, commit_after_s=COMMIT_INTERVAL_S)
"""A chunk's outputs must fit the producer's queue beside those on their way, and commits are as rare as they were."""


@runtime_checkable
class Folding(Protocol):
    """A machine that also takes many records at once, with the same outputs."""

    def fold(self, state: Any, rows: ChunkRows, first: int, end: int) -> tuple[int, Sequence[Out[Any]]]:
        """Take records from ``first`` on up to ``end``, or up to the first one that only ``step`` takes.

        Returns the first record not taken, and what those taken caused, in order. The state is changed in place.
        """
        ...


def _as_it_is(out: Out[Any]) -> Out[Any]:
    return out


class ChunkHost(FaustHost):
    """Runs the stages of a plan in one Faust worker, on chunks. Plans with a journal or keys need single records."""

    def __init__(self, settings: Settings, codec: Codec, plan: Plan) -> None:
        if plan.resume is not None or plan.keys or plan.pinned:
            raise BugError(f"{plan.role}: a plan with a journal, keys or pinned partitions is for FaustHost")
        super().__init__(settings, codec, plan)
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
        return (*super()._jobs(side_tasks), self._snapshot_regularly())

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
        self._snapshots.written.clear()

    # What whoever watches asks.

    def position(self, partition: Partition) -> int:
        """Next offset to be stepped; past markers and aborted records once all before them is finished."""
        finished: int = self._app.consumer.ledger.committable.get(partition, 0)
        return max(self._next.get(partition, 0), finished)

    def _reached(self, ends: Mapping[Partition, int]) -> bool:
        return all(self.position(partition) >= end for partition, end in ends.items())

    # The stream.

    async def _take_chunk(self, chunk: Chunk, outputs: Outputs) -> None:
        try:
            await self._outbox.room()
            if not outputs.forgotten:
                with exact_arithmetic():
                    self._fold_chunk(chunk, outputs.hold())
        except Exception as error:
            self.fail(error)
            raise

    def _fold_chunk(self, chunk: Chunk, finished: Callable[[], None]) -> None:
        place = (chunk.topic, chunk.partition)
        reached = self._next.get(place)
        # Behind it may be markers: the ledger delivers nothing twice and leaves nothing out.
        if not self._warm or reached is None or chunk.first < reached:
            raise BugError(f"{place}: a chunk from {chunk.first}; the machines are at {reached}")
        rows = self._rows[chunk.topic].rows(chunk) if self._worth_columns(chunk) else None
        if rows is not None:
            self._observe_rows(rows)
        first = 0
        for cut in [*self._cuts(chunk), chunk.next_offset]:
            end = int(np.searchsorted(chunk.offsets, cut))
            outs = self._one_by_one(chunk, first, end) if rows is None else self._fold(rows, first, end)
            self._next[place] = cut
            is_last = cut == chunk.next_offset
            self._outbox.add(place, cut, outs, on_finished=finished if is_last else None)
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

    # Wiring.

    def _make_app(self) -> Any:
        app = batch_app(
            group_name(self._settings, self._plan.group),
            self.bootstrap,
            broker_credentials=faust_credentials(self.security),
            broker_commit_interval=COMMIT_INTERVAL_S,
            producer_linger=0.0,
        )
        transport = HostedChunkTransport(app.conf.broker_consumer, app, limits=LIMITS)
        transport.host = self
        app.transport = transport
        channel = app.topic(*self._readers, value_type=bytes)
        app.agent(channel, concurrency=1, name=self._plan.role)(each_chunk(app, self._take_chunk))
        return app
