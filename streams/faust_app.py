"""The one place where Faust runs our machines: bytes in, ``step``, bytes out, then the offset.

A record is finished when all it caused is acknowledged, or its dead letter is; only then may its offset be committed. An
unknown exception ends the process with nothing of that record committed, so that its successor meets it again. Machines
are stepped one record at a time, in the order of delivery, with ``concurrency=1``; a record delivered twice within one
assignment is stepped once. Nothing else in SKEET knows Faust: another engine replaces this file and its driver.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust

from skeet.config import Settings
from skeet.connections.kafka import aiokafka_options
from skeet.core.errors import InfrastructureError, InvalidInput, UnknownEvent
from skeet.core.market import Quote, Trade
from skeet.core.record import Out, Record, TopicPosition
from skeet.core.values import NS_PER_MS, NS_PER_S, exact_arithmetic
from skeet.health import HEALTH
from skeet.metrics import counter, histogram
from skeet.process import DRAIN_DEADLINE_S, StopSignal, announce_ready, logger
from skeet.schemas.codec import Codec
from skeet.streams.catching_up import Progress
from skeet.streams.crash_points import (
    STRATEGY_AFTER_COMMANDS,
    STRATEGY_AFTER_JOURNAL,
    STRATEGY_BEFORE_COMMANDS,
    STRATEGY_BEFORE_OFFSET_COMMIT,
    STRATEGY_IN_CHECKPOINT,
    WORKER_BEFORE_ACKNOWLEDGED,
    WORKER_BEFORE_OFFSET_COMMIT,
    CrashPoint,
    reach,
)
from skeet.streams.door import Door, RawRecord, dead_letter
from skeet.streams.faust_driver import HeldPositions, HostedTransport
from skeet.streams.gathering import GATHERED_MAX_S, Gathering
from skeet.streams.journaling import CHECKPOINT_EVERY_S, JournalWriter
from skeet.streams.kafka import group_name, producer
from skeet.streams.outbox import Outbox
from skeet.streams.stages import Partition, Resume, Resumed, Stage, StepAll
from skeet.streams.topics import TOPIC_BY_NAME, PartitionedBy, topic_name

COMMIT_INTERVAL_S = 0.5
"""How far behind the work the committed positions are: what a kill repeats, at most."""
PACE_S = 0.025
"""Paced machines are asked this often; a quarter of the 100 ms they promise."""
MAX_BARRIERS = 16
"""Barriers that wait for lagging inputs; the oldest go first, a newer one says more."""
DRAIN_S = DRAIN_DEADLINE_S / 4
END_LOOK_S = 1.0
"""How often a host looks whether it has read its partitions to their ends."""
JOIN_DEADLINE_S = 60.0
"""A member that gets no assignment for this long gives up and is started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a process hosts.

    ``group`` names the consumer group (without prefix). ``keys`` reads only these keys of a topic, by topic name, and
    ``pinned`` only that partition. ``starts`` gives first offsets that win over older committed ones. ``static_member``
    lets a restarted process take its predecessor's place at once. ``resume`` is for a single stage that journals the order
    in which it merges its inputs: it takes the place of that stage's ``restore``.
    """

    role: str
    group: str
    stages: Sequence[Stage]
    keys: Mapping[str, bytes] = field(default_factory=dict)
    pinned: Mapping[str, int] = field(default_factory=dict)
    starts: Mapping[Partition, int] = field(default_factory=dict)
    static_member: str = ""
    resume: Resume | None = None


@dataclass(slots=True)
class _Barrier:
    stage: int
    record: Record[Any]
    ends: Mapping[Partition, int]


# Twenty lines a second while a broker is away; what cannot be cured raises, and confluent-kafka says the rest.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class FaustHost:
    """Runs the stages of a plan in one Faust worker until asked to stop."""

    def __init__(self, settings: Settings, codec: Codec, plan: Plan) -> None:
        self.bootstrap = settings.kafka.bootstrap
        self.security: Mapping[str, Any] = aiokafka_options(settings.kafka)
        self.static_member = plan.static_member
        self.pinned = {topic_name(TOPIC_BY_NAME[name], settings.kafka): p for name, p in plan.pinned.items()}
        self._settings = settings
        self._codec = codec
        self._plan = plan
        self._prefix = settings.kafka.topic_prefix
        self._door = Door(settings.kafka, codec)
        self._stages = tuple(plan.stages)
        self._readers = self._routes()
        self._keys = {self._prefix + name: key for name, key in plan.keys.items()}
        self._outbox = Outbox(settings.kafka, codec, producer(settings, f"skeet-{plan.group}"))
        self._states: list[Any] = []
        self._next: dict[Partition, int] = {}
        self._barriers: deque[_Barrier] = deque(maxlen=MAX_BARRIERS)
        self._captures: set[asyncio.Task[None]] = set()
        self._warm = False
        self._journal: JournalWriter | None = None
        self._gathering = Gathering()
        self._assigned = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._app = self._make_app()
        self._held = HeldPositions(self._app)
        self._queue: Any = None
        self._progress = Progress(group_name(settings, plan.group), self)
        self._dead_letters = counter("skeet_dead_letters_total", plan.role)
        self._frame_to_log = histogram("skeet_hop_latency_seconds", "frame_to_log") if plan.role == "worker" else None

    @property
    def assigned(self) -> frozenset[Partition]:
        """Partitions this process reads now."""
        return frozenset(self._next)

    async def run(self, stop: StopSignal, *side_tasks: Any) -> int:
        """Join the group, work until ``stop``, drain, commit, leave. Returns the exit code.

        ``side_tasks`` are coroutines that run beside the machines; one that fails ends the process.
        """
        tasks = [asyncio.ensure_future(job) for job in self._jobs(side_tasks)]
        for task in tasks:
            task.add_done_callback(self._side_task_ended)
        await self._app.start()
        ready = asyncio.ensure_future(self._announce())
        crashed = asyncio.ensure_future(self._app._crashed.wait())
        stopping = asyncio.ensure_future(stop.wait_async())
        await asyncio.wait({self._failed, crashed, stopping}, return_when=asyncio.FIRST_COMPLETED)
        error = self._error()
        if error is None:
            await self._within("commit", self._finish())
        for task in (*tasks, ready, crashed, stopping):
            task.cancel()
        if not await self._within("stop of Faust", self._app.stop()):
            # Faust's services swallow cancellation; what they still hold is not committed, and is read again.
            os._exit(0 if error is None else 1)
        if error is not None:
            raise error
        return 0

    def _jobs(self, side_tasks: Sequence[Any]) -> Sequence[Any]:
        return (self._outbox.run(), self._pace(), self._checkpoint_regularly(), *self._probes(), *side_tasks)

    async def _finish(self) -> None:
        self._checkpoint()
        await self._outbox.drained(DRAIN_S)
        await self._app.consumer.commit()

    async def _within(self, what: str, job: Any) -> bool:
        """Whether the job ended in its time; it is not cancelled."""
        _, unfinished = await asyncio.wait({asyncio.ensure_future(job)}, timeout=DRAIN_S)
        if unfinished:
            logger().warning("not in time", what=what, deadline_s=DRAIN_S)
        return not unfinished

    def fail(self, error: BaseException) -> None:
        """End the process without finishing anything more."""
        if not self._failed.done():
            self._failed.set_exception(error)

    def emit(self, outs: Sequence[Out[Any]]) -> None:
        """Publish something that no input caused (the clock's tick, a halt)."""
        self._outbox.add(None, 0, outs)

    async def settled(self, deadline_s: float) -> bool:
        """Wait until all that was sent is acknowledged."""
        return await self._outbox.drained(deadline_s)

    # What whoever watches asks, from its own thread.

    def position(self, partition: Partition) -> int:
        """Next offset to be stepped. Where nothing waits in Faust it is the consumer's, which moves over markers."""
        waits = self._queue is None or not self._queue.empty() or self._gathering.messages > 0
        return self._next.get(partition, 0) if waits else self._held.position(partition)

    def end(self, partition: Partition) -> int:
        """The last stable offset seen."""
        return self._held.end(partition)

    # What the driver asks.

    def committable(self) -> Mapping[Partition, int]:
        """Next offsets of finished records."""
        self._reach(WORKER_BEFORE_OFFSET_COMMIT, STRATEGY_BEFORE_OFFSET_COMMIT)
        return self._outbox.finished

    async def starting(self, committed: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Restore the machines as of where reading starts, once per assignment."""
        if self._warm:
            if (step_all := self._stages[0].step_all) is not None:
                with exact_arithmetic():
                    self._step_gathered(step_all)  # reading goes on behind them
            return {partition: self._next.get(partition, offset) for partition, offset in committed.items()}
        starts = {p: max(offset, self._plan.starts.get(p, 0)) for p, offset in committed.items()}
        began = time.monotonic()
        states: list[Any] = []
        missing: list[Out[Any]] = []
        try:
            if self._plan.resume is not None:
                resumed = await asyncio.to_thread(_resumed, self._plan.resume, starts)
                states, missing, self._journal = [resumed.state], list(resumed.outs), resumed.journal
                starts |= resumed.positions
            for stage in self._stages[len(states) :]:
                state, outs = await asyncio.to_thread(_restored, stage, starts)
                states.append(state)
                missing.extend(outs)
        except Exception as error:
            self.fail(error)
            raise
        self._states, self._next, self._warm = states, dict(starts), True
        self.emit(missing)
        self._progress.assigned(starts)
        logger().info("restored", partitions=len(starts), seconds=round(time.monotonic() - began, 3))
        self._assigned.set()
        return starts

    async def revoking(self) -> None:
        """Wait for what is in flight; what does not finish in time is repeated by the partitions' next owner."""
        await self._outbox.drained(DRAIN_S)

    def revoked(self) -> None:
        """Forget states and positions; the next assignment restores them."""
        self._warm = False
        self._journal = None
        self._progress.revoked(tuple(self._next))
        self._next.clear()
        self._gathering = Gathering()  # not stepped, in no journal: their next owner reads them
        self._barriers.clear()
        self._outbox.forget()

    # The stream.

    async def _consume(self, stream: Any) -> None:
        self._queue = stream.channel.queue
        step_all = self._stages[0].step_all
        try:
            async for event in stream.noack().events():
                await self._outbox.room()
                with exact_arithmetic():
                    if step_all is None:
                        self._take(event.message)
                    else:
                        self._gather(event.message, step_all)
        except Exception as error:
            self.fail(error)
            # Returning would let Faust start the agent anew, behind this record.
            await asyncio.get_running_loop().create_future()

    def _take(self, message: Any) -> None:
        partition = (message.topic, message.partition)
        if not self._warm or message.offset < self._next.get(partition, 0):
            return
        outs = self._react(message)
        if outs:
            self._reach(None, STRATEGY_BEFORE_COMMANDS)
        self._next[partition] = message.offset + 1
        if self._journal is None:
            self._outbox.add(partition, message.offset + 1, outs)
        else:
            self._add_journaled(self._journal, partition, message.offset + 1, outs)
        if outs:
            self._reach(WORKER_BEFORE_ACKNOWLEDGED, STRATEGY_AFTER_COMMANDS)
        if self._barriers:
            self._pass_barriers()

    def _gather(self, message: Any, step_all: StepAll) -> None:
        """Hold the message back while others of its poll come behind it. Nothing is waited for."""
        partition = (message.topic, message.partition)
        next_offset = self._gathering.positions.get(partition, self._next.get(partition, 0))
        if self._warm and message.offset >= next_offset:
            try:
                self._gathering.add(partition, message.offset + 1, self._wanted(message))
            except InvalidInput:
                self._step_gathered(step_all)
                self._take(message)  # judged alone: its dead letter goes behind what came of those before it
        if self._gathering.full or not message.followed:
            self._step_gathered(step_all)
        elif self._gathering.messages == 1:
            asyncio.get_running_loop().call_later(GATHERED_MAX_S, self._step_left, self._gathering, step_all)

    def _step_left(self, gathering: Gathering, step_all: StepAll) -> None:
        if gathering is not self._gathering:
            return
        try:
            with exact_arithmetic():
                self._step_gathered(step_all)
        except Exception as error:
            self.fail(error)

    def _wanted(self, message: Any) -> Record[Any] | None:
        wanted = self._keys.get(message.topic)
        if wanted is not None and message.key != wanted:
            return None
        record = self._door.record(self._raw(message))
        self._observe(record)
        return record

    def _step_gathered(self, step_all: StepAll) -> None:
        gathered, self._gathering = self._gathering, Gathering()
        if not gathered.messages:
            return
        assert self._journal is not None
        for record in gathered.records:
            self._journal.merged(record.at.topic, record.at.partition, record.at.offset)
        self._states[0], outs = step_all(self._states[0], gathered.records)
        if outs:
            self._reach(None, STRATEGY_BEFORE_COMMANDS)
        self._next |= gathered.positions
        self._add_journaled(self._journal, None, 0, outs)
        for partition, next_offset in gathered.positions.items():
            self._outbox.add(partition, next_offset, ())
        if outs:
            self._reach(None, STRATEGY_AFTER_COMMANDS)

    def _reach(self, worker: CrashPoint | None, strategy: CrashPoint) -> None:
        point = strategy if self._plan.role == strategy.role else worker
        if point is not None and point.role == self._plan.role:
            reach(point)

    def _react(self, message: Any) -> Sequence[Out[Any]]:
        wanted = self._keys.get(message.topic)
        if wanted is not None and message.key != wanted:
            return ()
        return self._react_to(self._raw(message), message.topic)

    def _react_to(self, raw: RawRecord, topic: str) -> Sequence[Out[Any]]:
        try:
            record = self._door.record(raw)
        except InvalidInput as error:
            if isinstance(error, UnknownEvent) and TOPIC_BY_NAME[raw.at.topic].partitioned_by is PartitionedBy.ACCOUNT:
                raise
            logger().warning("dead letter", at=str(raw.at), cause=str(error))
            self._dead_letters.inc()
            return (dead_letter(self._plan.role, raw, error),)
        self._observe(record)
        if self._journal is not None:
            self._journal.merged(record.at.topic, record.at.partition, record.at.offset)
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

    def _raw(self, message: Any) -> RawRecord:
        return RawRecord(
            at=TopicPosition(message.topic.removeprefix(self._prefix), message.partition, message.offset),
            key=message.key or b"",
            value=message.value or b"",
            log_ns=round((message.timestamp or 0) * 1000) * NS_PER_MS,
        )

    # The journal: an agent's merge order goes before its outputs, its checkpoints behind them.

    def _add_journaled(
        self, journal: JournalWriter, partition: Partition | None, next_offset: int, outs: Sequence[Out[Any]]
    ) -> None:
        def acknowledged(offset: int) -> None:
            journal.acknowledged(offset)
            if outs:
                self._reach(None, STRATEGY_AFTER_JOURNAL)

        entry = journal.entry() if outs or journal.full else None
        self._outbox.add(partition, next_offset, outs, first=entry, on_first=acknowledged)

    def _checkpoint(self) -> None:
        journal = self._journal
        if journal is None or not self._warm:
            return
        entry = journal.entry()
        if entry is not None:
            self._outbox.add(None, 0, (), first=entry, on_first=journal.acknowledged)
        positions = {f"{topic.removeprefix(self._prefix)}/{number}": n for (topic, number), n in self._next.items()}
        made = journal.checkpoint(self._states[0], positions)
        if made is not None:
            self._outbox.add_behind(lambda: self._checkpointed(made))

    def _checkpointed(self, made: Callable[[], Out[Any]]) -> Out[Any]:
        out = made()
        self._reach(None, STRATEGY_IN_CHECKPOINT)
        return out

    async def _checkpoint_regularly(self) -> None:
        while self._plan.resume is not None:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            self._checkpoint()

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
        return all(self._next.get(partition, 0) >= end for partition, end in ends.items())

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

    # Wiring.

    def _routes(self) -> dict[str, tuple[tuple[int, bool], ...]]:
        routes: dict[str, list[tuple[int, bool]]] = {}
        for index, stage in enumerate(self._stages):
            for topics, behind_barrier in ((stage.inputs, False), (stage.barriers, True)):
                for topic in topics:
                    routes.setdefault(topic_name(topic, self._settings.kafka), []).append((index, behind_barrier))
        return {name: tuple(readers) for name, readers in routes.items()}

    def _make_app(self) -> Any:
        app = faust.App(
            group_name(self._settings, self._plan.group),
            broker=";".join(f"kafka://{address}" for address in self.bootstrap.split(",")),
            broker_credentials=faust_credentials(self.security),
            store="memory://",
            datadir=Path("/nonexistent"),
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            broker_commit_interval=COMMIT_INTERVAL_S,
            producer_linger=0.0,
            stream_wait_empty=False,
        )
        transport = HostedTransport(app.conf.broker_consumer, app, loop=asyncio.get_running_loop())
        transport.host = self
        app.transport = transport
        channel = app.topic(
            *self._readers, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        app.agent(channel, concurrency=1, name=self._plan.role)(self._consume)
        return app

    async def _announce(self) -> None:
        try:
            await asyncio.wait_for(self._assigned.wait(), JOIN_DEADLINE_S)
        except TimeoutError:
            self.fail(InfrastructureError(f"no partitions were assigned for {JOIN_DEADLINE_S:.0f} s"))
            return
        announce_ready()

    def _side_task_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.fail(task.exception() or InfrastructureError("a side task ended"))

    def _probes(self) -> tuple[Any, ...]:
        """What ``/livez`` and ``/readyz`` look at: that the event loop turns, and which partitions are read to their ends."""
        return HEALTH.beat_regularly(), self._look_for_ends()

    async def _look_for_ends(self) -> None:
        """aiokafka reports no ends: one captured at a look counts as read when the position has reached it at the next."""
        captured: dict[Partition, int] = {}
        while True:
            await asyncio.sleep(END_LOOK_S)
            self._progress.look(0.0)
            for partition, end in captured.items():
                if self.position(partition) >= end:
                    self._progress.ended(partition, end)
            captured = {partition: self.end(partition) for partition in self._next if self._held.answered(partition)}

    def _error(self) -> BaseException | None:
        if self._failed.done():
            return self._failed.exception()
        if self._app._crashed.is_set():
            reason = self._app._crash_reason
            return InfrastructureError(f"Faust crashed: {reason!r}")
        return None


def faust_credentials(security: Mapping[str, Any]) -> faust.types.auth.CredentialsT | None:
    """The security options as Faust's own clients (its producer, which we do not use but it starts) take them."""
    context = security.get("ssl_context")
    if "sasl_mechanism" in security:
        return faust.SASLCredentials(
            username=security["sasl_plain_username"],
            password=security["sasl_plain_password"],
            mechanism=security["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def _resumed(resume: Resume, starts: Mapping[Partition, int]) -> Resumed:
    with exact_arithmetic():
        return resume(starts)


def _restored(stage: Stage, starts: Mapping[Partition, int]) -> tuple[Any, Sequence[Out[Any]]]:
    with exact_arithmetic():
        return stage.restore(starts) if stage.restore is not None else (stage.machine.initial(), ())
