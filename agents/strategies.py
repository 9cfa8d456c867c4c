"""The role ``strategies``: follows the control topic and keeps one process running for each started instance.

A process that ends is started again with back-off, but not after a halt: that takes a new StrategyStarted. The processes
get what they need to reach Kafka and the registry and nothing else: no venue keys, no credentials of stores. After a stop
that asks for it, the book's open orders are canceled once its process is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TopicPartition
from pydantic import SecretStr

from skeet.agents.strategy_instances import Instance, Instances, fold
from skeet.agents.strategy_loading import user_folder
from skeet.agents.strategy_process import HALTED
from skeet.config import KafkaSettings, Settings
from skeet.connections.kafka import connection_environment
from skeet.core.commands import CancelAllOrders
from skeet.core.control import StrategyStopped
from skeet.core.errors import InvalidInput
from skeet.core.ids import derive_id
from skeet.core.record import Meta, Out, Record
from skeet.core.values import NS_PER_S
from skeet.health import HEALTH
from skeet.metrics import Source
from skeet.process import StopSignal, announce_ready, logger
from skeet.schemas.codec import Codec
from skeet.streams.access_admin import password_file
from skeet.streams.crash_points import (
    STRATEGIES_AFTER_START,
    STRATEGIES_BEFORE_START,
    STRATEGIES_BEFORE_WITHDRAW,
    chaos_environment,
    reach,
)
from skeet.streams.door import Door
from skeet.streams.kafka import consumer, producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import COMMANDS, CONTROL, topic_name

STRATEGIES, STRATEGY = "strategies", "strategy"
"""This role and its instances, which are principals of their own to a secured Kafka."""

BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before the first, second … restart of a process that keeps ending; the last one goes on."""
STEADY_S = 60.0
"""A process that ran this long starts again without waiting."""
STOP_DEADLINE_S = 12.0
"""Instances drain in this time when the platform stops (a role has 20 s); then they are killed."""
LIVE_LIMIT_S = 60.0
"""One control record may stop an instance, which has its deadline, and start another."""
POLL_S = 0.2
VALIDITY_NS = 60 * NS_PER_S

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV", "TMPDIR")
"""All that an instance's environment takes over from ours."""


@dataclass(slots=True)
class Child:
    """The process of one instance; ``restarts`` counts ends without a steady run between them."""

    process: subprocess.Popen[bytes]
    started_at: float
    offset: int


@dataclass(slots=True)
class Waiting:
    """When an instance may start again, and how often it ended."""

    until: float = 0.0
    restarts: int = 0


@dataclass(slots=True)
class Runner:
    """Starts, restarts and stops the processes."""

    settings: Settings
    publisher: Publisher
    instances: Instances
    children: dict[str, Child] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)

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
            self._withdraw(instance)

    def tend(self) -> None:
        """Reap what ended, start what is missing."""
        for name, child in list(self.children.items()):
            code = child.process.poll()
            if code is not None:
                del self.children[name]
                self._ended(name, child, code)
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
            _wait(child.process, deadline - time.monotonic())
        self.children.clear()

    def _start(self, instance: Instance) -> None:
        name = instance.instance_id
        reach(STRATEGIES_BEFORE_START)
        process = subprocess.Popen(
            [sys.executable, "-m", "skeet", "run", "strategy"], env=instance_environment(self.settings, name)
        )
        self.children[name] = Child(process, time.monotonic(), instance.started.at.offset)
        logger().info("instance started", instance=name, pid=process.pid)
        reach(STRATEGIES_AFTER_START)

    def _ended(self, name: str, child: Child, code: int) -> None:
        waiting = self.waiting.setdefault(name, Waiting())
        if time.monotonic() - child.started_at > STEADY_S:
            waiting.restarts = 0
        wait_s = BACK_OFF_S[min(waiting.restarts, len(BACK_OFF_S) - 1)]
        waiting.restarts += 1
        # A halted instance is not wanted once its StrategyHalted is read here, which is a moment away.
        waiting.until = time.monotonic() + (BACK_OFF_S[-1] if code == HALTED else wait_s)
        logger().warning("instance ended", instance=name, code=code, restart_in_s=round(wait_s, 1))

    def _end(self, name: str) -> None:
        child = self.children.pop(name, None)
        if child is not None:
            child.process.terminate()
            _wait(child.process, STOP_DEADLINE_S)
            logger().info("instance stopped", instance=name)

    def _withdraw(self, instance: Instance) -> None:
        """Cancel the book's orders; the id follows from the stop, so that a restart of this role asks the same again."""
        stopped, meta = instance.last.event, instance.last.meta
        if not (isinstance(stopped, StrategyStopped) and stopped.cancel_open and meta is not None):
            return
        valid_until = instance.last.log_ns + VALIDITY_NS
        if valid_until < time.time_ns():
            return
        command = CancelAllOrders(ts_cause=instance.last.log_ns, valid_until=valid_until, book_id=instance.instance_id)
        reach(STRATEGIES_BEFORE_WITHDRAW)
        self.publisher.send([_command(command, instance, meta)])
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
    for instance in instances.values():
        if instance.state == "stopped":
            runner.changed(instance)
    Source("skeet_strategy_instances", runner.counts).register()
    HEALTH.loop("strategies", LIVE_LIMIT_S)
    announce_ready()
    try:
        _follow(settings, codec, runner, next_offset, stop)
    finally:
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


def instance_environment(settings: Settings, instance_id: str) -> dict[str, str]:
    """The whole environment of an instance's process. Its data directory is its own: it holds no secrets."""
    kafka = settings.kafka
    chosen = {
        "SKEET_DATA": str(settings.data / "instances" / instance_id),
        "SKEET_STRATEGY__INSTANCE": instance_id,
        "SKEET_STRATEGIES_DIR": str(user_folder(settings)),
        "SKEET_TENANT": settings.tenant,
        "SKEET_LOG_LEVEL": settings.log_level,
        "SKEET_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": str(kafka.account_partitions),
        "SKEET_KAFKA__MARKET_PARTITIONS": str(kafka.market_partitions),
        "SKEET_KAFKA__LINGER_MS": str(kafka.linger_ms),
        "SKEET_REGISTRY__URL": settings.registry.url,
    }
    chosen |= chaos_environment(settings) | connection_environment(_instances_login(settings), settings.registry)
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | chosen


def _instances_login(settings: Settings) -> KafkaSettings:
    """As the principal ``strategy`` where this process is the principal ``strategies``; else as this process."""
    kafka = settings.kafka
    if kafka.sasl_username != STRATEGIES:
        return kafka
    password = SecretStr(password_file(settings, STRATEGY).read_text().strip())
    return kafka.model_copy(update={"sasl_username": STRATEGY, "sasl_password": password})


def _command(command: CancelAllOrders, instance: Instance, stopped: Meta) -> Out[CancelAllOrders]:
    meta = Meta(
        event_id=derive_id("command", "cancel-after-stop", stopped.event_id),
        tenant_id=stopped.tenant_id,
        account_id=instance.started.meta.account_id if instance.started.meta else stopped.account_id,
        principal_id=stopped.principal_id,
        correlation_id=stopped.event_id,
        causation_id=stopped.event_id,
        cause_at=str(instance.last.at),
        ts_event=instance.last.log_ns,
        ts_init=stopped.ts_init,
    )
    return Out(topic=COMMANDS.name, key=meta.account_id, event=command, meta=meta)


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        process.wait(max(0.1, timeout_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
