"""One agent's journal and checkpoints in Kafka, and the records of its inputs that they name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skeet.config import Settings
from skeet.core.journal import AgentCheckpointed, JournalHole, Place, Run, ranges_of
from skeet.core.record import Out, Record
from skeet.schemas.codec import Codec
from skeet.streams.journaling import AgentIdentity
from skeet.streams.kafka import producer
from skeet.streams.partitioner import partition_of
from skeet.streams.publishing import Publisher
from skeet.streams.ranges import Partition, offsets_at, records_between, watermarks
from skeet.streams.topics import CHECKPOINTS, COMMANDS, JOURNAL, TOPIC_BY_NAME, Topic, partition_count, topic_name


class AgentLog:
    """Blocking. ``keys`` are those that the agent reads of each topic, by its name without prefix."""

    def __init__(self, settings: Settings, codec: Codec, agent_id: str, keys: Mapping[str, bytes]) -> None:
        self._settings = settings
        self._codec = codec
        self._agent_id = agent_id
        self._keys = {topic_name(TOPIC_BY_NAME[name], settings.kafka): key for name, key in keys.items()}

    def claim(self, identity: AgentIdentity) -> int:
        """Open the journal; returns the owner's token."""
        out = identity.opened(f"{os.getpid()} {time.time_ns()}")
        return self.write(out)

    def write(self, out: Out[Any]) -> int:
        """Append one record to the journal; returns its offset once it is acknowledged."""
        publisher = Publisher(self._settings, self._codec, producer(self._settings, "skeet-journal"))
        publisher.send([out])
        publisher.flush()
        return publisher.last_offset

    def checkpoint(self, epoch: int, code_version: str, since_ns: int) -> Record[AgentCheckpointed] | None:
        """The newest checkpoint of this start by this code, of the newest owner, written since a time."""
        partition = self._place(CHECKPOINTS)
        first = offsets_at(self._settings, [partition], since_ns)[partition]
        _, end = watermarks(self._settings, [partition])[partition]
        best: Record[AgentCheckpointed] | None = None
        for record in self._records(CHECKPOINTS, {partition: (first, end)}):
            event = record.event
            if event.epoch != epoch or event.code_version != code_version:
                continue
            if best is None or (event.owner, event.sequence) >= (best.event.owner, best.event.sequence):
                best = record
        return best

    def journal(self, first: int, end: int) -> list[Record[Any]]:
        """The agent's journal records in a range of offsets."""
        return list(self._records(JOURNAL, {self._place(JOURNAL): (first, end)}))

    def journal_at(self, log_ns: int) -> int:
        """Offset of the first journal record at or after a time."""
        return offsets_at(self._settings, [self._place(JOURNAL)], log_ns)[self._place(JOURNAL)]

    def sources(self, runs: Iterable[Run]) -> dict[Place, Iterator[Record[Any]]]:
        """For each partition that the runs name, its records in order, of the keys that the agent reads."""
        found: dict[Place, Iterator[Record[Any]]] = {}
        for (topic, number), (first, end) in ranges_of(runs).items():
            place = (topic_name(TOPIC_BY_NAME[topic], self._settings.kafka), number)
            found[topic, number] = records_between(self._settings, self._codec, {place: (first, end)}, self._keys)
        return found

    def sources_from(self, positions: Mapping[str, int]) -> dict[Place, Iterator[Record[Any]]]:
        """For each input, its records from a position up to its end now, of the keys that the agent reads."""
        wanted = self.partitions(positions)
        ends = watermarks(self._settings, list(wanted))
        prefix = self._settings.kafka.topic_prefix
        return {
            (topic.removeprefix(prefix), number): records_between(
                self._settings, self._codec, {(topic, number): (first, ends[topic, number][1])}, self._keys
            )
            for (topic, number), first in wanted.items()
        }

    def names(self, positions: Mapping[Partition, int]) -> dict[str, int]:
        """Positions as the journal says them: ``topic/partition``, the topic without its prefix."""
        prefix = self._settings.kafka.topic_prefix
        return {f"{topic.removeprefix(prefix)}/{number}": offset for (topic, number), offset in positions.items()}

    def partitions(self, positions: Mapping[str, int]) -> dict[Partition, int]:
        """Positions by the broker's names."""
        found: dict[Partition, int] = {}
        for name, offset in positions.items():
            topic, _, number = name.rpartition("/")
            found[topic_name(TOPIC_BY_NAME[topic], self._settings.kafka), int(number)] = offset
        return found

    def partitions_kept(self, positions: Mapping[str, int]) -> dict[Partition, int]:
        """:meth:`partitions`, all of which the log must still hold from there on.

        Raises
        ------
        JournalHole
            a topic expired past the position.
        """
        wanted = self.partitions(positions)
        for (topic, number), (first, _) in watermarks(self._settings, list(wanted)).items():
            if first > wanted[topic, number]:
                raise JournalHole(f"{topic}/{number} begins at {first}, the agent stands at {wanted[topic, number]}")
        return wanted

    def commands_since(self, log_ns: int, account: bytes) -> set[tuple[str, str]]:
        """Ids and causes of the commands of an account in the log since a time."""
        partition = self._place(COMMANDS, account)
        first = offsets_at(self._settings, [partition], log_ns)[partition]
        _, end = watermarks(self._settings, [partition])[partition]
        keys = {partition[0]: account}
        found = records_between(self._settings, self._codec, {partition: (first, end)}, keys)
        return {(record.event_id, record.meta.cause_at) for record in found if record.meta is not None}

    def _records(self, topic: Topic, ranges: Mapping[Partition, tuple[int, int]]) -> Iterator[Record[Any]]:
        keys = {topic_name(topic, self._settings.kafka): self._agent_id.encode()}
        return records_between(self._settings, self._codec, ranges, keys)

    def _place(self, topic: Topic, key: bytes = b"") -> Partition:
        number = partition_of(key or self._agent_id.encode(), partition_count(topic, self._settings.kafka))
        return topic_name(topic, self._settings.kafka), number
