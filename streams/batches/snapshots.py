"""Snapshots of machines: arrays by instrument in records of a compacted topic, with the exact positions that they hold.

A snapshot is taken between two chunks, and sent once everything that came of it is acknowledged. It may be of any age, and
nothing needs it: whoever restores takes the newest one that lies at or before where reading starts, and folds what is between.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.ids import derive_id
from skeet.core.record import Meta, Out
from skeet.core.snapshots import MachineSnapshot
from skeet.core.values import AccountId, PrincipalId, TenantId
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.partitioner import partition_of
from skeet.streams.ranges import records_between, watermarks
from skeet.streams.stages import Partition, Stage
from skeet.streams.topics import MARKET_SNAPSHOTS, partition_count, topic_name

SNAPSHOT_EVERY_S = 10.0
"""What a restart folds again is at most this much and what came while nobody read."""
READ_BACK = 64
"""Newest records of a partition that are looked at: minutes of snapshots of every machine. Positions are committed half a
second later than a snapshot may be written, so the very newest need not fit."""
MAX_STATE_BYTES = 900_000
"""Under Kafka's megabyte for a record: the bars of some ten thousand instruments of one partition."""
MAX_INFLATED_BYTES = 64 * 1024 * 1024
"""A state of this many bytes is none of ours."""


@runtime_checkable
class Snapshotting(Protocol):
    """A machine whose state can be written down, by instrument."""

    @property
    def snapshot_version(self) -> str:
        """Changes whenever states of one could not be used by the other."""
        ...

    def packed(self, state: Any, belongs: Callable[[str], bool]) -> bytes:
        """The state of the instruments that belong; empty when it cannot be written down now."""
        ...

    def unpack(self, state: Any, content: bytes) -> None:
        """Put what :meth:`packed` made into a state; InvalidInput when it is nothing of the kind."""
        ...


@dataclass(slots=True)
class SnapshotWriter:
    """Makes the snapshots of a host's stages, of the partitions whose positions moved since it was last asked."""

    settings: Settings
    stages: Sequence[Stage]
    written: dict[int, Mapping[str, int]]

    def due(self, states: Sequence[Any], positions: Mapping[Partition, int]) -> list[Out[Any]]:
        """Of every machine that can: one for each partition, all as of now."""
        prefix, count = self.settings.kafka.topic_prefix, partition_count(MARKET_SNAPSHOTS, self.settings.kafka)
        inputs = {topic.name for stage in self.stages if self._packs(stage) for topic in stage.inputs}
        taken_ns = time.time_ns()
        outs: list[Out[Any]] = []
        for partition in sorted({number for (topic, number) in positions if topic.removeprefix(prefix) in inputs}):
            of_it = {topic.removeprefix(prefix): at for (topic, number), at in positions.items() if number == partition}
            held = {f"{topic}/{partition}": at for topic, at in of_it.items() if topic in inputs}
            if self.written.get(partition) == held:
                continue
            self.written[partition] = held

            def belongs(text: str, wanted: int = partition) -> bool:
                return partition_of(text.encode(), count) == wanted

            for stage, state in zip(self.stages, states, strict=True):
                machine = stage.machine
                if isinstance(machine, Snapshotting):
                    content = machine.packed(state, belongs)
                    names = {f"{topic.name}/{partition}" for topic in stage.inputs}
                    mine = {name: at for name, at in held.items() if name in names}
                    outs.extend(_out(stage, partition, taken_ns, mine, content))
        return outs

    @staticmethod
    def _packs(stage: Stage) -> bool:
        return isinstance(stage.machine, Snapshotting)


def _out(
    stage: Stage, partition: int, taken_ns: int, positions: Mapping[str, int], content: bytes
) -> Iterable[Out[Any]]:
    if not content or len(content) > MAX_STATE_BYTES:
        logger().warning("no snapshot", machine=stage.name, partition=partition, size=len(content))
        return
    machine: Any = stage.machine
    event = MachineSnapshot(
        machine=stage.name,
        partition=partition,
        taken_ns=taken_ns,
        code_version=machine.snapshot_version,
        positions=dict(positions),
        state=content,
    )
    event_id = derive_id("MachineSnapshot", stage.name, partition, taken_ns, *sorted(positions.values()))
    meta = Meta(
        event_id=event_id,
        tenant_id=TenantId(""),
        account_id=AccountId(""),
        principal_id=PrincipalId("worker"),
        correlation_id=event_id,
        causation_id=event_id,
        cause_at="",
        ts_event=taken_ns,
        ts_init=taken_ns,
    )
    yield Out(topic=MARKET_SNAPSHOTS.name, key=f"{stage.name}/{partition}", event=event, meta=meta, partition=partition)


def newest_fitting(
    settings: Settings, codec: Codec, machine: str, version: str, starts: Mapping[Partition, int]
) -> dict[int, MachineSnapshot]:
    """For each partition the newest snapshot of the machine that holds nothing from where reading starts, or behind it.

    ``starts`` are the positions of the machine's inputs (other topics are ignored); a snapshot that names an input which is
    not among them does not fit.
    """
    name, prefix = topic_name(MARKET_SNAPSHOTS, settings.kafka), settings.kafka.topic_prefix
    begins = {f"{topic.removeprefix(prefix)}/{number}": at for (topic, number), at in starts.items()}
    marks = watermarks(settings, [(name, number) for number in sorted({number for _, number in starts})])
    ranges = {place: (max(first, end - READ_BACK), end) for place, (first, end) in marks.items()}
    events = (record.event for record in records_between(settings, codec, ranges))
    own = (each for each in events if isinstance(each, MachineSnapshot) and each.machine == machine)
    return newest_of((each for each in own if each.code_version == version), begins)


def newest_of(snapshots: Iterable[MachineSnapshot], begins: Mapping[str, int]) -> dict[int, MachineSnapshot]:
    """Of one machine's snapshots the newest of each partition that fits where reading begins (``topic/partition``)."""
    found: dict[int, MachineSnapshot] = {}
    for event in snapshots:
        fits = event.positions and all(at <= begins.get(place, -1) for place, at in event.positions.items())
        before = found.get(event.partition)
        if fits and (before is None or _sum(event) >= _sum(before)):
            found[event.partition] = event
    return found


def _sum(snapshot: MachineSnapshot) -> int:
    # Of two that lie before the same start, a frozen predecessor's late one is the older: its positions say so.
    return sum(snapshot.positions.values())


def pack(header: Mapping[str, Any], array: NDArray[Any]) -> bytes:
    """A JSON object and an array as compressed bytes."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return zlib.compress(len(head).to_bytes(4, "big") + head + np.ascontiguousarray(array).tobytes(), 1)


def unpack(content: bytes, dtype: np.dtype[Any]) -> tuple[dict[str, Any], NDArray[Any]]:
    """What :func:`pack` was given, the array flat.

    Raises
    ------
    InvalidInput
        the bytes are nothing of the kind.
    """
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(content, MAX_INFLATED_BYTES)
        length = int.from_bytes(plain[:4], "big")
        header = json.loads(plain[4 : 4 + length])
        return header, np.frombuffer(plain[4 + length :], dtype).copy()
    except (zlib.error, ValueError) as error:
        raise InvalidInput(f"a snapshot of {len(content)} bytes: {error}") from error
