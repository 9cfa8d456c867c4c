"""Where a strategy instance goes on: behind the end of its journal, or afresh.

A process claims the journal first (its JournalOpened fences the processes before it), then loads the newest checkpoint of
the same start and the same code, steps what the journal says was merged since, in that order, and is where its predecessor
was: what it sends from here on is what the predecessor would have sent. Outputs that the journal covers and that are not
in the log are sent now. Without a usable past the instance begins afresh, and says so in the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from skeet.agents.agent_log import AgentLog
from skeet.core.control import StrategyStarted
from skeet.core.errors import DecodeError, InfrastructureError, InvalidInput
from skeet.core.journal import (
    AgentCheckpointed,
    Chain,
    JournalBegun,
    JournalFold,
    JournalHole,
    JournalOpened,
    MergeOrder,
    Place,
    Run,
    follow,
    positions_after,
)
from skeet.core.market import Bar
from skeet.core.record import Out, Record
from skeet.core.strategy.machine import InstanceIdentity, InstanceState, StrategyMachine
from skeet.core.strategy.memory import memory_from_bytes, memory_to_bytes
from skeet.core.values import NS_PER_S
from skeet.process import logger
from skeet.streams.journaling import CHECKPOINT_MAX_BYTES, AgentIdentity, JournalWriter
from skeet.streams.ranges import Partition
from skeet.streams.stages import Resumed

RESUME_WITHIN_S = 300.0
"""An instance that was away longer begins afresh: what it would have done then is of no use to anybody now."""


FOLLOW_WITHIN_S = 900.0
"""Without a checkpoint the whole life is stepped again, which must not take long: a life that began earlier is given up."""
OUTPUTS_SINCE_NS = 60 * NS_PER_S
"""Outputs that a predecessor may have sent are looked for from this long before what is stepped again: a checkpoint is
written up to 30 s (the producer's deadline) after what it holds."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds: the instance as it was when its life began (its instrument's steps, its limits), and
    everything that it remembers."""

    identity: InstanceIdentity
    state: InstanceState


class InputLog(Protocol):
    """Where the records stand that a journal names."""

    def sources(self, runs: Iterable[Run]) -> Mapping[Place, Iterator[Record[Any]]]:
        """For each partition that the runs name, its records in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A new beginning: the state before ``on_start``, the warm-up bars, and where they stand in the log."""

    state: InstanceState
    bars: tuple[Record[Bar], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A life that can be gone on with: a state, what was merged since, and where that ends in the journal."""

    saved: Saved
    positions: Mapping[str, int]
    warm_up: tuple[Run, ...] | None
    runs: tuple[Run, ...]
    next_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A usable past, when what is stepped again began at the earliest, and when it was last written to (log time, ns)."""

    past: Past
    oldest_ns: int
    newest_ns: int


def save(machine: StrategyMachine, state: InstanceState) -> bytes:
    """The bytes of a checkpoint.

    Raises
    ------
    InvalidInput
        the strategy remembers something that cannot be written down.
    """
    return memory_to_bytes(Saved(machine.identity, state))


def load(content: bytes) -> Saved:
    """What :func:`save` made.

    Raises
    ------
    DecodeError
        it is none, or of classes that are no more.
    """
    saved = memory_from_bytes(content)
    if not isinstance(saved, Saved):
        raise DecodeError(f"a strategy's checkpoint holds a {type(saved).__name__}")
    return saved


def runs_of(bars: Iterable[Record[Any]]) -> tuple[Run, ...]:
    """Where the bars stand, in their order."""
    order = MergeOrder()
    singles: list[Run] = []
    for record in bars:
        order.add(record.at.topic, record.at.partition, record.at.offset)
        singles += order.take()  # each on its own: between two of them may lie bars of other intervals
    return tuple(singles)


def warm_up_bars(runs: Sequence[Run], records: Iterable[Record[Any]]) -> tuple[Bar, ...]:
    """The bars that the runs name, in their order."""
    found = {record.at.offset: record.event for record in records}
    missing = [run for run in runs if run.first not in found]
    if missing:
        raise JournalHole(
            f"{missing[0].topic}/{missing[0].partition}/{missing[0].first}, a warm-up bar, is not in the log"
        )
    return tuple(found[run.first] for run in runs)


def step_along(
    machine: StrategyMachine, state: InstanceState, records: Iterable[Record[Any]]
) -> tuple[InstanceState, list[Out[Any]]]:
    """Step the records; the outputs of all of them."""
    outs: list[Out[Any]] = []
    for record in records:
        state, made = machine.step(state, record)
        outs.extend(made)
    return state, outs


def past_of(chain: Chain, checkpoint: AgentCheckpointed | None) -> Past | None:
    """What a chain of the journal, or the checkpoint that it goes on behind, lets an instance go on with."""
    runs = tuple(run for entry in chain.entries for run in entry.runs)
    if chain.begun is None:
        if checkpoint is None:
            return None
        saved, positions, warm_up = load(checkpoint.state), checkpoint.positions, None
    else:
        if not chain.begun.state:
            return None
        saved, positions, warm_up = load(chain.begun.state), chain.begun.positions, chain.begun.warm_up
    return Past(saved=saved, positions=positions, warm_up=warm_up, runs=runs, next_sequence=chain.next_sequence)


class Resumption:
    """Decides where an instance goes on, once per assignment of its partitions.

    Parameters
    ----------
    fresh
        makes a new beginning as of the given positions.
    """

    def __init__(
        self,
        machine: StrategyMachine,
        identity: AgentIdentity,
        log: AgentLog,
        started: Record[StrategyStarted],
        fresh: Callable[[Mapping[Partition, int]], Fresh],
    ) -> None:
        self._machine = machine
        self._identity = identity
        self._log = log
        self._started = started
        self._fresh = fresh

    def __call__(self, starts: Mapping[Partition, int]) -> Resumed:
        """Claim the journal and go on behind its end, or begin afresh at ``starts``.

        Raises
        ------
        InfrastructureError
            a newer start of this instance owns the journal: this process must end.
        """
        owner = self._log.claim(self._identity)
        found = self._found(owner)
        if found is not None:
            try:
                return self._go_on(found, owner)
            except JournalHole as error:
                logger().warning("cannot go on where it was", reason=str(error))
        return self._begin(starts, owner)

    def _found(self, owner: int) -> _Found | None:
        own = self._identity
        checkpoint = self._log.checkpoint(own.epoch, own.code_version, _ago(RESUME_WITHIN_S))
        seeds = (checkpoint, None) if checkpoint is not None else (None,)
        for seed in seeds:
            try:
                found = self._read(owner, seed)
            except (JournalHole, DecodeError) as error:
                logger().warning("journal not usable", from_checkpoint=seed is not None, reason=str(error))
                continue
            if found is not None:
                return found if found.newest_ns > _ago(RESUME_WITHIN_S) else None
        return None

    def _read(self, owner: int, checkpoint: Record[AgentCheckpointed] | None) -> _Found | None:
        own = self._identity
        since_ns = max(self._started.log_ns, _ago(FOLLOW_WITHIN_S))
        fold, first = JournalFold(own.agent_id), self._log.journal_at(since_ns)
        if checkpoint is not None:
            fold, first = JournalFold.after(checkpoint.event), checkpoint.event.journal_offset + 1
        oldest_ns, newest_ns = (since_ns, 0) if checkpoint is None else (checkpoint.log_ns, checkpoint.log_ns)
        for record in self._log.journal(first, owner + 1):
            fold.take(record.event, record.at.offset)
            if not isinstance(record.event, JournalOpened):
                newest_ns = max(newest_ns, record.log_ns)
        if fold.owner != owner:
            raise InfrastructureError(
                f"a start of {own.agent_id} newer than {own.epoch} owns its journal; this one ends"
            )
        chain = fold.chains[-1] if fold.chains else None
        if chain is None or (chain.begun is not None and not self._is_own(chain.begun)):
            return None
        past = past_of(chain, checkpoint.event if checkpoint is not None else None)
        return _Found(past=past, oldest_ns=oldest_ns, newest_ns=newest_ns) if past is not None else None

    def _is_own(self, begun: JournalBegun) -> bool:
        return (begun.epoch, begun.code_version) == (self._identity.epoch, self._identity.code_version)

    def _go_on(self, found: _Found, owner: int) -> Resumed:
        past, machine = found.past, self._machine
        positions = self._log.partitions_kept(positions_after(past.positions, past.runs))
        machine.identity = past.saved.identity
        state, outs = rerun(machine, past, self._started, self._log)
        sent = self._log.commands_since(found.oldest_ns - OUTPUTS_SINCE_NS, self._identity.account_id.encode())
        missing = tuple(out for out in outs if out.meta and (out.meta.event_id, out.meta.cause_at) not in sent)
        logger().info("goes on where it was", followed_runs=len(past.runs), outputs=len(outs), not_sent=len(missing))
        return Resumed(
            state=state,
            outs=missing,
            positions=positions,
            journal=self._writer(owner, past.next_sequence, journal_offset=owner),
        )

    def _begin(self, starts: Mapping[Partition, int], owner: int) -> Resumed:
        fresh = self._fresh(starts)
        offset = self._log.write(
            self._identity.begun(
                owner,
                positions=self._log.names(starts),
                warm_up=runs_of(fresh.bars),
                state=self._first_state(fresh.state),
            )
        )
        state, outs = self._machine.start(fresh.state, tuple(bar.event for bar in fresh.bars), self._started)
        return Resumed(state=state, outs=outs, positions={}, journal=self._writer(owner, 0, journal_offset=offset))

    def _first_state(self, state: InstanceState) -> bytes:
        try:
            content = save(self._machine, state)
        except InvalidInput as error:
            logger().warning("a restart will begin afresh", reason=str(error))
            return b""
        if len(content) > CHECKPOINT_MAX_BYTES:
            logger().warning("a restart will begin afresh", state_bytes=len(content), limit=CHECKPOINT_MAX_BYTES)
            return b""
        return content

    def _writer(self, owner: int, next_sequence: int, journal_offset: int) -> JournalWriter:
        return JournalWriter(
            self._identity, owner, next_sequence, journal_offset, lambda state: save(self._machine, state)
        )


def _ago(seconds: float) -> int:
    return time.time_ns() - int(seconds * NS_PER_S)


def rerun(
    machine: StrategyMachine, past: Past, started: Record[StrategyStarted], log: InputLog
) -> tuple[InstanceState, list[Out[Any]]]:
    """Step what was merged since the past's state; the state now, and all outputs on the way.

    Raises
    ------
    JournalHole
        a record that the journal names is not in the log any more.
    """
    state = past.saved.state
    outs: list[Out[Any]] = []
    if past.warm_up is not None:
        named = (record for source in log.sources(past.warm_up).values() for record in source)
        state, first = machine.start(state, warm_up_bars(past.warm_up, named), started)
        outs += first
    state, made = step_along(machine, state, follow(past.runs, log.sources(past.runs)))
    return state, [*outs, *made]
