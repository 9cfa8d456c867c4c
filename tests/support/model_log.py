"""A log in memory for tests that let anything happen in any order: topics, transactions, positions, and a plan of deaths.

It does what Kafka promises and nothing else: an append and the positions that go with it happen together or not at all,
and whoever starts again reads from the committed positions. No real broker can be killed at a thousand places a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

Place = tuple[str, int]
"""Topic and partition."""


class Died(BaseException):
    """The process was killed here: no handler of the code under test may catch it."""


class Fate(StrEnum):
    """What becomes of the next thing that could go wrong."""

    WELL = "well"
    ABORTED = "aborted"
    DIED_BEFORE = "died before"
    DIED_AFTER = "died after"


@dataclass(frozen=True, slots=True)
class ModelMessage:
    """A record as the client library hands it out."""

    place: Place
    at: int
    key_bytes: bytes
    value_bytes: bytes
    log_ms: int

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return self.key_bytes

    def value(self) -> bytes:
        return self.value_bytes

    def timestamp(self) -> tuple[int, int]:
        return 2, self.log_ms

    def error(self) -> None:
        return None


@dataclass(slots=True)
class ModelLog:
    """The broker. ``fates`` are used up one by one; when none is left all goes well."""

    records: dict[Place, list[ModelMessage]] = field(default_factory=dict)
    committed: dict[Place, tuple[int, str]] = field(default_factory=dict)
    fates: list[Fate] = field(default_factory=list)
    deaths: int = 0
    now_ms: int = 1_800_000_000_000

    def append(self, place: Place, key: bytes, value: bytes) -> int:
        """One record; its offset."""
        self.now_ms += 1
        found = self.records.setdefault(place, [])
        found.append(ModelMessage(place, len(found), key, value, self.now_ms))
        return len(found) - 1

    def commit(self, positions: Mapping[Place, tuple[int, str]]) -> None:
        """Positions with their metadata."""
        self.committed.update(positions)

    def position(self, place: Place) -> int:
        """The committed position; 0 where there is none."""
        return self.committed.get(place, (0, ""))[0]

    def fate(self) -> Fate:
        """The next one."""
        return self.fates.pop(0) if self.fates else Fate.WELL

    def die(self) -> None:
        """Count a death and raise it."""
        self.deaths += 1
        raise Died

    def until_end(self, places: Sequence[Place], start: Mapping[Place, int]) -> Iterator[ModelMessage]:
        """What stands in these places from ``start`` on."""
        for place in places:
            yield from self.records.get(place, [])[start.get(place, 0) :]


@dataclass(slots=True)
class Reader:
    """Hands out what stands behind positions, from one place at a time, as the ``turns`` say (place index, how many)."""

    log: ModelLog
    places: Sequence[Place]
    turns: Iterable[tuple[int, int]]
    positions: dict[Place, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turns = iter(self.turns)
        self.rewind()

    def rewind(self) -> None:
        """Back to the committed positions."""
        self.positions = {place: self.log.position(place) for place in self.places}

    def next(self, limit: int) -> list[ModelMessage]:
        """The next records; without turns left, everything that waits in the first place that has any."""
        waiting = [place for place in self.places if len(self.log.records.get(place, [])) > self.positions[place]]
        if not waiting:
            return []
        index, count = next(iter(self.turns), (0, limit))
        place = waiting[index % len(waiting)]
        start = self.positions[place]
        taken = self.log.records[place][start : start + min(count, limit)]
        self.positions[place] = start + len(taken)
        return taken

    @property
    def idle(self) -> bool:
        """Nothing is left to hand out."""
        return all(len(self.log.records.get(place, [])) <= self.positions[place] for place in self.places)
