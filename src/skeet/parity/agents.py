"""S: every strategy instance run again along its journal gives the commands that stand in the log, byte for byte.

The journal is written before the outputs, so recorded outputs are a beginning of those that the journal makes: an output
that is not in the log is a difference only when a later one is. A recorded command that no journal explains is one too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from skeet.agents.agent_log import AgentLog
from skeet.agents.strategy_artefacts import fetch
from skeet.agents.strategy_loading import parse_parameters, user_folder
from skeet.agents.strategy_resume import load, save, warm_up_bars
from skeet.agents.strategy_sources import Sources, unpacked
from skeet.config import Settings
from skeet.core.control import StrategyStarted
from skeet.core.errors import InvalidInput
from skeet.core.journal import (
    AgentCheckpointed,
    JournalBegun,
    JournalFold,
    JournalHole,
    JournalOpened,
    MergeRecorded,
    Place,
    follow,
)
from skeet.core.record import Out, Record
from skeet.core.strategy.machine import InstanceIdentity, InstanceState, StrategyMachine
from skeet.core.values import exact_arithmetic
from skeet.parity.cursor import Cursors
from skeet.parity.recorded import Outputs, RecordedOutputs
from skeet.schemas.codec import Codec
from skeet.streams.ranges import watermarks
from skeet.streams.reading import records_until_end
from skeet.streams.topics import ACCOUNT_EVENTS, CHECKPOINTS, CLOCK, JOURNAL, MARKET_BARS
from skeet.verify.findings import Check


class NotJudged(Exception):
    """A life that cannot be run again, with the reason; nothing is wrong with it."""


class Life:
    """One life of an instance, from its JournalBegun on: stepped entry by entry, held against what is recorded."""

    def __init__(
        self,
        machine: StrategyMachine,
        state: InstanceState,
        recorded: Outputs,
        sources: Mapping[Place, Iterator[Record[Any]]],
    ) -> None:
        self.machine = machine
        self.state = state
        self.recorded = recorded
        self.sources = sources
        self.missing: list[str] = []
        self.explained: dict[str, set[bytes]] = {}


class AgentsReplay:
    """All instances of an installation."""

    def __init__(self, settings: Settings, codec: Codec, check: Check) -> None:
        self._settings = settings
        self._codec = codec
        self._check = check
        self._log = RecordedOutputs(settings, codec)
        self._checkpoints: dict[tuple[str, int, int], Record[AgentCheckpointed]] = {}
        self._folds: dict[str, JournalFold] = {}
        self._lives: dict[str, Life | None] = {}
        self._explained: dict[tuple[str, int], bool] = {}
        self._chains: dict[str, bytes] = {}
        self._cursors = Cursors(settings, codec)
        self._journal_records = 0
        self._artefacts = TemporaryDirectory(prefix="skeet-parity-")

    @property
    def records_read(self) -> int:
        """Records of journals, commands and control looked at so far."""
        return self._journal_records + self._log.records_read

    def run(self) -> dict[str, str]:
        """Read outputs first, then the journal, which stands before them; returns a hash chain per instance."""
        self._log.read()
        for record in records_until_end(self._settings, self._codec, [CHECKPOINTS]):
            if isinstance(record.event, AgentCheckpointed):
                event = record.event
                self._checkpoints[event.agent_id, event.owner, event.sequence] = record
        return self.along(records_until_end(self._settings, self._codec, [JOURNAL]))

    def along(self, journal: Iterable[Record[Any]]) -> dict[str, str]:
        """Run every instance along these records of the journal's topic."""
        with exact_arithmetic():
            for record in journal:
                self._journal_records += 1
                self._take(record)
        for agent_id, life in self._lives.items():
            self._end(agent_id, life)
        self._name_unexplained()
        return {agent_id: chain.hex() for agent_id, chain in self._chains.items()}

    def _take(self, record: Record[Any]) -> None:
        event = record.event
        agent_id = event.agent_id
        fold = self._folds.setdefault(agent_id, JournalFold(agent_id))
        chains = len(fold.chains)
        try:
            fold.take(event, record.at.offset)
        except JournalHole as hole:
            self._hole(record, hole)
            return
        if isinstance(event, JournalOpened):
            return
        if len(fold.chains) > chains:
            self._end(agent_id, self._lives.get(agent_id))
            self._lives[agent_id] = self._begin(record, fold.chains[-1].begun)
        elif isinstance(event, MergeRecorded) and fold.chains[-1].entries:
            fold.chains[-1].entries.clear()
            self._go_on(record, event)

    def _hole(self, record: Record[Any], hole: JournalHole) -> None:
        """A journal that expired at its beginning cannot be followed; one that did not has lost something."""
        agent_id = record.event.agent_id
        (first, _), *_ = watermarks(
            self._settings, [(self._settings.kafka.topic_prefix + JOURNAL.name, record.at.partition)]
        ).values()
        if first > 0 and self._lives.get(agent_id) is None:
            self._not_judged(agent_id, record.event.epoch, "journals that expired at their beginning, not run")
            return
        if self._explained.get((agent_id, record.event.epoch), True):
            self._check.differs(f"{record.at}: {hole}")
        self._explained[agent_id, record.event.epoch] = False
        self._lives[agent_id] = None

    def _begin(self, record: Record[Any], begun: JournalBegun | None) -> Life | None:
        if begun is None:
            return None
        agent_id, epoch = begun.agent_id, begun.epoch
        self._explained.setdefault((agent_id, epoch), True)
        try:
            life = self._life(begun)
            self._check.count("lives")
            self._start(life, begun, str(record.at))
        except NotJudged as reason:
            self._not_judged(agent_id, epoch, str(reason))
            return None
        except JournalHole as hole:
            self._lost(agent_id, epoch, record, hole)
            return None
        return life

    def _life(self, begun: JournalBegun) -> Life:
        started = self._log.started.get(begun.epoch)
        if started is None or started.meta is None or not begun.state:
            raise NotJudged("lives whose state cannot be written down, not run")
        try:
            sources = self._sources(started.event)
            strategy = sources.load()
            parameters = parse_parameters(strategy, started.event.parameters)
            saved = load(begun.state)
        except InvalidInput:
            raise NotJudged("lives of code that is not here, not run") from None
        if sources.code_version(strategy, parameters) != begun.code_version:
            raise NotJudged("lives of other code, not run")
        identity = saved.identity
        log = self._agent_log(begun, identity)
        try:
            log.partitions_kept(begun.positions)
        except JournalHole:
            raise NotJudged("lives that began before what the log still holds, not run") from None
        recorded = self._log.of(begun.agent_id, begun.epoch)
        machine = StrategyMachine(strategy(parameters), identity)
        return Life(machine, saved.state, recorded, log.sources_from(begun.positions))

    def _sources(self, started: StrategyStarted) -> Sources:
        if not started.artefact:
            return Sources(reference=started.strategy, folder=user_folder(self._settings))
        artefact = fetch(self._settings, self._codec, started.artefact)
        return unpacked(artefact, started.strategy, Path(self._artefacts.name))

    def _start(self, life: Life, begun: JournalBegun, at: str) -> None:
        log = self._agent_log(begun, life.machine.identity)
        named = (record for source in log.sources(begun.warm_up).values() for record in source)
        bars = warm_up_bars(begun.warm_up, named)
        life.state, outs = life.machine.start(life.state, bars, self._log.started[begun.epoch])
        self._compare(begun.agent_id, life, outs, at)

    def _go_on(self, record: Record[Any], entry: MergeRecorded) -> None:
        life = self._lives.get(entry.agent_id)
        if life is None:
            return
        self._check.count("entries")
        try:
            for step in follow(entry.runs, life.sources):
                self._check.count("steps")
                life.state, outs = life.machine.step(life.state, step)
                self._compare(entry.agent_id, life, outs, f"{step.at} (entry {entry.sequence} at {record.at})")
        except JournalHole as hole:
            self._lost(entry.agent_id, entry.epoch, record, hole)
            self._lives[entry.agent_id] = None
            return
        self._compare_checkpoint(entry, life)

    def _compare_checkpoint(self, entry: MergeRecorded, life: Life) -> None:
        checkpoint = self._checkpoints.get((entry.agent_id, entry.owner, entry.sequence))
        if checkpoint is not None:
            self._check.count("checkpoints")
            if save(life.machine, life.state) != checkpoint.event.state:
                self._check.differs(
                    f"{checkpoint.at}: {entry.agent_id} run again to entry {entry.sequence} is not this state"
                )

    def _compare(self, agent_id: str, life: Life, outs: Iterable[Out[Any]], cause: str) -> None:
        for out in outs:
            assert out.meta is not None
            raw = self._codec.encode(out.event, out.meta)
            digest = sha256(raw).digest()
            self._chains[agent_id] = sha256(self._chains.get(agent_id, b"") + raw).digest()
            bodies = life.recorded.get(out.meta.event_id, {})
            if digest not in bodies and (not bodies or out.meta.event_id in life.explained):
                name = type(out.event).__name__
                life.missing.append(f"{cause}: {agent_id} run again sends {name} {out.meta.event_id}")
                continue
            for text in life.missing:
                self._check.differs(f"{text}, which is not in the log")
            life.missing.clear()
            life.explained.setdefault(out.meta.event_id, set()).add(digest)
            self._check.count("outputs")
            if digest not in bodies:
                at = next(iter(bodies.values()))
                life.explained[out.meta.event_id] |= set(bodies)
                self._check.differs(f"{at}: {self._how_it_differs(at, out)}")

    def _how_it_differs(self, at: str, out: Out[Any]) -> str:
        recorded = self._cursors.at(at)
        name = type(out.event).__name__
        if recorded is not None:
            pairs: Any = ((recorded.event, out.event), (recorded.meta, out.meta))
            for stored, again in pairs:
                for each in (field.name for field in fields(again)):
                    if getattr(stored, each, None) != getattr(again, each):
                        return (
                            f"{name}.{each} is {getattr(stored, each, None)!s}, "
                            f"run again the instance sends {getattr(again, each)!s}"
                        )
        return f"{name}: the bytes differ from those that the instance sends when run again"

    def _end(self, agent_id: str, life: Life | None) -> None:
        if life is None:
            return
        if life.missing:
            self._check.count("outputs not sent, or not yet", len(life.missing))
        for event_id, bodies in life.explained.items():
            for digest in bodies:
                life.recorded[event_id].pop(digest, None)

    def _lost(self, agent_id: str, epoch: int, record: Record[Any], hole: JournalHole) -> None:
        self._check.differs(f"{record.at}: {hole}")
        self._explained[agent_id, epoch] = False

    def _not_judged(self, agent_id: str, epoch: int, kind: str) -> None:
        self._check.count(kind)
        self._explained[agent_id, epoch] = False

    def _name_unexplained(self) -> None:
        for (agent_id, epoch), outputs in sorted(self._log.outputs.items()):
            if (agent_id, epoch) in self._log.starved:
                self._check.count("lives that ended for want of memory, whose end is not judged")
                continue
            if self._explained.get((agent_id, epoch)):
                for event_id, bodies in outputs.items():
                    for at in bodies.values():
                        self._check.differs(f"{at}: {event_id} is of {agent_id}, whose journal does not make it")
            elif outputs and (agent_id, epoch) not in self._explained:
                self._check.count("commands without a journal, not judged", len(outputs))

    def _agent_log(self, begun: JournalBegun, identity: InstanceIdentity) -> AgentLog:
        """The instance's inputs, of its own keys only."""
        instrument, account = identity.instrument.instrument_id.encode(), identity.account_id.encode()
        topics = {name.rpartition("/")[0] for name in begun.positions} - {CLOCK.name} | {MARKET_BARS.name}
        keys = {topic: account if topic == ACCOUNT_EVENTS.name else instrument for topic in topics}
        return AgentLog(self._settings, self._codec, begun.agent_id, keys)
