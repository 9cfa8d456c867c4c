"""F and D over the whole of ``accounts.events.v1``, one partition after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from skeet.agents.desk_outside import risk_rules
from skeet.agents.desk_snapshots import SnapshotReader
from skeet.config import Settings
from skeet.core.account_snapshot import memory_hash
from skeet.core.errors import DecodeError, MisplacedRecord, UnknownEvent
from skeet.core.market import InstrumentDefined
from skeet.core.record import Record
from skeet.parity.cursor import Cursors
from skeet.parity.desk_replay import DeskReplay
from skeet.schemas.codec import Codec
from skeet.streams.door import Door
from skeet.streams.reading import messages_until_end, records_until_end
from skeet.streams.topics import ACCOUNT_EVENTS, INSTRUMENTS, partition_count, topic_name
from skeet.verify.findings import Check

PROGRESS_EVERY = 5_000

Progress = Callable[[int], None]


class LogLookups:
    """Causes and references by position, instruments by version."""

    def __init__(
        self, settings: Settings, codec: Codec, instruments: Mapping[tuple[str, int], InstrumentDefined]
    ) -> None:
        self._cursors = Cursors(settings, codec)
        self._instruments = instruments

    def at(self, position: str) -> Record[Any] | None:
        """The record at ``topic/partition/offset``."""
        return self._cursors.at(position)

    def instrument(self, instrument_id: str, version: int) -> InstrumentDefined | None:
        """That version of the instrument."""
        return self._instruments.get((instrument_id, version))


def check_desk(settings: Settings, codec: Codec, progress: Progress) -> tuple[Check, Check, dict[str, str], int]:
    """The checks F and D, a hash of what each made, and how many records were read."""
    fold = Check(
        name="F",
        title="the fold from zero equals the desk's marks, and snapshot + tail",
        must_not_be_empty=("events",),
        covers="the whole log",
    )
    decisions = Check(
        name="D",
        title="deciding the recorded causes again gives the recorded events",
        must_not_be_empty=("decided events",),
        covers="the whole log",
    )
    records_read = 0
    hashes: dict[str, str] = {}
    chains: dict[str, str] = {}
    instruments = read_instruments(settings, codec)
    snapshots = SnapshotReader(settings, codec)
    for partition in range(partition_count(ACCOUNT_EVENTS, settings.kafka)):
        replay = DeskReplay(
            codec,
            LogLookups(settings, codec, instruments),
            risk_rules(settings),
            snapshot=snapshots.read(partition).states,
            fold=fold,
            decisions=decisions,
        )
        records_read = _replay_partition(settings, codec, partition, replay, records_read, progress)
        hashes[f"{partition:05}"] = memory_hash(replay.memory.digests())
        chains |= replay.chains
    return fold, decisions, {"F": combined(hashes), "D": combined(chains)}, records_read


def read_instruments(settings: Settings, codec: Codec) -> dict[tuple[str, int], InstrumentDefined]:
    """Every version of every instrument; of a version that was said twice, the last word."""
    found: dict[tuple[str, int], InstrumentDefined] = {}
    for record in records_until_end(settings, codec, [INSTRUMENTS]):
        if isinstance(record.event, InstrumentDefined):
            found[record.event.instrument_id, record.event.version] = record.event
    return found


def combined(hashes: Mapping[str, str]) -> str:
    """One hash of many, in the order of their names."""
    return sha256("\n".join(f"{name} {hashes[name]}" for name in sorted(hashes)).encode()).hexdigest()


def _replay_partition(
    settings: Settings, codec: Codec, partition: int, replay: DeskReplay, read: int, progress: Progress
) -> int:
    door = Door(settings.kafka, codec)
    place = (topic_name(ACCOUNT_EVENTS, settings.kafka), partition)
    for message in messages_until_end(settings, [place], {place: 0}):
        raw = message.value() or b""
        try:
            replay.take(door.message(message), raw)
        except (DecodeError, MisplacedRecord):
            pass  # not the desk's, which writes whole events or none: its fold leaves it out too
        except UnknownEvent as error:
            replay.unreadable(f"{ACCOUNT_EVENTS.name}/{partition}/{message.offset()}", error)
        read += 1
        if read % PROGRESS_EVERY == 0:
            progress(read)
    replay.finish(f"{ACCOUNT_EVENTS.name}/{partition}")
    return read
