"""The role ``strategy``: one strategy instance in a process and a consumer group of its own.

It learns what it is from the control topic. After a start it warms up from the bars, folds its book from its account's
events, and begins at the end of the market topics. A process that takes over from one that died goes on where that one was
(:mod:`skeet.agents.strategy_resume`): commands that are too late by then expire at the desk. It has no venue keys and no credentials of
stores; it can only post commands, which the desk judges. Before any of the user's code runs, the process gives up its rights
(:mod:`skeet.agents.strategy_guard`). A process whose parent died ends itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from skeet.agents.agent_log import AgentLog
from skeet.agents.strategy_guard import guarded
from skeet.agents.strategy_instances import Instance, folded
from skeet.agents.strategy_loading import parse_parameters
from skeet.agents.strategy_loop import run_on_one_thread
from skeet.agents.strategy_resume import Fresh, Resumption
from skeet.agents.strategy_sources import sources_of
from skeet.agents.strategy_watch import HALTED, Watch
from skeet.config import Settings
from skeet.core.commands import SubmitOrder
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.market import Bar, InstrumentDefined
from skeet.core.record import Record
from skeet.core.strategy import TradedInstrument
from skeet.core.strategy.api import overrides
from skeet.core.strategy.machine import InstanceIdentity, InstanceState, StrategyMachine
from skeet.core.values import AccountId, TenantId
from skeet.process import StopSignal, logger
from skeet.schemas.codec import Codec
from skeet.streams.faust_app import Plan
from skeet.streams.journaled_host import JournaledHost
from skeet.streams.journaling import AgentIdentity
from skeet.streams.partitioner import partition_of
from skeet.streams.ranges import Partition, records_between, watermarks
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.stages import Resumed, Stage
from skeet.streams.topics import (
    ACCOUNT_EVENTS,
    CLOCK,
    COMMANDS,
    CONTROL,
    INSTRUMENTS,
    MARKET_BARS,
    MARKET_BOOKS,
    MARKET_QUOTES,
    MARKET_TRADES,
    SIGNALS,
    Topic,
    partition_count,
    topic_name,
)

INSTRUMENT_DEADLINE_S = 60.0
"""A feed defines its instruments when it starts; an instance waits this long for that."""
TAIL_COMMANDS = 5_000
"""Commands read back for orders that the desk has not answered yet; they are valid for ten seconds."""
PARENT_CHECK_S = 0.5

HANDLED: tuple[tuple[str, Topic], ...] = (
    ("on_trade", MARKET_TRADES),
    ("on_book", MARKET_BOOKS),
    ("on_bar", MARKET_BARS),
    ("on_signal", SIGNALS),
)


def main(settings: Settings) -> int:
    """Run the instance named by ``SKEET_STRATEGY__INSTANCE`` until SIGTERM or a halt; returns the exit code."""
    stop = StopSignal().install()
    return guarded(settings, lambda watch: run_on_one_thread(_run(settings, stop, watch)))


async def _run(settings: Settings, stop: StopSignal, watch: Watch) -> int:
    codec = registered_codec(settings)
    process = await asyncio.to_thread(StrategyProcess, settings, codec, watch)
    host = JournaledHost(settings, codec, process.plan())
    return await host.run(stop, _watch(process, stop)) or process.exit_code


async def _watch(process: StrategyProcess, stop: StopSignal) -> None:
    """Stop after a halt (what was published on the way is acknowledged while draining), and when the parent is gone: an
    orphan would trade beside its successor."""
    while True:
        await asyncio.sleep(PARENT_CHECK_S)
        if process.exit_code or process.watch.orphaned:
            if process.exit_code:
                process.watch.halted()
            logger().error("halted by a handler's error" if process.exit_code else "parent is gone")
            stop.stop()
            return


class StrategyProcess:
    """One instance: who it is, what it reads, how it gets its state."""

    def __init__(self, settings: Settings, codec: Codec, watch: Watch) -> None:
        self._settings = settings
        self._codec = codec
        self.watch = watch
        self._instance = self._find_instance()
        self._machine = self._make_machine()
        self._state: InstanceState | None = None

    @property
    def exit_code(self) -> int:
        """:data:`HALTED` after a halt, else 0."""
        return HALTED if self._state is not None and self._state.halted else 0

    def plan(self) -> Plan:
        """Topics of the handlers it has; only its instrument's and its account's partitions and keys."""
        market = [topic for handler, topic in HANDLED if overrides(type(self._machine.strategy), handler)]
        inputs = (MARKET_QUOTES, *market, ACCOUNT_EVENTS, CLOCK)
        keys = {topic.name: self._key(topic) for topic in inputs if topic is not CLOCK}
        pinned = {name: self._partition(topic) for topic in inputs if (name := topic.name) in keys}
        live = [(topic_name(t, self._settings.kafka), pinned.get(t.name, 0)) for t in inputs]
        ends = {p: end for p, (_, end) in watermarks(self._settings, live).items()}
        machine = self._machine
        step_all = machine.step_all if overrides(type(machine.strategy), "on_batch") else None
        return Plan(
            role="strategy",
            group=f"strategy-{self._instance.instance_id}",
            stages=(Stage(name="strategy", machine=machine, inputs=inputs, step_all=step_all),),
            keys=keys,
            pinned=pinned,
            starts=ends,
            static_member=self._instance.instance_id,
            resume=lambda starts: self._resume(starts, keys),
        )

    def _resume(self, starts: Mapping[Partition, int], keys: Mapping[str, bytes]) -> Resumed:
        """Behind the end of its journal, or afresh; ``keys`` are those it reads of its inputs."""
        own, started = self._machine.identity, self._instance.started
        identity = AgentIdentity(
            agent_id=own.instance_id,
            tenant_id=own.tenant_id,
            account_id=own.account_id,
            epoch=own.epoch,
            code_version=own.code_version,
        )
        log = AgentLog(self._settings, self._codec, own.instance_id, {**keys, MARKET_BARS.name: self._key(MARKET_BARS)})
        resumed = Resumption(self._machine, identity, log, started, self._begin)(starts)
        self._state = state = resumed.state
        self.watch.ready()
        logger().info(
            "started",
            instance=own.instance_id,
            position=str(state.book.position.quantity),
            open_orders=len(state.book.orders),
        )
        return resumed

    def _begin(self, starts: Mapping[Partition, int]) -> Fresh:
        """Book and open orders up to where the account is read from, pending commands, and the warm-up bars."""
        with self.watch.running("initial"):
            state = self._machine.initial()
        account = self._whole(ACCOUNT_EVENTS)
        decided: set[str] = set()
        for record in self._read(ACCOUNT_EVENTS, 0, starts[account]):
            self._machine.fold(state, record)
            if record.meta is not None:
                decided.add(record.meta.causation_id)
        self._add_pending(state, decided)
        return Fresh(state=state, bars=self._warm_up_bars())

    def _add_pending(self, state: InstanceState, decided: set[str]) -> None:
        """Orders asked for before a restart that the desk has not decided and may still execute."""
        now = time.time_ns()
        partition = self._whole(COMMANDS)
        _, end = watermarks(self._settings, [partition])[partition]
        for record in self._read(COMMANDS, max(0, end - TAIL_COMMANDS), end):
            command = record.event
            if not isinstance(command, SubmitOrder) or command.book_id != self._instance.instance_id:
                continue
            if record.event_id not in decided and command.valid_until > now:
                state.book.asked(record.event_id, command)

    def _warm_up_bars(self) -> tuple[Record[Bar], ...]:
        with self.watch.running("warm_up"):
            wanted = dict(self._machine.strategy.warm_up())
        if not wanted:
            return ()
        partition = self._whole(MARKET_BARS)
        _, end = watermarks(self._settings, [partition])[partition]
        count = sum(wanted.values()) * 8
        while True:
            records = list(self._read(MARKET_BARS, max(0, end - count), end))
            bars = [r for r in records if r.event.instrument_id == self._instance.started.event.instrument_id]
            enough = all(sum(bar.event.interval == i for bar in bars) >= n for i, n in wanted.items())
            if enough or count >= end:
                break
            count *= 4
        chosen = [
            bar for interval, n in wanted.items() for bar in [b for b in bars if b.event.interval == interval][-n:]
        ]
        return tuple(sorted(chosen, key=lambda bar: (bar.event.ts_close, bar.event.interval)))

    def _find_instance(self) -> Instance:
        name = self._settings.strategy.instance
        found = folded(records_until_end(self._settings, self._codec, [CONTROL])).get(name)
        if found is None:
            raise InvalidInput(f"SKEET_STRATEGY__INSTANCE is {name!r}, which was never started: `skeet strategy start`")
        return found

    def _make_machine(self) -> StrategyMachine:
        started = self._instance.started
        instrument = self._find_instrument(started.event.instrument_id)
        sources = sources_of(self._settings, self._codec, started.event)
        with self.watch.running("import"):
            strategy = sources.load()
            parameters = parse_parameters(strategy, started.event.parameters)
            made = strategy(parameters)
            code = sources.code_version(strategy, parameters)
        limits = self._settings.strategy.limits
        identity = InstanceIdentity(
            tenant_id=started.meta.tenant_id if started.meta else TenantId(self._settings.tenant),
            account_id=AccountId(self._instance.account_id),
            instance_id=self._instance.instance_id,
            code_version=code,
            instrument=instrument,
            epoch=started.at.offset,
            commands_per_event=limits.commands_per_event,
            commands_per_second=limits.commands_per_second,
            cancels_on_halt=started.event.on_halt == "cancel",
        )
        log = logger().bind(instance=self._instance.instance_id)
        return StrategyMachine(made, identity, lambda text, values: log.info(text, **values), self.watch)

    def _find_instrument(self, instrument_id: str) -> TradedInstrument:
        deadline = time.monotonic() + INSTRUMENT_DEADLINE_S
        while time.monotonic() < deadline:
            newest: InstrumentDefined | None = None
            for record in records_until_end(self._settings, self._codec, [INSTRUMENTS]):
                if record.event.instrument_id == instrument_id:
                    newest = record.event
            if newest is not None:
                return TradedInstrument.of(newest)
            time.sleep(PARENT_CHECK_S)
        raise InfrastructureError(f"no feed defined {instrument_id} within {INSTRUMENT_DEADLINE_S:.0f} s")

    def _read(self, topic: Topic, first: int, end: int) -> Any:
        partition = self._whole(topic)
        keys = {partition[0]: self._key(topic)}
        return records_between(self._settings, self._codec, {partition: (first, end)}, keys)

    def _whole(self, topic: Topic) -> Partition:
        return topic_name(topic, self._settings.kafka), self._partition(topic)

    def _key(self, topic: Topic) -> bytes:
        account = topic in (ACCOUNT_EVENTS, COMMANDS)
        return (self._instance.account_id if account else self._instance.started.event.instrument_id).encode()

    def _partition(self, topic: Topic) -> int:
        return partition_of(self._key(topic), partition_count(topic, self._settings.kafka))
