"""In which order an agent merged its inputs, and where it may begin again (``agents.journal.v1``, ``agents.checkpoints.v1``).

An agent with several inputs gets their records in an order that nobody can repeat, so it writes that order down before
anything that the order caused is sent. Whoever follows the journal from a state steps the same records in the same order,
and makes the same outputs under the same ids.

Each start of a process opens the journal anew; the offset of its JournalOpened is its token (``owner``). Entries of an
older owner that come later are a zombie's and count for nothing, as does an opening of an older ``epoch``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from skeet.core.errors import InfrastructureError
from skeet.core.record import Event, Record

Place = tuple[str, int]
"""Topic (without prefix) and partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Records of one partition that were taken one after the other; ``first`` and ``last`` are offsets, both included.

    Between them only records lie that the agent does not read (other keys) or that nobody can read.
    """

    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOpened(Event):
    """A process of this agent starts; its offset is the token that its later records carry."""

    agent_id: str
    epoch: int
    code_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalBegun(Event):
    """The agent starts afresh: its state before anything was merged, and the next offset of each input.

    ``warm_up`` names the records it was shown first. Entries count from 0 again. ``state`` is empty when the state cannot
    be written down: then nobody can run this agent again.
    """

    agent_id: str
    epoch: int
    owner: int
    code_version: str
    positions: dict[str, int]
    warm_up: tuple[Run, ...]
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRecorded(Event):
    """Entry number ``sequence``: what was merged since the entry before, in order."""

    agent_id: str
    epoch: int
    owner: int
    sequence: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCheckpointed(Event):
    """The agent's state after entry ``sequence`` (-1: none yet), whose outputs are all acknowledged.

    ``journal_offset`` is the place of that entry or of what stands before it. Only the same ``code_version`` may use it.
    """

    agent_id: str
    epoch: int
    owner: int
    sequence: int
    journal_offset: int
    code_version: str
    positions: dict[str, int]
    state: bytes


class JournalHole(InfrastructureError):
    """Entries, or records that they name, are missing: the order cannot be followed from here."""


@dataclass(slots=True)
class MergeOrder:
    """Builds the runs of what is merged."""

    _runs: list[Run] = field(default_factory=list)

    def add(self, topic: str, partition: int, offset: int) -> None:
        """The record at this place was taken next."""
        last = self._runs[-1] if self._runs else None
        if last is not None and (last.topic, last.partition) == (topic, partition):
            self._runs[-1] = replace(last, last=offset)
        else:
            self._runs.append(Run(topic=topic, partition=partition, first=offset, last=offset))

    def __len__(self) -> int:
        return len(self._runs)

    def take(self) -> tuple[Run, ...]:
        """The runs since the last call."""
        runs, self._runs = tuple(self._runs), []
        return runs


@dataclass(slots=True)
class Chain:
    """One life of an agent: how it began (None: from a checkpoint) and what it merged since, through all its owners."""

    begun: JournalBegun | None
    next_sequence: int = 0
    entries: list[MergeRecorded] = field(default_factory=list)


@dataclass(slots=True)
class JournalFold:
    """Reads one agent's journal in the order of the log, and tells what counts.

    Seeded from a checkpoint it goes on behind it (:meth:`after`); else it takes the first JournalBegun as the beginning.
    """

    agent_id: str
    epoch: int = -1
    owner: int = -1
    chains: list[Chain] = field(default_factory=list)
    ignored: int = 0

    @classmethod
    def after(cls, checkpoint: AgentCheckpointed) -> JournalFold:
        """A fold that has read up to the checkpoint."""
        chain = Chain(begun=None, next_sequence=checkpoint.sequence + 1)
        return cls(checkpoint.agent_id, checkpoint.epoch, checkpoint.owner, [chain])

    def take(self, event: Event, offset: int) -> None:
        """The next record of the journal's partition.

        Raises
        ------
        JournalHole
            an entry is missing, or its owner never opened the journal.
        """
        match event:
            case JournalOpened(agent_id=self.agent_id):
                if event.epoch < self.epoch:
                    self.ignored += 1
                else:
                    self.epoch, self.owner = event.epoch, offset
            case JournalBegun(agent_id=self.agent_id) if self._counts(event, offset):
                self.chains.append(Chain(begun=event))
            case MergeRecorded(agent_id=self.agent_id) if self._counts(event, offset):
                self._append(event, offset)
            case _:
                pass

    def _counts(self, event: JournalBegun | MergeRecorded, offset: int) -> bool:
        if event.owner > self.owner:
            raise JournalHole(f"journal of {self.agent_id} at {offset}: owner {event.owner} never opened it")
        if event.owner < self.owner or event.epoch < self.epoch:
            self.ignored += 1
            return False
        return True

    def _append(self, entry: MergeRecorded, offset: int) -> None:
        if not self.chains:
            raise JournalHole(f"journal of {self.agent_id} at {offset}: entry {entry.sequence} before any beginning")
        chain = self.chains[-1]
        if entry.sequence != chain.next_sequence:
            raise JournalHole(
                f"journal of {self.agent_id} at {offset}: entry {entry.sequence} follows {chain.next_sequence - 1}"
            )
        chain.entries.append(entry)
        chain.next_sequence += 1


def follow(runs: Iterable[Run], sources: Mapping[Place, Iterator[Record[Any]]]) -> Iterator[Record[Any]]:
    """The records that the runs name, in their order. A source gives a partition's records from its first run on.

    Raises
    ------
    JournalHole
        a record that a run begins or ends with is not there.
    """
    for run in runs:
        yield from _records_of(run, sources.get((run.topic, run.partition), iter(())))


def _records_of(run: Run, source: Iterator[Record[Any]]) -> Iterator[Record[Any]]:
    record = next((record for record in source if record.at.offset >= run.first), None)
    if record is None or record.at.offset != run.first:
        raise _absent(run, run.first)
    yield record
    while record.at.offset < run.last:
        record = next(source, None)
        if record is None or record.at.offset > run.last:
            raise _absent(run, run.last)
        yield record


def _absent(run: Run, offset: int) -> JournalHole:
    return JournalHole(f"{run.topic}/{run.partition}/{offset}, which the journal names, is not in the log")


def ranges_of(runs: Iterable[Run]) -> dict[Place, tuple[int, int]]:
    """First and next offset of what the runs name, by partition."""
    found: dict[Place, tuple[int, int]] = {}
    for run in runs:
        first, end = found.get((run.topic, run.partition), (run.first, run.last + 1))
        found[run.topic, run.partition] = (min(first, run.first), max(end, run.last + 1))
    return found


def positions_after(positions: Mapping[str, int], runs: Iterable[Run]) -> dict[str, int]:
    """Next offset of each input (``topic/partition``) once the runs are merged."""
    found = dict(positions)
    for run in runs:
        name = f"{run.topic}/{run.partition}"
        found[name] = max(found.get(name, 0), run.last + 1)
    return found
