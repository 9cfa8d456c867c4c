"""The role ``strategies``: follows the control topic and keeps one process running for each started instance.

A process that ends is started again with back-off, but not after a halt: that takes a new StrategyStarted. The processes
get what they need to reach Kafka and the registry and nothing else: no venue keys, no credentials of stores. One that takes
more than its limits is killed, and halted with an event. After a stop that asks for it, and after a halt unless it was
started otherwise, the book's open orders are canceled once its process is gone.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TopicPartition

from skeet.agents.strategy_instances import Instance, Instances, fold
from skeet.agents.strategy_launch import Child, broker_ports, instance_environment, launch
from skeet.agents.strategy_oversight import Verdict
from skeet.agents.strategy_priority import Priorities
from skeet.agents.strategy_watch import HALTED, HALTED_BY_ITSELF
from skeet.config import Settings
from skeet.core.commands import CancelAllOrders
from skeet.core.control import StrategyHalted, StrategyStopped
from skeet.core.errors import BugError, InvalidInput
from skeet.core.ids import derive_id
from skeet.core.record import Meta, Out, Record
from skeet.core.values import NS_PER_S, EventId, PrincipalId
from skeet.health import HEALTH
from skeet.metrics import Source
from skeet.process import StopSignal, announce_ready, logger
from skeet.schemas.codec import Codec
from skeet.streams.crash_points import (
    STRATEGIES_AFTER_START,
    STRATEGIES_BEFORE_START,
    STRATEGIES_BEFORE_WITHDRAW,
    reach,
)
from skeet.streams.door import Door
from skeet.streams.kafka import consumer, producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import COMMANDS, CONTROL, topic_name

__all__ = ("Runner", "instance_environment", "main")

BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before the first, second … restart of a process that keeps ending; the last one goes on."""
STEADY_S = 60.0
"""A process that ran this long starts again without waiting."""
STOP_DEADLINE_S = 12.0
"""Instances drain in this time when the platform stops (a role has 20 s); then they are killed."""
LIVE_LIMIT_S = 60.0
"""One control record may stop an instance, which has its deadline, and start another."""
POLL_S = 0.1
"""Processes are looked at this often; a look at one takes about 0.2 ms."""
VALIDITY_NS = 60 * NS_PER_S
ROLE = PrincipalId("strategies")
"""Who halts an instance from outside; a halt that the instance writes itself names the instance."""


@dataclass(slots=True)
class Waiting:
    """When an instance may start again, and how often it ended; ``unexplained``: without having said why."""

    until: float = 0.0
    restarts: int = 0
    unexplained: int = 0


@dataclass(slots=True)
class Runner:
    """Starts, watches, restarts, halts and stops the processes."""

    settings: Settings
    publisher: Publisher
    instances: Instances
    ports: tuple[int, ...] = ()
    children: dict[str, Child] = field(default_factory=dict)
    unwritten: list[Out[Any]] = field(default_factory=list)
    """Halts of this round: all that misbehaves is killed before anything is written, which takes its time."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    priorities: Priorities = field(default_factory=Priorities)

    def changed(self, instance: Instance) -> None:
        """A control record spoke of the instance."""
        name = instance.instance_id
        self.waiting.pop(name, None)
        child = self.children.get(name)
        if child is not None and child.offset != instance.started.at.offset:
            # Started anew, perhaps with other parameters: the old process goes first.
            self._end(name)
        if instance.state == "stopped":
            self._end(name)
        if not instance.wanted and _cancels(instance):
            self._withdraw(instance)

    def tend(self) -> None:
        """Reap what ended, halt what misbehaves, start what is missing."""
        for name, child in list(self.children.items()):
            code = child.process.poll()
            verdict = child.overseer.look()
            if verdict is not None:
                verdict = verdict if code is not None else child.overseer.placed(verdict)
                self._halt(name, child, verdict)
            elif code is not None:
                self._ended(name, child, code)
        self.priorities.follow(child.process.pid for child in self.children.values() if child.overseer.ready)
        if self.unwritten:
            self.publisher.send(self.unwritten)
            self.publisher.flush()
            self.unwritten.clear()
        for name, instance in self.instances.items():
            due = self.waiting.get(name, Waiting()).until <= time.monotonic()
            if instance.wanted and name not in self.children and due:
                self._start(instance)

    def counts(self) -> dict[tuple[str, ...], float]:
        """Instances by state, for the metric."""
        wanted = sum(instance.wanted for instance in tuple(self.instances.values()))
        running = len(self.children)
        return {("running",): float(running), ("waiting",): float(max(0, wanted - running))}

    def end_all(self) -> None:
        """Ask all to stop, then kill what did not."""
        for child in self.children.values():
            child.process.terminate()
        deadline = time.monotonic() + STOP_DEADLINE_S
        for child in self.children.values():
            child.wait(deadline - time.monotonic())
        self.children.clear()

    def _start(self, instance: Instance) -> None:
        name, offset = instance.instance_id, instance.started.at.offset
        taken = [child.uid for child in self.children.values()]
        reach(STRATEGIES_BEFORE_START)
        child = self.children[name] = launch(self.settings, name, offset, taken, self.ports)
        logger().info("instance started", instance=name, pid=child.process.pid, uid=child.uid)
        reach(STRATEGIES_AFTER_START)

    def _ended(self, name: str, child: Child, code: int) -> None:
        del self.children[name]
        child.overseer.close()
        waiting = self.waiting.setdefault(name, Waiting())
        if time.monotonic() - child.started_at > STEADY_S:
            waiting.restarts = waiting.unexplained = 0
        wait_s = BACK_OFF_S[min(waiting.restarts, len(BACK_OFF_S) - 1)]
        waiting.restarts += 1
        why = child.overseer.explained
        # A halted instance is not wanted once its StrategyHalted is read here, which is a moment away.
        halted = code == HALTED or why == HALTED_BY_ITSELF
        waiting.until = time.monotonic() + (BACK_OFF_S[-1] if halted else wait_s)
        logger().warning("instance ended", instance=name, code=code, restart_in_s=round(wait_s, 1), why=why)
        # Who was killed from outside (an operator, the system short of memory) did nothing wrong by that.
        waiting.unexplained += not why and not halted and code != -signal.SIGKILL
        limit = self.settings.strategy.limits.unexplained_ends
        if waiting.unexplained >= limit:
            text = f"its process ended {limit} times, last with code {code} (strategy.limits.unexplained_ends)"
            self._write_halt(self.instances[name], Verdict(reason="ends", error=text))

    def _halt(self, name: str, child: Child, verdict: Verdict) -> None:
        """Kill the process, then say so: what it does in between would be done by nobody."""
        del self.children[name]
        child.kill()
        logger().error("instance halted", instance=name, reason=verdict.reason, error=verdict.error)
        self._write_halt(self.instances[name], verdict)

    def _write_halt(self, instance: Instance, verdict: Verdict) -> None:
        waiting = self.waiting.setdefault(instance.instance_id, Waiting())
        waiting.until = time.monotonic() + BACK_OFF_S[-1]
        started = instance.started
        event = StrategyHalted(
            instance_id=instance.instance_id,
            handler=verdict.handler,
            file=verdict.file,
            line=verdict.line,
            error=verdict.error,
            reason=verdict.reason,
        )
        identity = derive_id("strategy-halted", instance.instance_id, started.event_id, verdict.reason)
        meta = _caused_by(started, identity, instance, ROLE)
        self.unwritten.append(Out(topic=CONTROL.name, key=instance.instance_id, event=event, meta=meta))

    def _end(self, name: str) -> None:
        child = self.children.pop(name, None)
        if child is not None:
            child.end(STOP_DEADLINE_S)
            logger().info("instance stopped", instance=name)

    def _withdraw(self, instance: Instance) -> None:
        """Cancel the book's orders; the id follows from the stop, so that a restart of this role asks the same again."""
        last = instance.last
        valid_until = last.log_ns + VALIDITY_NS
        if last.meta is None or valid_until < time.time_ns():
            return
        command = CancelAllOrders(ts_cause=last.log_ns, valid_until=valid_until, book_id=instance.instance_id)
        identity = derive_id("command", "cancel-after-stop", last.meta.event_id)
        meta = _caused_by(last, identity, instance, last.meta.principal_id)
        reach(STRATEGIES_BEFORE_WITHDRAW)
        self.publisher.send([Out(topic=COMMANDS.name, key=meta.account_id, event=command, meta=meta)])
        self.publisher.flush()


