"""Steps an agent along chunks and keeps its journal: a strategy's host.

The order in which the agent was given records goes into its journal before anything that came of it leaves, its checkpoints
behind that. Records of keys that nobody reads are passed over as bytes. What a poll brought of one partition is given
together to a machine that takes it so, up to :data:`TOGETHER` records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from skeet.config import Settings
from skeet.core.errors import BugError, UnknownEvent
from skeet.core.record import Out, Record
from skeet.core.values import exact_arithmetic
from skeet.schemas.codec import Codec
from skeet.streams.batches.app import raw_record
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.framing import walk_plainly
from skeet.streams.batches.ledger import Limits
from skeet.streams.crash_points import (
    STRATEGY_AFTER_COMMANDS,
    STRATEGY_AFTER_JOURNAL,
    STRATEGY_BEFORE_COMMANDS,
    STRATEGY_BEFORE_OFFSET_COMMIT,
    STRATEGY_IN_CHECKPOINT,
    reach,
)
from skeet.streams.door import RawRecord
from skeet.streams.faust_app import COMMIT_INTERVAL_S, FaustHost, Plan
from skeet.streams.journaling import CHECKPOINT_EVERY_S, JournalWriter
from skeet.streams.stages import Partition, Resume, Resumed

TOGETHER = 256
"""Records stepped between two turns of the event loop, those of other keys among them. A command of the first waits for the
last: some 25 ms, while an agent is behind."""


class JournaledHost(FaustHost):
    """Runs the single stage of a plan with a journal."""

    limits = Limits(chunk_records=TOGETHER, commit_after_s=COMMIT_INTERVAL_S)
    # An instance's process is to be small, and meets few records at a time.
    walk = staticmethod(walk_plainly)
    # Nothing comes behind a command that is worth waiting for, and it waits for its journal's entry already.
    producer_options = MappingProxyType({"linger_ms": 0})

    def __init__(self, settings: Settings, codec: Codec, plan: Plan) -> None:
        if plan.resume is None or len(plan.stages) != 1 or plan.stages[0].barriers:
            raise BugError(f"{plan.role}: a journal is of one stage, which waits for no barriers")
        super().__init__(settings, codec, plan)
        self._resume: Resume = plan.resume
        self._stage = self._stages[0]
        self._keys = {self._prefix + name: key for name, key in plan.keys.items()}
        self._journal: JournalWriter | None = None

    async def _restore(
        self, starts: Mapping[Partition, int]
    ) -> tuple[list[Any], list[Out[Any]], Mapping[Partition, int]]:
        resumed = await asyncio.to_thread(_resumed, self._resume, starts)
        self._journal = resumed.journal
        return [resumed.state], list(resumed.outs), resumed.positions

    def revoked(self) -> None:
        """Forget state, positions and journal; the next assignment claims it anew."""
        super().revoked()
        self._journal = None

    def committing(self) -> None:
        """What is finished is about to be committed."""
        reach(STRATEGY_BEFORE_OFFSET_COMMIT)

    # The stream.

    async def _take(self, chunk: Chunk, outputs: Outputs) -> None:
        place, finished = (chunk.topic, chunk.partition), outputs.hold()
        for first in range(0, len(chunk), TOGETHER):
            if first:
                await asyncio.sleep(0)  # what was acknowledged meanwhile lets commands go
                await self._outbox.room()
            if outputs.forgotten:
                return
            end = min(first + TOGETHER, len(chunk))
            with exact_arithmetic():
                self._take_records(self._wanted(chunk, first, end))
            self._next[place] = int(chunk.offsets[end]) if end < len(chunk) else chunk.next_offset
        self._outbox.add((), on_finished=finished)

    def _wanted(self, chunk: Chunk, first: int, end: int) -> Iterator[RawRecord]:
        wanted = self._keys.get(chunk.topic)
        for index in range(first, end):
            if wanted is None or chunk.key(index) == wanted:
                yield raw_record(chunk, index, self._prefix)

    def _take_records(self, raws: Iterator[RawRecord]) -> None:
        waiting: list[Record[Any]] = []
        for raw in raws:
            try:
                record = self._record(raw)
            except UnknownEvent:
                self._step(waiting)
                raise
            if isinstance(record, Record):
                waiting.append(record)
            else:
                # Its dead letter goes behind what came of those before it.
                self._step(waiting)
                waiting = []
                self._send((record,))
        self._step(waiting)

    def _step(self, records: Sequence[Record[Any]]) -> None:
        together = self._stage.step_all
        if together is not None and records:
            for record in records:
                self._note(record)
            self._states[0], outs = together(self._states[0], records)
            self._send(outs)
            return
        for record in records:
            self._note(record)
            self._states[0], outs = self._stage.machine.step(self._states[0], record)
            self._send(outs)

    # The journal.

    @property
    def _writer(self) -> JournalWriter:
        if self._journal is None:
            raise BugError("records before the journal was claimed")
        return self._journal

    def _note(self, record: Record[Any]) -> None:
        self._writer.merged(record.at.topic, record.at.partition, record.at.offset)

    def _send(self, outs: Sequence[Out[Any]]) -> None:
        journal = self._writer
        if not outs and not journal.full:
            return

        def acknowledged(offset: int) -> None:
            journal.acknowledged(offset)
            if outs:
                reach(STRATEGY_AFTER_JOURNAL)

        if outs:
            reach(STRATEGY_BEFORE_COMMANDS)
        self._outbox.add(outs, first=journal.entry(), on_first=acknowledged)
        if outs:
            reach(STRATEGY_AFTER_COMMANDS)

    # Checkpoints.

    def _jobs(self, side_tasks: Sequence[Any]) -> Sequence[Any]:
        return (*super()._jobs(side_tasks), self._checkpoint_regularly())

    async def _finish(self) -> None:
        self._checkpoint()
        await super()._finish()

    async def _checkpoint_regularly(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            self._checkpoint()

    def _checkpoint(self) -> None:
        journal = self._journal
        if journal is None or not self._warm:
            return
        entry = journal.entry()
        if entry is not None:
            self._outbox.add((), first=entry, on_first=journal.acknowledged)
        positions = {f"{topic.removeprefix(self._prefix)}/{number}": n for (topic, number), n in self._next.items()}
        made = journal.checkpoint(self._states[0], positions)
        if made is not None:
            self._outbox.add_behind(lambda: _checkpointed(made))


def _checkpointed(made: Callable[[], Out[Any]]) -> Out[Any]:
    out = made()
    reach(STRATEGY_IN_CHECKPOINT)
    return out


def _resumed(resume: Resume, starts: Mapping[Partition, int]) -> Resumed:
    with exact_arithmetic():
        return resume(starts)
