"""The one place where Faust runs our machines: bytes in, ``step``, bytes out, then the offset.

Faust delivers chunks: what one poll brought of one partition. A chunk is finished when all that it caused is acknowledged,
dead letters among it; only then may its offsets be committed. An unknown exception ends the process with nothing of that
chunk committed, so that its successor meets it again. Machines are stepped in the order of delivery, with ``concurrency=1``.
What becomes of a chunk is for the two kinds of hosts: :mod:`skeet.streams.batches.host` folds it for the worker's machines,
:mod:`skeet.streams.journaled_host` steps a strategy along it and keeps a journal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import faust

from skeet.config import Settings
from skeet.connections.kafka import aiokafka_options
from skeet.core.errors import BugError, InfrastructureError, InvalidInput, UnknownEvent
from skeet.core.record import Out, Record
from skeet.core.values import exact_arithmetic
from skeet.health import HEALTH
from skeet.metrics import counter
from skeet.process import DRAIN_DEADLINE_S, StopSignal, announce_ready, logger
from skeet.schemas.codec import Codec
from skeet.streams.batches.app import batch_app, each_chunk
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.framing import Walk
from skeet.streams.batches.hosted import HostedChunkTransport
from skeet.streams.batches.ledger import Limits
from skeet.streams.catching_up import Progress
from skeet.streams.door import Door, RawRecord, dead_letter
from skeet.streams.faust_driver import SeenEnds
from skeet.streams.kafka import group_name, producer
from skeet.streams.outbox import Outbox
from skeet.streams.stages import Partition, Restored, Resume, Stage
from skeet.streams.topics import TOPIC_BY_NAME, PartitionedBy, topic_name

COMMIT_INTERVAL_S = 0.5
"""How far behind the work the committed positions are: a kill repeats that, and the chunk in hand."""
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


# Twenty lines a second while a broker is away; what cannot be cured raises, and confluent-kafka says the rest.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class FaustHost:
    """Runs the stages of a plan in one Faust worker until asked to stop.

    ``limits`` are those of a chunk and of what is delivered and not finished; ``walk`` finds the records of a chunk (None:
    the compiled one); ``producer_options`` are those of the outbox's producer.
    """

    limits = Limits(commit_after_s=COMMIT_INTERVAL_S)
    walk: Walk | None = None
    producer_options: Mapping[str, Any] = MappingProxyType({})

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
        self._outbox = Outbox(settings.kafka, codec, producer(settings, f"skeet-{plan.group}", **self.producer_options))
        self._states: list[Any] = []
        self._next: dict[Partition, int] = {}
        self._warm = False
        self._assigned = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._app = self._make_app()
        self._ends = SeenEnds(self._app)
        self._progress = Progress(group_name(settings, plan.group), self)
        self._dead_letters = counter("skeet_dead_letters_total", plan.role)

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
        # Faust's start ends when the group has given partitions; while the brokers are away that is never, and a stop goes on.
        starting = asyncio.ensure_future(self._app.start())
        starting.add_done_callback(self._side_task_ended)
        ready = asyncio.ensure_future(self._announce())
        crashed = asyncio.ensure_future(self._app._crashed.wait())
        stopping = asyncio.ensure_future(stop.wait_async())
        await asyncio.wait({self._failed, crashed, stopping}, return_when=asyncio.FIRST_COMPLETED)
        error = self._error()
        if error is None:
            await self._within("commit", self._finish())
        for task in (*tasks, starting, ready, crashed, stopping):
            task.cancel()
        if not await self._within("stop of Faust", self._app.stop()):
            # Faust's services swallow cancellation; what they still hold is not committed, and is read again.
            os._exit(0 if error is None else 1)
        if error is not None:
            raise error
        return 0

    def _jobs(self, side_tasks: Sequence[Any]) -> Sequence[Any]:
        return (self._outbox.run(), *self._probes(), *side_tasks)

    async def _finish(self) -> None:
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
        self._outbox.add(outs)

    async def settled(self, deadline_s: float) -> bool:
        """Wait until all that was sent is acknowledged."""
        return await self._outbox.drained(deadline_s)

    # What whoever watches asks, from its own thread.

    def position(self, partition: Partition) -> int:
        """Next offset to be stepped; past markers and aborted records once all before them is finished."""
        finished: int = self._app.consumer.ledger.committable.get(partition, 0)
        return max(self._next.get(partition, 0), finished)

    def end(self, partition: Partition) -> int:
        """The last stable offset seen."""
        return self._ends.end(partition)

    # What the driver asks.

    def committing(self) -> None:
        """What is finished is about to be committed."""

    async def starting(self, committed: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Restore the machines as of where reading starts, once per assignment."""
        if self._warm:
            return {partition: self._next.get(partition, offset) for partition, offset in committed.items()}
        starts = {p: max(offset, self._plan.starts.get(p, 0)) for p, offset in committed.items()}
        began = time.monotonic()
        try:
            states, missing, positions = await self._restore(starts)
        except Exception as error:
            self.fail(error)
            raise
        starts |= positions
        self._states, self._next, self._warm = states, dict(starts), True
        self.emit(missing)
        self._progress.assigned(starts)
        logger().info("restored", partitions=len(starts), seconds=round(time.monotonic() - began, 3))
        self._assigned.set()
        return starts

    async def _restore(
        self, starts: Mapping[Partition, int]
    ) -> tuple[list[Any], list[Out[Any]], Mapping[Partition, int]]:
        """A state for each stage, outputs missing from the log, and positions that win over ``starts``."""
        states: list[Any] = []
        missing: list[Out[Any]] = []
        for stage in self._stages:
            state, outs = await asyncio.to_thread(_restored, stage, starts)
            states.append(state)
            missing.extend(outs)
        return states, missing, {}

    async def revoking(self) -> None:
        """Wait for what is in flight; what does not finish in time is repeated by the partitions' next owner."""
        await self._outbox.drained(DRAIN_S)

    def revoked(self) -> None:
        """Forget states and positions; the next assignment restores them."""
        self._warm = False
        self._progress.revoked(tuple(self._next))
        self._next.clear()
        self._outbox.forget()

    # The stream.

    async def _take_chunk(self, chunk: Chunk, outputs: Outputs) -> None:
        try:
            await self._outbox.room()
            if not outputs.forgotten:
                self._require_next(chunk)
                await self._take(chunk, outputs)
        except Exception as error:
            self.fail(error)
            raise

    async def _take(self, chunk: Chunk, outputs: Outputs) -> None:
        """Give the chunk to the machines, and what comes of it to the outbox; hold it until that is acknowledged."""
        raise NotImplementedError

    def _require_next(self, chunk: Chunk) -> None:
        place = (chunk.topic, chunk.partition)
        reached = self._next.get(place)
        # Behind it may be markers: the ledger delivers nothing twice and leaves nothing out.
        if not self._warm or reached is None or chunk.first < reached:
            raise BugError(f"{place}: a chunk from {chunk.first}; the machines are at {reached}")

    def _record(self, raw: RawRecord) -> Record[Any] | Out[Any]:
        """The record, or the dead letter that becomes of it.

        Raises
        ------
        UnknownEvent
            it is an account's, and newer than this code.
        """
        try:
            return self._door.record(raw)
        except InvalidInput as error:
            if isinstance(error, UnknownEvent) and TOPIC_BY_NAME[raw.at.topic].partitioned_by is PartitionedBy.ACCOUNT:
                raise
            logger().warning("dead letter", at=str(raw.at), cause=str(error))
            self._dead_letters.inc()
            return dead_letter(self._plan.role, raw, error)

    # Wiring.

    def _routes(self) -> dict[str, tuple[tuple[int, bool], ...]]:
        routes: dict[str, list[tuple[int, bool]]] = {}
        for index, stage in enumerate(self._stages):
            for topics, behind_barrier in ((stage.inputs, False), (stage.barriers, True)):
                for topic in topics:
                    routes.setdefault(topic_name(topic, self._settings.kafka), []).append((index, behind_barrier))
        return {name: tuple(readers) for name, readers in routes.items()}

    def _make_app(self) -> Any:
        app = batch_app(
            group_name(self._settings, self._plan.group),
            self.bootstrap,
            broker_credentials=faust_credentials(self.security),
            broker_commit_interval=COMMIT_INTERVAL_S,
            producer_linger=0.0,
        )
        transport = HostedChunkTransport(app.conf.broker_consumer, app, limits=self.limits, walk=self.walk)
        transport.host = self
        app.transport = transport
        channel = app.topic(*self._readers, value_type=bytes)
        app.agent(channel, concurrency=1, name=self._plan.role)(each_chunk(app, self._take_chunk))
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
            captured = {partition: self.end(partition) for partition in self._next if self._ends.answered(partition)}

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


def _restored(stage: Stage, starts: Mapping[Partition, int]) -> Restored:
    with exact_arithmetic():
        return stage.restore(starts) if stage.restore is not None else (stage.machine.initial(), ())