def main(settings: Settings) -> int:
    """Run until SIGTERM; returns the exit code."""
    stop = StopSignal().install()
    codec = registered_codec(settings)
    instances: Instances = {}
    next_offset = 0
    for record in records_until_end(settings, codec, [CONTROL]):
        fold(instances, record)
        next_offset = record.at.offset + 1
    runner = Runner(settings, Publisher(settings, codec, producer(settings, "skeet-strategies")), instances)
    runner.ports = broker_ports(settings)
    for instance in list(instances.values()):
        if not instance.wanted:
            runner.changed(instance)
    Source("skeet_strategy_instances", runner.counts).register()
    HEALTH.loop("strategies", LIVE_LIMIT_S)
    announce_ready()
    runner.priorities.start()
    try:
        _follow(settings, codec, runner, next_offset, stop)
    finally:
        runner.priorities.close()
        runner.end_all()
    return 0


def _follow(settings: Settings, codec: Codec, runner: Runner, next_offset: int, stop: StopSignal) -> None:
    client = consumer(settings, "skeet-strategies")
    door = Door(settings.kafka, codec)
    try:
        client.assign([TopicPartition(topic_name(CONTROL, settings.kafka), 0, next_offset)])
        while not stop.stopping:
            HEALTH.beat()
            message = client.poll(POLL_S)
            if message is not None and message.error() is None:
                try:
                    _apply(runner, door.message(message))
                except InvalidInput as error:
                    logger().warning("control record not understood", offset=message.offset(), error=str(error))
            runner.tend()
    finally:
        client.close()


def _apply(runner: Runner, record: Record[Any]) -> None:
    changed = fold(runner.instances, record)
    if changed is not None:
        runner.changed(changed)


def _cancels(instance: Instance) -> bool:
    """Whether the end of the instance asks for its orders to be canceled, and nobody has asked yet."""
    event, meta = instance.last.event, instance.last.meta
    match event:
        case StrategyStopped(cancel_open=cancel_open):
            return cancel_open
        case StrategyHalted():
            # A halt that the instance wrote itself came with its cancels.
            halted_here = meta is not None and meta.principal_id == ROLE
            return halted_here and instance.started.event.on_halt == "cancel"
        case _:
            return False


def _caused_by(cause: Record[Any], identity: EventId, instance: Instance, principal: PrincipalId) -> Meta:
    """The envelope of what this role writes because of a control record."""
    known = cause.meta or instance.started.meta
    if known is None:
        raise BugError(f"control record {cause.at} has no envelope")
    return Meta(
        event_id=identity,
        tenant_id=known.tenant_id,
        account_id=instance.started.meta.account_id if instance.started.meta else known.account_id,
        principal_id=principal,
        correlation_id=cause.event_id,
        causation_id=cause.event_id,
        cause_at=str(cause.at),
        ts_event=cause.log_ns,
        ts_init=known.ts_init,
    )
